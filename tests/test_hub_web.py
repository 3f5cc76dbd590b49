"""Downloads over http(s) with the real client, from a server with the habits of real ones.

In every case: the right file under its name, or the right message and exit code and no file.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from servers import Server, Toys, arrived, get, refused, remains, toy_checkpoint

from ilvrctl import paths

pytest_plugins = ("downloads",)
pytestmark = pytest.mark.usefixtures("in_a_hurry")


def test_a_file_comes_is_checked_and_is_there_the_next_time(server: Server, toys: Toys) -> None:
    path = toys.preset(server.url("toy.pt"))
    page = server.put("toy.pt", toys.body)
    arrived(get(), toys, path)
    again = get()
    assert again.code == 0 and "already here" in again.err and again.lines == [str(path)]
    assert len(page.asked) == 1


def test_a_connection_cut_twice_goes_on_where_it_stopped(server: Server, toys: Toys) -> None:
    path = toys.preset(server.url("toy.pt"))
    page = server.put("toy.pt", toys.body, cuts=[0.6, 0.8])
    arrived(get(), toys, path)
    starts = [asked.get("range") for asked in page.asked]
    assert starts == [None, *(f"bytes={int(share * len(toys.body))}-" for share in (0.6, 0.8))]
    assert all(asked.get("if-range") == page.etag for asked in page.asked[1:])


def test_a_cut_in_one_run_is_made_good_in_the_next(server: Server, toys: Toys) -> None:
    path = toys.preset(server.url("toy.pt"))
    page = server.put("toy.pt", toys.body, cuts=[0.6])
    refused(get("--retries", "0"), 1, "are kept, and the same command goes on")
    assert remains() == ["toy.pt.part", "toy.pt.part.json"]
    arrived(get(), toys, path)
    assert page.asked[-1]["range"] == f"bytes={int(0.6 * len(toys.body))}-"


def test_a_server_without_ranges_is_read_from_the_beginning(server: Server, toys: Toys) -> None:
    path = toys.preset(server.url("toy.pt"))
    server.put("toy.pt", toys.body, cuts=[0.6], ranges=False)
    arrived(get(), toys, path)


@pytest.mark.parametrize("etag", [True, False])
def test_a_file_that_changed_in_between_is_not_pieced_together(
    server: Server, toys: Toys, etag: bool
) -> None:
    path = toys.preset(server.url("toy.pt"))
    server.put("toy.pt", toy_checkpoint(1) + b"longer", cuts=[0.6], etags=etag)
    refused(get("--retries", "0"), 1)
    server.put("toy.pt", toys.body, etags=etag)
    arrived(get(), toys, path)


def test_the_next_source_is_asked_when_one_does_not_have_it(server: Server, toys: Toys) -> None:
    path = toys.preset(server.url("gone.pt"), server.url("mirror.pt"))
    server.put("mirror.pt", toys.body)
    ran = get()
    arrived(ran, toys, path)
    assert "HTTP 404" in ran.err


def test_no_source_has_it(server: Server, toys: Toys) -> None:
    toys.preset(server.url("gone.pt"), server.url("gone-too.pt"))
    refused(get(), 1, "none of the 2 sources", "HTTP 404", "--file PATH")


@pytest.mark.parametrize("fact", ["sha256", "md5"])
def test_a_wrong_hash_is_refused_and_the_next_source_asked(server: Server, toys: Toys, fact: str) -> None:
    right = hashlib.new(fact, toys.body).hexdigest()
    path = toys.preset(server.url("bad.pt"), **{fact: right})
    server.put("bad.pt", toy_checkpoint(1))
    refused(get(), 3, f"its {fact} is", "not the one that was published")
    assert remains() == []
    toys.preset(server.url("bad.pt"), server.url("good.pt"), **{fact: right})
    server.put("good.pt", toys.body)
    arrived(get(), toys, path)


def test_what_was_first_seen_is_what_must_come_again(server: Server, toys: Toys) -> None:
    path = toys.preset(server.url("toy.pt"))
    server.put("toy.pt", toy_checkpoint(1))
    assert get().code == 0
    path.unlink()
    server.put("toy.pt", toys.body)
    ran = get()
    refused(ran, 3, "not the one first seen on", f"--sha256 {toys.sha256}")
    arrived(get("--sha256", toys.sha256), toys, path)
    path.unlink()
    arrived(get(), toys, path)


def test_a_file_of_another_size_is_refused_before_it_is_read(server: Server, toys: Toys) -> None:
    toys.preset(server.url("toy.pt"), size=len(toys.body))
    server.put("toy.pt", toys.body[:1000])
    refused(get(), 3, "a file of 1,000 bytes")
    assert remains() == []


def test_a_file_that_is_too_small_and_whose_size_was_not_announced(server: Server, toys: Toys) -> None:
    toys.preset(server.url("toy.pt"), size=len(toys.body))
    server.put("toy.pt", toys.body[:-100], length=False)
    refused(get(), 3, "bytes came from")


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (b"<html><title>Sign in</title></html>", "text/html; charset=utf-8", "a web page"),
        (b"<!DOCTYPE html><html>quota</html>", "application/octet-stream", "a web page"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 374400000\n",
            "text/plain",
            "Git LFS",
        ),
        (b"", "application/octet-stream", "an empty file"),
        (b'{"error": "rate limited"}', "application/json", "a JSON file"),
    ],
)
def test_something_else_comes_with_a_friendly_status(
    server: Server, toys: Toys, body: bytes, kind: str, words: str
) -> None:
    toys.preset(server.url("toy.pt"))
    server.put("toy.pt", body, kind=kind)
    refused(get(), 3, words)
    assert remains() == []


def test_a_truncated_checkpoint_is_refused(server: Server, toys: Toys) -> None:
    toys.preset(server.url("toy.pt"))
    server.put("toy.pt", toys.body[:-5000])
    refused(get(), 3, "cut off")


def test_a_network_of_another_kind_is_refused(server: Server, toys: Toys) -> None:
    toys.preset(server.url("toy.pt"), format="pesser-ddim")
    server.put("toy.pt", toys.body)
    refused(get(), 3, "ADM U-Net", "pesser-ddim")


def test_redirects_are_followed_and_circles_left(server: Server, toys: Toys) -> None:
    path = toys.preset(server.url("a"), server.url("ok"))
    server.put("a", status=302, headers={"Location": "/b"})
    server.put("b", status=302, headers={"Location": "/a"})
    server.put("ok", status=307, headers={"Location": "/toy.pt"})
    server.put("toy.pt", toys.body, cuts=[0.6])
    ran = get()
    arrived(ran, toys, path)
    assert "in circles" in ran.err


def test_a_trickle_is_given_up(server: Server, toys: Toys) -> None:
    toys.preset(server.url("toy.pt"))
    server.put("toy.pt", toys.body, rate=50)
    refused(get("--timeout", "0.4", "--retries", "0"), 1, "too slow")


def test_a_silent_server_is_given_up(server: Server, toys: Toys) -> None:
    toys.preset(server.url("toy.pt"))
    server.put("toy.pt", toys.body, stall=0.5)
    refused(get("--timeout", "0.4", "--retries", "0"), 1, "ended after", "timed out")


def test_a_busy_server_is_asked_again(server: Server, toys: Toys) -> None:
    path = toys.preset(server.url("toy.pt"))
    server.put("toy.pt", toys.body, busy=2)
    ran = get()
    arrived(ran, toys, path)
    assert "busy (HTTP 503)" in ran.err


def test_nobody_listens(toys: Toys) -> None:
    toys.preset("http://127.0.0.1:9/toy.pt")
    refused(get(), 1, "cannot reach 127.0.0.1:9")


def test_bytes_that_all_came_before_a_crash_are_only_checked(server: Server, toys: Toys) -> None:
    path = toys.preset(server.url("toy.pt"))
    page = server.put("toy.pt", toys.body, cuts=[0.999999])
    refused(get("--retries", "0"), 1)
    (paths.weights_dir() / "toy.pt.part").write_bytes(toys.body)
    arrived(get(), toys, path)
    assert len(page.asked) == 1


def test_more_bytes_than_the_server_has_begin_again(server: Server, toys: Toys) -> None:
    path = toys.preset(server.url("toy.pt"))
    server.put("toy.pt", toys.body, cuts=[0.5])
    refused(get("--retries", "0"), 1)
    (paths.weights_dir() / "toy.pt.part").write_bytes(toys.body + b"more")
    arrived(get(), toys, path)


def test_a_full_disk_is_told_before_anything_comes(
    server: Server, toys: Toys, monkeypatch: pytest.MonkeyPatch
) -> None:
    toys.preset(server.url("toy.pt"), server.url("toy.pt?mirror"))
    page = server.put("toy.pt", toys.body)
    usage = shutil.disk_usage(paths.weights_dir().parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=9 << 20))
    refused(get(), 1, "are free in", "ILVRCTL_WEIGHTS")
    assert len(page.asked) == 1


def test_a_proxy_of_the_environment_is_used(server: Server, toys: Toys) -> None:
    path = toys.preset("http://weights.example/toy.pt")
    server.put("weights.example/toy.pt", toys.body)
    arrived(get(HTTP_PROXY=server.base), toys, path)


def test_cookies_are_sent_and_their_file_is_left_alone(server: Server, toys: Toys, tmp_path: Path) -> None:
    path = toys.preset(server.url("toy.pt"))
    page = server.put("toy.pt", toys.body)
    cookies = tmp_path / "cookies.txt"
    text = "# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\tsecret\n"
    cookies.write_text(text)
    arrived(get("--cookies", cookies), toys, path)
    assert page.asked[0]["cookie"] == "session=secret"
    assert cookies.read_text() == text


def test_a_file_without_cookies_is_a_usage_error(toys: Toys, tmp_path: Path) -> None:
    toys.preset("http://127.0.0.1:9/toy.pt")
    (tmp_path / "cookies.txt").write_text("{}")
    refused(get("--cookies", tmp_path / "cookies.txt"), 2, "Netscape")


def test_offline_asks_nobody(server: Server, toys: Toys) -> None:
    toys.preset(server.url("toy.pt"))
    refused(get("--offline"), 1, "--offline forbids")
    assert server.log == []


def test_a_model_of_several_files_takes_the_first_choice_that_is_there(server: Server, toys: Toys) -> None:
    toys.preset(
        server.url("repo"), file="folder", files=["config.json", "a.safetensors|a.bin"], format="other"
    )
    server.put("repo/config.json", b'{"sample_size": 64}')
    server.put("repo/a.bin", toys.body)
    ran = get()
    assert ran.code == 0, ran.err
    assert remains() == ["folder/a.bin", "folder/config.json"]
    assert ran.lines == [str(paths.weights_dir() / "folder" / name) for name in ("config.json", "a.bin")]
    assert get().code == 0
