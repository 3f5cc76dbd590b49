"""The manifest: what was written is read again, whatever happened to the last line or to the process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ilvrctl.errors import UsageError
from ilvrctl.plans import manifest
from ilvrctl.plans.manifest import MANIFEST, Entry, JobHead, ManifestWriter, is_written, read_manifest

ONE = Entry("cats", "a.jpg", 1, "cats/N=4/a.png", "done", "c0", "d0", settings={"N": 4}, seconds=0.5)
TWO = Entry("cats", "b.jpg", 1, "cats/N=4/b.png", "failed", "c0", error="b.jpg is empty", hint="copy it")
JOBS = {"cats": JobHead(items=2, to="dog", settings=({"N": 4},))}


def write(folder: Path, *entries: Entry, shard: tuple[int, int] = (1, 1)) -> None:
    with ManifestWriter(folder, shard) as writer:
        writer.begin(JOBS)
        writer.add(entries)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    write(tmp_path / "out", ONE, TWO)
    found = read_manifest(tmp_path / "out")
    assert list(found.entries) == [ONE.output, TWO.output]
    entry = found.entries[ONE.output]
    assert (entry.job, entry.input_sha256, entry.settings, entry.seconds) == ("cats", "d0", {"N": 4}, 0.5)
    assert entry.time.endswith("Z")
    assert found.entries[TWO.output].error == "b.jpg is empty"
    assert found.jobs["cats"].items == 2
    assert list(found.jobs["cats"].settings) == [{"N": 4}]


def test_no_manifest_is_an_empty_one(tmp_path: Path) -> None:
    assert read_manifest(tmp_path / "nope").entries == {}
    assert not is_written(tmp_path / "nope")


@pytest.mark.parametrize("cut", [1, 5, 60])
def test_a_torn_last_line_is_passed_by_and_cut_off_by_the_next_run(cut: int, tmp_path: Path) -> None:
    write(tmp_path, ONE, TWO)
    file = tmp_path / MANIFEST
    file.write_bytes(file.read_bytes()[:-cut])
    assert list(read_manifest(tmp_path).entries) == [ONE.output]
    write(tmp_path, TWO)
    for line in file.read_text().splitlines():
        json.loads(line)
    assert list(read_manifest(tmp_path).entries) == [ONE.output, TWO.output]


def test_lines_that_are_unknown_or_no_json_are_passed_by(tmp_path: Path) -> None:
    write(tmp_path, ONE)
    with (tmp_path / MANIFEST).open("ab") as file:
        file.write(b'not json\n[1]\n{"kind": "later"}\n{"kind": "item", "nonsense": 1}\n\xff\n')
    assert list(read_manifest(tmp_path).entries) == [ONE.output]


def test_of_several_lines_about_an_output_the_last_counts_whatever_file_it_is_in(tmp_path: Path) -> None:
    failed = Entry("cats", "a.jpg", 1, ONE.output, "failed", "c0", error="is empty")
    write(tmp_path, failed)
    write(tmp_path, ONE, shard=(2, 3))
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["manifest.2-of-3.jsonl", MANIFEST]
    assert read_manifest(tmp_path).entries[ONE.output].status == "done"
    write(tmp_path, failed)
    assert read_manifest(tmp_path).entries[ONE.output].status == "failed"


def test_a_clock_that_jumps_back_makes_no_old_line_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([f"2026-0{month}-01T00:00:00.000000Z" for month in (5, 5, 2, 2, 1, 1)])
    monkeypatch.setattr(manifest, "_now", lambda: next(times))
    failed = Entry("cats", "a.jpg", 1, ONE.output, "failed", "c0", error="is empty")
    for entry, head in ((failed, JobHead(1)), (ONE, JobHead(2)), (failed, JobHead(3))):
        with ManifestWriter(tmp_path) as writer:
            writer.begin({"cats": head})
            writer.add([entry])
        assert read_manifest(tmp_path).entries[ONE.output].status == entry.status
        assert read_manifest(tmp_path).jobs["cats"].items == head.items


def test_a_second_run_is_refused_while_the_first_writes(tmp_path: Path) -> None:
    with ManifestWriter(tmp_path):
        assert is_written(tmp_path)
        with pytest.raises(UsageError, match="another run is writing"), ManifestWriter(tmp_path):
            pass
        with ManifestWriter(tmp_path, (2, 2)):
            pass
    assert not is_written(tmp_path)
    write(tmp_path, ONE)


def test_names_that_are_no_text_keep_their_bytes(tmp_path: Path) -> None:
    odd = b"a\xff.jpg".decode("utf-8", "surrogateescape")
    write(tmp_path, Entry("cats", odd, 1, "new\nline.png", "done", "c0"))
    [entry] = read_manifest(tmp_path).entries.values()
    assert entry.output == "new\nline.png"
    assert entry.input == odd
