"""``ilvrctl download`` as a person uses it: tables, names, own models, verification, JSON, a terminal."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import forked
import pytest
from commands import PATIENCE, environment, ilvrctl, json_lines, slowness, terminal
from servers import Server, Toys, arrived, get, refused, remains, rerouted, toy_checkpoint

from ilvrctl import paths
from ilvrctl.errors import WeightsError
from ilvrctl.presets import find_model, load_models, require_weights

pytest_plugins = ("downloads",)
pytestmark = pytest.mark.usefixtures("in_a_hurry")


def test_the_list_shows_every_model_and_what_is_here() -> None:
    ran = ilvrctl("download", "--list", "--json")
    rows = {row["name"]: row for row in json_lines(ran)}
    assert ran.code == 0 and set(rows) == set(load_models())
    assert rows["emoji3d-64"]["installed"] and not rows["ffhq_10m"]["installed"]
    assert rows["adm256_uncond"]["bytes"] == 2211383297
    assert rows["afhq_dog_4m"]["use"] == "non-commercial"
    table = ilvrctl("download", "--list")
    assert len(table.lines) == len(rows)
    assert any(line.split()[:3] == ["ffhq_10m", "~374", "MB"] for line in table.lines)


def test_the_list_loads_neither_torch_nor_the_network_and_is_quick() -> None:
    code = (
        "import sys; sys.argv = ['ilvrctl', 'download', '--list']\n"
        "from ilvrctl.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "bad = {'torch', 'requests', 'gdown', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'loaded {bad}' if bad else 0)\n"
    )
    seconds = []
    for _ in range(5):
        start = resource.getrusage(resource.RUSAGE_CHILDREN)
        ran = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=False
        )
        end = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime)
        assert ran.returncode == 0, ran.stderr
    assert (
        min(seconds) < 0.4 * slowness()
    )  # of the processor, so that other work on the machine does not count


@pytest.mark.parametrize("name", ["toy", "the-toy", "THE_TOY"])
def test_models_have_aliases(server: Server, toys: Toys, name: str) -> None:
    path = toys.preset(server.url("toy.pt"), aliases=["the-toy"])
    server.put("toy.pt", toys.body)
    arrived(ilvrctl("download", name), toys, path)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("dog", "afhq_dog_4m.pt"),
        ("afhq-dog", "afhq_dog_4m.pt"),
        ("ffhq", "ffhq_10m.pt"),
        ("faces", "ffhq_10m.pt"),
    ],
)
def test_targets_and_their_aliases_name_models_too(name: str, file: str) -> None:
    ran = ilvrctl("download", name, "--dry-run")
    assert ran.code == 0 and ran.lines == [str(paths.weights_dir() / file)]


def test_an_unknown_name_is_a_usage_error_with_the_closest() -> None:
    ran = ilvrctl("download", "ffqh")
    assert ran.code == 2 and "did you mean 'ffhq'?" in ran.err


def test_the_shipped_model_is_here() -> None:
    ran = ilvrctl("download", "emoji")
    assert ran.code == 0 and ran.lines == [str(find_model("emoji3d-64").path())]


def test_the_hint_about_missing_weights_is_a_command_that_works(server: Server, toys: Toys) -> None:
    toys.preset(server.url("toy.pt"))
    server.put("toy.pt", toys.body)
    with pytest.raises(WeightsError) as missing:
        require_weights(find_model("toy"), "toy")
    assert missing.value.hint is not None
    words = missing.value.hint.partition("   ")[0].split()
    assert ilvrctl(*words[1:]).code == 0
    assert require_weights(find_model("toy"), "toy").is_file()


def test_one_failure_does_not_stop_the_others(server: Server, toys: Toys) -> None:
    toys.preset(server.url("gone.pt"), name="gone")
    path = toys.preset(server.url("toy.pt"))
    server.put("toy.pt", toys.body)
    ran = ilvrctl("download", "gone", "toy")
    assert ran.code == 1 and ran.lines == [str(path)]


def test_json_lines_tell_what_happened(server: Server, toys: Toys) -> None:
    path = toys.preset(server.url("gone.pt"), server.url("toy.pt"))
    server.put("toy.pt", toys.body)
    events = json_lines(get("--json"))
    assert [event["event"] for event in events] == ["asking", "source", "asking", "done"]
    assert events[-1]["sha256"] == toys.sha256 and events[-1]["path"] == str(path)
    assert events[-1]["trust"] == "first seen"
    path.unlink()
    server.put("toy.pt", toy_checkpoint(1))
    assert json_lines(get("--json"))[-1]["exit_code"] == 3


def test_a_dry_run_asks_nobody(server: Server, toys: Toys) -> None:
    path = toys.preset(server.url("toy.pt"), size=len(toys.body))
    ran = get("--dry-run", "--json")
    assert json_lines(ran)[0] == {
        "event": "planned",
        "name": "toy",
        "path": str(path),
        "status": "to fetch",
        "bytes": len(toys.body),
        "bytes_kept": 0,
        "sources": [server.url("toy.pt")],
    }
    assert "to fetch: about 1 MB" in ran.err and server.log == [] and remains() == []


def test_the_licence_is_told_before_the_first_download_only(server: Server, toys: Toys) -> None:
    path = toys.preset(server.url("toy.pt"), use="non-commercial", licence="data CC BY-NC 4.0")
    server.put("toy.pt", toys.body)
    assert "licence of toy: non-commercial use only: data CC BY-NC 4.0" in get().err
    path.unlink()
    assert "licence" not in get().err


def test_quiet_is_quiet(server: Server, toys: Toys) -> None:
    path = toys.preset(server.url("toy.pt"))
    server.put("toy.pt", toys.body)
    ran = get("--quiet")
    arrived(ran, toys, path)
    assert ran.err == ""


def test_verify_finds_a_file_that_has_changed(server: Server, toys: Toys) -> None:
    path = toys.preset(server.url("toy.pt"))
    server.put("toy.pt", toys.body)
    assert get().code == 0
    good = ilvrctl("download", "--verify")
    assert good.code == 0 and good.lines == [str(path)] and "as first seen" in good.err
    path.write_bytes(toy_checkpoint(1))
    bad = ilvrctl("download", "--verify", "toy")
    assert bad.code == 3 and "download toy --overwrite" in bad.err and bad.lines == []
    assert get("--overwrite").code == 0
    assert ilvrctl("download", "--verify").code == 0


def test_verify_tells_a_model_that_is_not_here(toys: Toys) -> None:
    toys.preset("https://mirror.example/toy.pt")
    ran = ilvrctl("download", "--verify", "toy")
    assert ran.code == 1 and "hint: ilvrctl download toy" in ran.err


def test_a_truncated_installed_file_is_not_taken_for_good(server: Server, toys: Toys) -> None:
    path = toys.preset(server.url("toy.pt"))
    server.put("toy.pt", toys.body)
    assert get().code == 0
    path.write_bytes(toys.body[:1000])
    ran = get()
    assert ran.code == 3 and "has 1,000 bytes" in ran.err and "--overwrite" in ran.err


def test_a_file_that_one_has_is_copied_into_place(toys: Toys, tmp_path: Path) -> None:
    path = toys.preset()
    mine = tmp_path / "mine.pt"
    mine.write_bytes(toys.body)
    arrived(get("--file", mine), toys, path)
    assert mine.exists()


def test_a_file_that_one_has_is_moved_into_place(toys: Toys, tmp_path: Path) -> None:
    path = toys.preset(sha256=toys.sha256)
    mine = tmp_path / "mine.pt"
    mine.write_bytes(toys.body)
    arrived(get("--file", mine, "--move"), toys, path)
    assert not mine.exists()


@pytest.mark.parametrize("move", [(), ("--move",)])
def test_a_wrong_file_is_left_where_it_is(toys: Toys, tmp_path: Path, move: tuple[str, ...]) -> None:
    toys.preset(sha256=toys.sha256)
    mine = tmp_path / "mine.pt"
    mine.write_bytes(toy_checkpoint(1))
    refused(get("--file", mine, *move), 3, "not the one that was published")
    assert mine.read_bytes() == toy_checkpoint(1) and remains() == []


def test_a_missing_file_is_a_usage_error(toys: Toys, tmp_path: Path) -> None:
    toys.preset()
    refused(get("--file", tmp_path / "none.pt"), 2, "no such file")


def test_an_own_model_by_its_address_is_known_from_then_on(server: Server, toys: Toys) -> None:
    server.put("x/model.ckpt", toys.body)
    ran = ilvrctl(
        "download", "mine", "--url", server.url("x/model.ckpt?dl=1"), "--sha256", toys.sha256.upper()
    )
    arrived(ran, toys, paths.weights_dir() / "mine.ckpt")
    assert "--weights" in ran.err
    assert find_model("mine").installed()
    find_model("mine").path().unlink()
    assert ilvrctl("download", "mine").code == 0


def test_an_own_model_that_is_not_what_was_said_leaves_nothing(server: Server, toys: Toys) -> None:
    server.put("model.pt", toys.body)
    ran = ilvrctl("download", "mine", "--url", server.url("model.pt"), "--sha256", "0" * 64)
    assert ran.code == 3 and remains() == []
    assert "mine" not in load_models()


def test_another_address_for_a_known_model_must_bring_the_same_file(server: Server, toys: Toys) -> None:
    path = toys.preset("https://gone.example/toy.pt", sha256=toys.sha256)
    server.put("bad.pt", toy_checkpoint(1))
    refused(get("--url", server.url("bad.pt")), 3, "not the one that was published")
    server.put("good.pt", toys.body)
    arrived(get("--url", server.url("good.pt")), toys, path)


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("dog", "--url", "https://a.example/x", "--file", "x.pt"),
        ("dog", "cat", "--url", "https://a.example/x"),
        ("dog", "--move"),
        ("dog", "--sha256", "abc"),
        ("../mine", "--url", "https://a.example/x"),
        ("emoji", "--url", "https://a.example/x"),
        ("nobody-has-this", "--sha256", "0" * 64),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(args: tuple[str, ...]) -> None:
    ran = ilvrctl("download", *args)
    assert ran.code == 2 and ran.err.startswith("error: ")


def test_a_bad_source_in_an_own_preset_is_told(toys: Toys) -> None:
    toys.preset("ftp://a.example/x")
    refused(get(), 2, "is no source")


def test_bars_on_a_terminal_and_paths_after_them(server: Server, toys: Toys) -> None:
    path = toys.preset(server.url("toy[1].pt"))
    server.put("toy[1].pt", toys.body, rate=2_000_000)
    words = rerouted(server.base, "download", "toy")
    with terminal() as (slave, seen):
        env = environment(TERM="xterm-256color", COLUMNS="140", LINES="40")
        code = forked.run(
            words, stdout=slave, stderr=slave, env=env, check=False, timeout=PATIENCE
        ).returncode
    screen = b"".join(seen).decode()
    assert code == 0, screen
    assert "MB/s" in screen and "toy[1].pt" in screen
    assert screen.rstrip().endswith(f"{path}\r\nuse it: ilvrctl translate PICTURES --to toy")
