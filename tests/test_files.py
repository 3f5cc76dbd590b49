"""Files: held in their folder, read in bounds, written all or nothing by each writer alone."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from commands import environment, leftovers, tree
from hypothesis import given
from hypothesis import strategies as st

from ilvrctl.errors import ConfigError, InputError, OutputError
from ilvrctl.files import (
    Digests,
    inside,
    locked,
    make_folder,
    read_text,
    replacing,
    write_text,
)
from ilvrctl.text import visible

NASTY = (
    *("", ".", "..", "../x", "a/../../x", "a/..", "./x", "a//b", "a/", "/", "/etc/passwd", "//host/share/x"),
    *(
        "C:",
        "C:x",
        "C:\\x",
        "c:/x",
        "\\x",
        "..\\x",
        "a\\..\\x",
        "\\\\host\\share",
        "x:stream",
        "~\x00",
        "x\x00y",
    ),
    *("a\nb", "a\rb", "\x1b[2J", "\u202ex", "\ud800", "caf\udce9", "x.", "x ", " x", "a./b", "a /b", "..."),
    *("con", "CON", "nul.pt", "aux.tar.gz", "COM1", "lpt9.txt", "com¹", "con .txt", "a/prn/b", "conin$"),
    *("x" * 256, "é" * 130, "/".join(["x" * 200] * 10), "x" * 100_000),
)
FINE = (
    "x.pt",
    "a/b/c.safetensors",
    "café.pt",
    "日本/語.pt",
    ".hidden",
    "~x",
    "a b.pt",
    "console.pt",
    "..x",
    "x..pt",
)


@pytest.mark.parametrize("name", NASTY)
def test_a_name_that_might_lead_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"^toy: file must be a name inside its folder, and '") as refused:
        inside(tmp_path, name, "toy: file")
    assert "\n" not in refused.value.message and len(refused.value.message) < 700
    assert refused.value.message.isprintable()


@pytest.mark.parametrize("name", FINE)
def test_an_ordinary_name_is_a_path_in_the_folder(tmp_path: Path, name: str) -> None:
    assert inside(tmp_path, name, "x") == tmp_path / name


ODD = st.sampled_from(
    ["..", ".", "", "a", "b.pt", "con", "C:", "\\", "\0", "\n", "é", "link", "x" * 90, " ", "*", "?"]
)
NAMES = (
    st.text(max_size=30) | st.lists(ODD, max_size=6).map("/".join) | st.lists(ODD, max_size=6).map("".join)
)


@given(name=NAMES)
def test_whatever_the_name_nothing_outside_is_meant(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "held"
    folder.mkdir(exist_ok=True)
    if not (folder / "link").is_symlink():
        (folder / "link").symlink_to("..")
        (folder / "round").symlink_to("round")
    try:
        path = inside(folder, name, "x")
    except ConfigError:
        return
    assert Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(folder))
    assert os.path.normpath(path) == str(path) == f"{folder}/{name}"
    assert visible(name) == name and not set(name) & set("\\:\0")


def test_links_in_the_folder_may_not_lead_out_of_it(tmp_path: Path) -> None:
    folder, outside = tmp_path / "weights", tmp_path / "outside"
    (folder / "sub").mkdir(parents=True)
    outside.mkdir()
    (folder / "out").symlink_to(outside)
    (folder / "in").symlink_to("sub")
    (folder / "round").symlink_to("round")
    for name in (
        ("out/x.pt", "out/new/x.pt", "round/x.pt")
        if sys.version_info < (3, 0)
        else ("out/x.pt", "out/a/x.pt")
    ):
        with pytest.raises(ConfigError, match="a link to elsewhere"):
            inside(folder, name, "x")
    assert inside(folder, "in/x.pt", "x") == folder / "in/x.pt"
    (tmp_path / "linked").symlink_to(folder)  # the folder itself may be one
    assert inside(tmp_path / "linked", "sub/x.pt", "x") == tmp_path / "linked/sub/x.pt"


def test_two_who_write_the_same_file_do_not_share_a_part(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    with replacing(path) as first:
        first.write_bytes(b"first" * 1000)
        with replacing(path) as second:
            assert second != first
            second.write_bytes(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first" * 1000
    assert tree(tmp_path) == ["x.bin"]


def test_many_writers_leave_one_of_their_files_whole(tmp_path: Path) -> None:
    path, bodies = tmp_path / "x.bin", [bytes([n]) * 300_000 for n in range(8)]
    errors: list[BaseException] = []

    def write(n: int) -> None:
        try:
            for _ in range(20):
                with replacing(path) as part:
                    part.write_bytes(bodies[n])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if path.exists():
            assert path.read_bytes() in bodies
    assert errors == [] and path.read_bytes() in bodies
    assert tree(tmp_path) == ["x.bin"]


KILLED = """
import os, sys
from pathlib import Path
from ilvrctl.files import replacing
with replacing(Path(sys.argv[1])) as one, replacing(Path(sys.argv[1])) as two:
    one.write_bytes(b"torn " * 1000); two.write_bytes(b"torn")
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_writer_left_is_gone_after_the_next(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")
    subprocess.run([sys.executable, "-c", KILLED, str(path)], env=environment(), check=False)
    assert path.read_bytes() == b"old" and len(leftovers(tmp_path)) == 2
    with replacing(path) as part:
        assert part.stat().st_size == 0
        part.write_bytes(b"new")
    assert path.read_bytes() == b"new" and tree(tmp_path) == ["x.bin"]


def test_a_failed_block_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = write_text(tmp_path / "deep" / "x", "old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as part:
        part.write_bytes(b"half")
        raise KeyboardInterrupt
    with pytest.raises(OutputError, match="no space left"), replacing(path) as part:
        raise OSError(28, "No space left on device")
    assert path.read_text() == "old" and tree(path.parent) == ["x"]
    with pytest.raises(OutputError, match="its folder does not exist"), replacing(tmp_path / "no" / "x"):
        raise AssertionError
    with pytest.raises(OutputError, match="cannot make the folder"):
        make_folder(path / "below")


@pytest.mark.parametrize("letters", [240, 250, 255])
def test_parts_of_names_that_are_nearly_too_long(tmp_path: Path, letters: int) -> None:
    path = tmp_path / ("x" * letters)
    with replacing(path) as one, replacing(path) as two:
        one.write_bytes(b"1")
        two.write_bytes(b"2")
    assert path.read_bytes() == b"1" and tree(tmp_path) == [path.name]


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_texts_with_a_byte_order_mark_are_read(tmp_path: Path, coding: str) -> None:
    (tmp_path / "x").write_bytes("title: café\n日本\n".encode(coding))
    assert read_text(tmp_path / "x") == "title: café\n日本\n"


def test_what_is_no_small_text_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "large").write_bytes(b"x" * 1001)
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    (tmp_path / "wide").write_bytes("title: x".encode("utf-16-le"))
    cases = {
        "pipe": "it is no ordinary file",
        "zero": "it is no ordinary file",
        ".": "Is a directory",
        "none": "No such file",
        "round": "Too many levels",
        "large": "it is larger than 0.001 MB",
        "binary": "it is not a text",
        "wide": "UTF-16 without its mark",
    }
    start = time.process_time()
    for name, why in cases.items():
        with pytest.raises(InputError, match=f"^cannot read .*{why}"):
            read_text(tmp_path / name, limit=1000)
    assert time.process_time() - start < 2


def test_digests_are_remembered_until_the_file_changes(tmp_path: Path) -> None:
    path, cache = tmp_path / "x", tmp_path / "cache" / "sha256.json"
    path.write_bytes(b"one")
    read: list[Path] = []

    def reader(file: Path) -> bytes:
        read.append(file)
        return file.read_bytes()

    for _ in range(2):
        known = Digests(cache)
        assert known.of(path, reader) == hashlib.sha256(b"one").hexdigest() == known.of(path)
        known.keep()
    assert read == [path]
    times = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as cp -p and rsync -t leave it
    assert Digests(cache).of(path) == hashlib.sha256(b"two").hexdigest()
    cache.write_text("[not json")
    assert Digests(cache).of(path) == hashlib.sha256(b"two").hexdigest()
    cache.unlink()
    cache.mkdir()
    known = Digests(cache)
    assert known.of(path)
    known.keep()
    with pytest.raises(OSError, match="No such file"):
        known.of(tmp_path / "none")


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    inside_now, most = [], []

    def work() -> None:
        for _ in range(3):
            with locked(tmp_path / "locks" / "x.lock"):
                inside_now.append(1)
                most.append(len(inside_now))
                time.sleep(0.005)
                inside_now.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert set(most) == {1} and len(most) == 12
