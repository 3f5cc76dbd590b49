"""A preset file that cannot be used is listed with its reason, and hurts no other."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import CUP, PATIENCE, command, environment, ilvrctl, json_lines
from servers import Server, Toys, get, refused, remains

from ilvrctl import paths
from ilvrctl.errors import ConfigError, UsageError, WeightsError
from ilvrctl.new_presets import write_preset
from ilvrctl.plans.digest import weights_sha256
from ilvrctl.presets import (
    Kind,
    ModelPreset,
    broken_presets,
    find_method,
    find_model,
    find_target,
    load_methods,
    load_models,
    load_targets,
    require_same,
    require_weights,
)

pytest_plugins = ("downloads",)
pytestmark = pytest.mark.usefixtures("in_a_hurry")

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)


def text(content: str | bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode())


WAYS: dict[str, tuple[Callable[[Path], object], str]] = {
    "another language": (text("{not yaml: ["), "not valid YAML"),
    "a list": (text("- a\n"), "must hold a mapping"),
    "an unknown key": (text("titel: x\n"), "unknown key 'titel'"),
    "a wrong value": (text("title: [1]\n"), "title must be text"),
    "a key twice": (text("title: a\ntitle: b\n"), "given twice"),
    "another name": (text("name: ../other\n"), "the name of a preset is that of its file"),
    "a bomb of aliases": (text(BOMB), "aliases are not supported"),
    "a circle": (text("notes: &a [*a]\n"), "aliases are not supported"),
    "a deep nest": (text("notes: " + "[" * 100_000), "not valid YAML"),
    "a nest of blocks": (text("\n".join(f"{' ' * n}a:" for n in range(200))), "nested too deeply"),
    "code": (text("title: !!python/object/apply:os.system [true]\n"), "not valid YAML"),
    "control characters": (text("title: \x1b[2J\n"), "not valid YAML"),
    "a binary file": (text(bytes(range(256)) * 10), "cannot read"),
    "a Latin-1 text": (text(b"title: caf\xe9\n"), "cannot read"),
    "UTF-16 without a mark": (text("title: x\n".encode("utf-16-le")), "cannot read"),
    "a large file": (text("# x\n" * 500_000), "larger than"),
    "a folder": (Path.mkdir, "Is a directory"),
    "a pipe": (os.mkfifo, "no ordinary file"),
    "a link to /dev/zero": (lambda path: path.symlink_to("/dev/zero"), "no ordinary file"),
    "a link to nothing": (lambda path: path.symlink_to("nothing"), "No such file"),
    "a link to itself": (lambda path: path.symlink_to(path), "symbolic links"),
}
KINDS: tuple[Kind, ...] = ("models", "targets", "methods")
SOUND = {name: load() for name, load in zip(KINDS, (load_models, load_targets, load_methods), strict=True)}
FIND = {"models": find_model, "targets": find_target, "methods": find_method}


def spoil(kind: str, way: str, name: str = "bad") -> Path:
    path = paths.config_dir() / kind / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    WAYS[way][0](path)
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
def test_a_broken_file_fails_alone_with_its_reason(kind: Kind, way: str) -> None:
    path = spoil(kind, way)
    start = time.process_time()
    assert {
        name: load() for name, load in zip(KINDS, (load_models, load_targets, load_methods), strict=True)
    } == SOUND
    (bad,) = broken_presets()
    assert (bad.kind, bad.name, bad.path) == (kind, "bad", path)
    assert WAYS[way][1] in bad.error.message and bad.error.message.isprintable()
    with pytest.raises(ConfigError) as alone:
        FIND[kind]("bad")
    assert alone.value.message == bad.error.message
    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    "way", ["an unknown key", "a folder", "a pipe", "a bomb of aliases", "control characters"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_every_command_goes_on_and_names_it(kind: Kind, way: str) -> None:
    path = spoil(kind, way)
    reason = WAYS[way][1]
    listed = ilvrctl("presets")
    assert listed.code == 0 and len(listed.lines) == len(load_targets()) + len(load_methods())
    assert f"warning: {path} is broken: " in listed.err and reason in listed.err
    (row,) = [row for row in json_lines(ilvrctl("presets", "--json")) if row["kind"] == "broken"]
    assert row["name"] == "bad" and reason in row["error"]
    models = ilvrctl("download", "--list")
    assert models.code == 0
    assert (kind == "models") == any("bad" in line.split() and reason in line for line in models.lines)
    facts = json_lines(ilvrctl("doctor", "--json"))[0]
    assert any(str(path) in line for line in facts["broken_presets"])
    for name in ("dogs", "faces"):  # an alias is looked for in all targets
        assert ilvrctl("download", name, "--dry-run").code == 0
    alone = ilvrctl("download", "bad", "--dry-run")
    assert alone.code == 2 and (reason in alone.err or kind == "methods")
    for ran in (listed, models, alone):
        assert "\x1b" not in ran.err and "Traceback" not in ran.err


def test_a_target_whose_model_is_broken_is_listed_as_such() -> None:
    spoil("models", "an unknown key")
    (paths.config_dir() / "targets").mkdir()
    (paths.config_dir() / "targets" / "mine.yaml").write_text("title: mine\nmodel: bad\n")
    (paths.config_dir() / "targets" / "lost.yaml").write_text("title: lost\nmodel: nobody\n")
    (paths.config_dir() / "targets" / "odd.yaml").write_text("title: odd\nmodel: cd_bedroom256_l2\n")
    lines = {line.split()[0]: line for line in ilvrctl("presets").lines}
    assert "unknown key 'titel'" in lines["mine"]
    assert "unknown model 'nobody'" in lines["lost"]
    assert "a consistency network" in lines["odd"]


@pytest.mark.parametrize(
    "way", ["a binary file", "a folder", "a pipe", "a link to /dev/zero", "a large file"]
)
def test_showing_what_is_no_text_is_one_line(way: str) -> None:
    spoil("targets", way)
    ran = ilvrctl("presets", "show", "bad")
    assert ran.code in (1, 2) and ran.out == b""
    assert ran.err.startswith("error: cannot read ") and len(ran.err.splitlines()) == 1


def test_showing_a_broken_preset_shows_what_is_wrong_and_does_nothing() -> None:
    spoil("targets", "control characters")
    assert ilvrctl("presets", "show", "bad").out == b"title: \\x1b[2J\n"
    ran = ilvrctl("presets", "show", "nosuchpreset")
    assert ran.code == 2 and len(ran.err) < 300


def test_a_link_to_dev_zero_takes_no_memory() -> None:
    spoil("models", "a link to /dev/zero")
    limit = 1 << 30
    done = subprocess.run(
        command("download", "--list"),
        env=environment(),
        capture_output=True,
        timeout=PATIENCE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert done.returncode == 0 and b"no ordinary file" in done.stdout, done.stderr


@pytest.mark.parametrize("coding", ["utf-8-sig", "utf-16", "utf-32"])
def test_presets_with_a_byte_order_mark_are_read(coding: str) -> None:
    path = paths.config_dir() / "targets" / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_bytes("title: café\nmodel: emoji3d-64\n".encode(coding))
    assert find_target("mine")[0].title == "café"
    assert broken_presets() == []


@pytest.mark.parametrize("name", ["-x", "a b", "x\x1b[2J", ".hidden", "x.", "a" * 120, "x\ny"])
def test_a_file_whose_name_no_preset_can_have(name: str) -> None:
    (paths.config_dir() / "targets").mkdir(parents=True)
    (paths.config_dir() / "targets" / f"{name}.yaml").write_text("model: emoji3d-64\n")
    assert load_targets() == SOUND["targets"]
    (bad,) = broken_presets()
    assert "cannot be the name of a preset" in bad.error.message and bad.error.message.isprintable()
    with pytest.raises(UsageError, match="cannot be a name"):
        write_preset("targets", name, {"model": "emoji3d-64"})


def test_a_preset_that_is_written_is_read_back() -> None:
    path = write_preset(
        "models", "mine+1", {"title": "à: b", "file": "x.pt", "image_size": 64}, {"image_size": "a guess"}
    )
    assert "image_size: 64  # a guess\n" in path.read_text(encoding="utf-8")
    assert find_model("mine+1") == ModelPreset("mine+1", "à: b", file="x.pt", image_size=64)
    for name in ("con", "a/b", "../x", ""):
        with pytest.raises(UsageError, match=r"cannot be a name|must be a name"):
            write_preset("models", name, {})


OUTSIDE = (
    {"files": ["../../x.json"]},
    {"files": ["a.json", "../x.json|b.json"]},
    {"files": ["/tmp/x.json"]},
    {"files": ["a/../../../x.json"]},
    {"files": ["..\\x.json"]},
    {"files": ["C:x.json"]},
    {"files": ["x\n.json"]},
    {"files": [""]},
    {"file": "..", "files": ["x.json"]},
    {"file": "../folder", "files": ["x.json"]},
    {"file": "a/../../folder", "files": ["x.json"]},
    {"file": "../x.pt"},
    {"file": "../x.pt", "bundled": True},
    {"file": "link/x.pt"},
    {"file": "link", "files": ["x.json"]},
)


@pytest.mark.parametrize("facts", OUTSIDE, ids=str)
def test_nothing_of_a_preset_leads_out_of_the_weights_folder(server: Server, toys: Toys, facts: dict) -> None:
    weights = paths.weights_dir()
    weights.mkdir(parents=True)
    (weights / "link").symlink_to("..")
    before = sorted(weights.parent.rglob("*"))
    toys.preset(server.url("repo"), **{"file": "folder", "format": "other", **facts})
    server.pages.update({f"/repo{tail}": server.put("x", b"{}") for tail in ("", "/x.json", "/../../x.json")})
    for words in ((), ("--overwrite",), ("--dry-run",), ("--verify",), ("--file", str(CUP))):
        ran = get(*words)
        assert ran.code in (1, 2, 3) or (ran.lines == [] and words == ("--dry-run",)), (words, ran)
        assert "Traceback" not in ran.err
    known = {
        path
        for path in weights.parent.rglob("*")
        if "config" not in path.parts and ".locks" not in path.parts
    }
    assert known - set(before) == set()
    assert remains() == [] and server.log == []
    listed = ilvrctl("download", "--list")
    assert listed.code == 0 and any(line.split()[0] == "toy" for line in listed.lines)
    assert not find_model("toy").installed()


@pytest.mark.parametrize("file", ["../x.pt", "folder/../../x.pt"])
def test_weights_are_not_read_from_outside(toys: Toys, file: str) -> None:
    path = toys.preset(file=file)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(toys.body)
    with pytest.raises(ConfigError, match="inside the weights folder"):
        require_weights(find_model("toy"), "toy")


def test_what_a_preset_calls_unsupported_is_not_run(toys: Toys) -> None:
    toys.preset(unsupported="it is upside down").parent.mkdir(parents=True)
    (paths.weights_dir() / "toy.pt").write_bytes(toys.body)
    with pytest.raises(WeightsError, match="'toy' cannot be used: it is upside down"):
        require_weights(find_model("toy"), "toy")
    (line,) = [line for line in ilvrctl("download", "--list").lines if line.startswith("toy ")]
    assert "unusable" in line


def test_a_file_that_was_replaced_under_a_preset_is_noticed(toys: Toys) -> None:
    path = toys.preset(sha256=toys.sha256)
    path.parent.mkdir(parents=True)
    path.write_bytes(toys.body)
    preset = find_model("toy")
    require_same(preset, path, weights_sha256(path))
    require_same(ModelPreset("free"), path, weights_sha256(path))
    path.write_bytes(toys.body + b" ")
    with pytest.raises(WeightsError, match="is not the file that the preset toy was made for") as replaced:
        require_same(preset, path, weights_sha256(path))
    assert replaced.value.exit_code == 3 and replaced.value.hint is not None


def test_bundled_weights_that_are_missing_are_told() -> None:
    with pytest.raises(WeightsError, match="comes with ilvrctl") as missing:
        require_weights(ModelPreset("gone", file="gone.pt", bundled=True), "gone")
    assert missing.value.hint == "install ilvrctl again"


def test_the_list_holds_in_eighty_columns_whatever_a_preset_says(toys: Toys) -> None:
    toys.preset(title="x" * 300, domain="\x85\u202e" * 40, licence="y" * 300)
    ran = ilvrctl("download", "--list")
    assert max(map(len, ran.lines)) <= 80
    assert "\u202e" not in ran.out.decode()
    assert all(len(line) <= 80 for line in ran.err.splitlines()[:1])


def homeless(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A process of a user without a home and without an entry among the users."""
    places = (
        "HOME",
        "ILVRCTL_CONFIG",
        "ILVRCTL_WEIGHTS",
        "ILVRCTL_CACHE",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
    )
    known = {key: value for key, value in environment().items() if key not in places}
    as_nobody = "import pwd\ndef nobody(_): raise KeyError\npwd.getpwuid = nobody\n"
    python, dash, code, *words = command(*args)
    return subprocess.run(
        [python, dash, as_nobody + code, *words],
        env={**known, **env},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd="/",
        check=False,
    )


def test_without_a_home_the_variables_are_enough() -> None:
    given = dict.fromkeys(("ILVRCTL_CONFIG", "ILVRCTL_WEIGHTS", "ILVRCTL_CACHE"), "/nowhere")
    ran = homeless("download", "--list", **given)
    assert ran.returncode == 0 and "Traceback" not in ran.stderr, ran.stderr
    for name in ("ILVRCTL_CONFIG", "ILVRCTL_WEIGHTS"):
        less = {key: value for key, value in given.items() if key != name}
        ran = homeless("download", "--list", **less)
        assert ran.returncode == 2, ran
        assert ran.stderr.splitlines() == [
            "error: the home folder of this user is not known",
            f"hint: name a folder in {name}",
        ]


def test_a_presets_source_that_is_hostile_is_told_in_one_line(toys: Toys) -> None:
    for source in ("https://[", "https://a.example/\x1b[2J", "http://a\nb", "ftp://x\u202e"):
        toys.preset(source)
        ran = get()
        refused(ran, 2, "is no source")
        assert "\x1b" not in ran.err and "\u202e" not in ran.err
