"""``hf:user/repo[@revision][/file]``: fetched from a server that speaks Hugging Face's language, kept, and used."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from commands import FOX, ilvrctl, json_lines, process
from hugging import FACTS, HuggingFace, Networks, real_environment
from huggingface_hub import constants, file_download

import ilvrctl as package
from ilvrctl.errors import IlvrctlError, UsageError, WeightsError
from ilvrctl.hub import limits
from ilvrctl.hub.address import Address, choose
from ilvrctl.hub.hugging_face import here
from ilvrctl.hub.threads import told
from ilvrctl.images.io import read_bytes
from ilvrctl.plans.named_weights import located, named_weights
from ilvrctl.plans.record import Recipe

pytest_plugins = ("downloads",)
SET = [word for name, value in FACTS.items() for word in ("--set", f"model.{name}={value}")]
RUN = ("--steps", "2", "--precision", "fp32", *SET)


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BACKOFF", 0.01)
    monkeypatch.setattr(file_download.time, "sleep", lambda _: None)


@pytest.mark.parametrize(
    ("text", "repo", "revision", "file"),
    [
        ("hf:me/net", "me/net", "", ""),
        ("hf://me/net", "me/net", "", ""),
        ("hf:me/net@v1.0", "me/net", "v1.0", ""),
        ("hf:me/net/unet/", "me/net", "", "unet"),
        ("hf:me/net@refs/pr/3/a/b.pt", "me/net", "refs/pr/3", "a/b.pt"),
    ],
)
def test_addresses(text: str, repo: str, revision: str, file: str) -> None:
    address = Address.parse(text)
    assert address == Address(repo, revision, file)
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "hf:",
        "hf:net",
        "hf:me/net@",
        "hf:../net",
        "hf:me/..",
        "hf:me/net/../x",
        "hf:me/net//x",
        "hf:me/a b",
        "hf:me/net/a\nb",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError):
        Address.parse(text)


def test_which_files_are_meant() -> None:
    unet = [
        "unet/config.json",
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.safetensors",
    ]
    pipeline = [*unet, "model_index.json", "scheduler/scheduler_config.json", "README.md", "images/a.png"]
    telling = {"model_index.json", "scheduler/scheduler_config.json"}
    path, files = choose(pipeline, Address("me/net"))
    assert path == "" and set(files) == telling | {unet[0], unet[2]}
    path, files = choose(pipeline, Address("me/net", "", "unet"))
    assert path == "unet" and set(files) == telling | {unet[0], unet[2]}
    assert choose(["config.json", "diffusion_pytorch_model.bin"], Address("me/net"))[0] == ""
    assert choose(["README.md", "a/ema.pt"], Address("me/net")) == ("a/ema.pt", ("a/ema.pt",))
    with pytest.raises(UsageError, match="2 files of weights") as two:
        choose(["a.pt", "b.pt"], Address("me/net", "v1"))
    assert two.value.hint == "name one: hf:me/net@v1/a.pt, hf:me/net@v1/b.pt"
    with pytest.raises(UsageError) as near:
        choose(["ema_0.9999.pt"], Address("me/net", "", "ema_0.999.pt"))
    assert "did you mean 'ema_0.9999.pt'" in str(near.value.hint)
    with pytest.raises(WeightsError, match="latent diffusion"):
        choose([*pipeline, "vae/config.json"], Address("me/net"))
    with pytest.raises(UsageError, match="no weights"):
        choose(["README.md"], Address("me/net"))


def test_a_file_is_fetched_proved_and_used(
    hugging_face: HuggingFace, networks: Networks, tmp_path: Path
) -> None:
    commit = hugging_face.put("me/net", {"ema.pt": networks.file, "README.md": b"hello"})
    ran = ilvrctl("download", "hf:me/net", "--json")
    done = {row["event"]: row for row in json_lines(ran)}
    assert ran.code == 0, ran.err
    path = Path(done["done"]["path"])
    assert path.read_bytes() == networks.file and path.parent.name == commit
    assert done["done"]["sha256"] == hashlib.sha256(networks.file).hexdigest()
    assert done["done"]["use"] == "ilvrctl translate PICTURES --weights hf:me/net"
    assert "licence of hf:me/net: apache-2.0" in ran.err or "apache-2.0" in done["note"]["message"]
    assert hugging_face.files_asked() == ["ema.pt"]
    hugging_face.asked.clear()
    used = ilvrctl("translate", FOX, "--weights", "hf:me/net", *RUN, "-o", tmp_path / "a.png")
    assert used.code == 0, used.err
    assert hugging_face.asked == []  # what is here needs no network
    recipe = Recipe.read(read_bytes(tmp_path / "a.png"), "a.png")
    assert recipe.model == f"hf:me/net@{commit}/ema.pt"
    assert recipe.weights_sha256 == done["done"]["sha256"]
    again = ilvrctl("translate", FOX, "--from-image", tmp_path / "a.png", "-o", tmp_path / "b.png")
    assert again.code == 0, again.err
    assert ilvrctl("download", "--verify", "hf:me/net").code == 0


@pytest.mark.slow
def test_a_folder_of_diffusers_is_fetched_by_the_run_that_names_it(
    hugging_face: HuggingFace, networks: Networks, tmp_path: Path
) -> None:
    hugging_face.put("me/net", {**networks.folder, "README.md": b"hello"})
    dry = ilvrctl("translate", FOX, "--weights", "hf:me/net", "--steps", "2", "--dry-run")
    assert dry.code == 3 and "ilvrctl download hf:me/net" in dry.err and hugging_face.asked == []
    ran = ilvrctl("translate", FOX, "--weights", "hf:me/net", "--steps", "2", "-o", tmp_path / "a.png")
    assert ran.code == 0, ran.err
    assert ran.lines == [str(tmp_path / "a.png")] and "licence of hf:me/net: apache-2.0" in ran.err
    assert set(hugging_face.files_asked()) == set(networks.folder)
    results = list(package.translate(FOX, weights="hf:me/net", steps=2, device="cpu", out=tmp_path / "a.png"))
    assert [result.state for result in results] == ["skipped"]
    assert package.download("hf:me/net").is_dir()


@pytest.mark.slow
def test_jobs_files_and_python_name_it_too(
    hugging_face: HuggingFace, networks: Networks, tmp_path: Path
) -> None:
    hugging_face.put("me/net", {"a.pt": networks.file, "b.pt": networks.file})
    jobs = tmp_path / "jobs.yaml"
    job = {
        "name": "x",
        "inputs": [str(FOX)],
        "weights": "hf:me/net/a.pt",
        "steps": 2,
        "model": FACTS,
    }
    jobs.write_text(json.dumps({"out": "out", "jobs": [job]}))
    ran = ilvrctl("batch", jobs)
    assert ran.code == 0, ran.err
    assert len(ran.lines) == 1 and hugging_face.files_asked() == ["a.pt"]
    with package.load("hf:me/net/b.pt", device="cpu", **FACTS) as model:
        assert model.translate([FOX], steps=2)[0].size == (32, 32)
    with pytest.raises(UsageError, match="2 files of weights"):
        package.download("hf:me/net")
    assert located("hf:me/net", tmp_path) == Path("hf:me/net")


def test_a_branch_moves_and_a_commit_does_not(hugging_face: HuggingFace, networks: Networks) -> None:
    first = hugging_face.put("me/net", {"ema.pt": networks.file})
    old = package.download("hf:me/net")
    second = hugging_face.put("me/net", {"ema.pt": networks.file, "README.md": b"2"})
    assert package.download(f"hf:me/net@{first}") == old
    new = package.download("hf:me/net")
    assert new.parent.name == second and new.resolve() == old.resolve()  # the same bytes are kept once
    assert ilvrctl("download", "hf:me/net", "--offline").lines == [str(new)]


def test_who_may_not_have_it_is_told_how(
    hugging_face: HuggingFace, networks: Networks, monkeypatch: Any
) -> None:
    hugging_face.put("me/gated", {"ema.pt": networks.file}, gated=True)
    hugging_face.put("me/private", {"ema.pt": networks.file}, token="hf_secret")
    hugging_face.put("me/net", {"ema.pt": networks.file})
    wanted = {
        "hf:me/gated": "accept them at",
        "hf:me/private": "HF_TOKEN",
        "hf:me/nosuch": "there is no me/nosuch",
        "hf:me/net@v9": "has no revision v9",
        "hf:me/net/eme.pt": "did you mean 'ema.pt'",
    }
    for address, words in wanted.items():
        ran = ilvrctl("download", address)
        assert ran.code in (1, 2) and words in ran.err and "Traceback" not in ran.err, ran.err
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert ilvrctl("download", "hf:me/private").code == 0


@pytest.mark.slow
def test_broken_lines_and_busy_servers_are_waited_for(hugging_face: HuggingFace, networks: Networks) -> None:
    hugging_face.put("me/net", {"ema.pt": networks.file}, cuts=[0.3, 0.6], busy=1)
    ran = ilvrctl("download", "hf:me/net")
    assert ran.code == 0, ran.err
    assert Path(ran.lines[0]).read_bytes() == networks.file


@pytest.mark.slow
def test_what_arrives_damaged_or_is_no_network_is_told(hugging_face: HuggingFace, networks: Networks) -> None:
    hugging_face.put("me/net", {"ema.pt": networks.file}, damaged=True)
    hugging_face.put("me/other", {"ema.pt": b"no network at all" * 10})
    damaged = ilvrctl("download", "hf:me/net")
    assert damaged.code == 3 and "its digest is" in damaged.err, damaged.err
    assert here(Address.parse("hf:me/net")) is None  # and is not used by the next run
    other = ilvrctl("download", "hf:me/other")
    assert other.code == 3 and "hf:me/other" in other.err, other.err


def test_offline_what_is_not_here_is_not_asked_for(
    hugging_face: HuggingFace, networks: Networks, monkeypatch: Any
) -> None:
    hugging_face.put("me/net", {"ema.pt": networks.file})
    assert "--offline forbids" in ilvrctl("download", "hf:me/net", "--offline").err
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    ran = ilvrctl("translate", FOX, "--weights", "hf:me/net", *RUN)
    assert ran.code == 1 and "HF_HUB_OFFLINE forbids" in ran.err, ran.err
    assert hugging_face.asked == []


@pytest.mark.slow
def test_a_record_of_a_stranger_has_nothing_fetched(
    hugging_face: HuggingFace, networks: Networks, tmp_path: Path, monkeypatch: Any
) -> None:
    commit = hugging_face.put("me/net", {"ema.pt": networks.file})
    assert ilvrctl("translate", FOX, "--weights", "hf:me/net", *RUN, "-o", tmp_path / "a.png").code == 0
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "another"))
    hugging_face.asked.clear()
    ran = ilvrctl("translate", FOX, "--from-image", tmp_path / "a.png", "-o", tmp_path / "b.png")
    assert ran.code == 3 and f"ilvrctl download hf:me/net@{commit}/ema.pt" in ran.err, ran.err
    assert hugging_face.asked == []


def test_a_hint_is_safe_to_paste_whatever_a_stranger_calls_a_file(hugging_face: HuggingFace) -> None:
    with pytest.raises(WeightsError) as refused:
        named_weights(Path("hf:me/net/$(touch x).pt"), stranger=True)
    assert refused.value.hint == "ilvrctl download 'hf:me/net/$(touch x).pt'"


def test_a_server_may_not_name_files_elsewhere(hugging_face: HuggingFace, networks: Networks) -> None:
    hugging_face.put("me/net", {"../../ema.pt": networks.file})
    ran = ilvrctl("download", "hf:me/net")
    assert ran.code == 2 and "must be a name inside the repository" in ran.err
    assert hugging_face.files_asked() == []


def test_without_the_extra_one_line_tells_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for words in (("download", "hf:me/net"), ("translate", FOX, "--weights", "hf:me/net")):
        ran = ilvrctl(*words)
        assert ran.code == 3 and "pip install 'ilvrctl[hf]'" in ran.err, ran.err


def test_options_that_are_not_for_it_are_refused() -> None:
    ran = ilvrctl("download", "hf:me/net", "--sha256", "0" * 64)
    assert ran.code == 2 and "not for hf:me/net" in ran.err


@pytest.mark.slow
def test_the_environment_of_the_library_counts(
    hugging_face: HuggingFace, networks: Networks, tmp_path: Path
) -> None:
    """HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE, as a person sets them."""
    hugging_face.put("me/net", {"ema.pt": networks.file}, token="hf_secret")
    env = real_environment(hugging_face, tmp_path / "home")
    ran = process("download", "hf:me/net", **{**env, "HF_TOKEN": "hf_secret"})
    assert ran.code == 0, ran.err
    assert Path(ran.lines[0]).is_relative_to(tmp_path / "home" / "hub")
    offline = process("download", "hf:me/net", **{**env, "HF_HUB_OFFLINE": "1"})
    assert offline.code == 0 and offline.lines == ran.lines, offline.err


def test_errors_are_ours() -> None:
    from ilvrctl.hub.hugging_face_errors import translated

    for error in (OSError(28, "No space left on device"), PermissionError(13, "no", "/x"), ValueError("odd")):
        assert isinstance(translated(error, Address("me/net")), IlvrctlError)


def test_work_in_a_thread_tells_how_far_it_is_and_ends_with_who_listens() -> None:
    ended = threading.Event()

    def work(tell: Callable[[int], None]) -> str:
        try:
            for _ in range(3):
                tell(2)
            while hold:
                tell(0)
        finally:
            ended.set()
        return "done"

    hold = False
    events, result = [], ""

    def listen() -> Generator[int, None, None]:
        nonlocal result
        result = yield from told(work, int)

    events = list(listen())
    assert result == "done" and events == sorted(events) and events[-1] == 6
    hold = True
    ended.clear()
    running = told(work, int)
    next(running)
    running.close()
    assert ended.wait(5)
    with pytest.raises(ZeroDivisionError):
        list(told(lambda tell: 1 // 0, int))
