"""Names of models on Hugging Face, ``hf:user/repo[@revision][/file]``, and which files of a repository they mean."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from ilvrctl.errors import UsageError, WeightsError, did_you_mean
from ilvrctl.files import inside
from ilvrctl.presets import WEIGHT_SUFFIXES
from ilvrctl.text import visible

_FORM = re.compile(
    r"hf:(?://)?(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
    r"(?:@(?P<revision>refs/(?:pr|convert)/[\w.-]+|\w[\w.-]*))?(?:/(?P<file>.+))?",
    re.ASCII,
)
_STEM = "diffusion_pytorch_model"
WEIGHTS = (f"{_STEM}.safetensors", f"{_STEM}.bin", f"{_STEM}.fp16.safetensors", f"{_STEM}.fp16.bin")
"""Weights of a network that diffusers saved, first choice first."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHOWN = 8


@dataclass(frozen=True)
class Address:
    """A repository, a ``revision`` (branch, tag or commit; "" for main), and a file or folder in it ("" for what there
    is to be used).
    """

    repo: str
    revision: str = ""
    file: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address that is written so. UsageError for another form, and for files outside of the repository."""
        found = _FORM.fullmatch(text)
        if found is None:
            raise UsageError(
                f"{visible(text)!r} names nothing on Hugging Face",
                hint="hf:user/repo, hf:user/repo@revision/file",
            )
        file = (found["file"] or "").rstrip("/")
        if file:
            inside(Path(), file, f"the file of {visible(text)}", "the repository")
        return cls(found["repo"], found["revision"] or "", file)

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"hf:{self.repo}{revision}" + (f"/{self.file}" if self.file else "")

    @property
    def command(self) -> str:
        """The command that fetches it, whatever a stranger called it."""
        return f"ilvrctl download {shlex.quote(str(self))}"

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit, which never changes."""
        return bool(_COMMIT.fullmatch(self.revision))

    def at(self, commit: str, file: str | None = None) -> Address:
        """The same at a commit."""
        return replace(self, revision=commit, file=self.file if file is None else file)


def is_address(text: str) -> bool:
    """Whether it names something on Hugging Face."""
    return text.startswith("hf:")


def choose(files: Collection[str], address: Address) -> tuple[str, tuple[str, ...]]:
    """What an address means in a repository of these ``files``: the path of a file or folder, and all that it needs.

    A folder of diffusers is its U-Nets, each with one file of weights, and what tells of them. UsageError where nothing
    tells which file is meant, or there is none of that name; WeightsError for a pipeline that works on codes.
    """
    if address.file in files:
        return address.file, (address.file,)
    start = f"{address.file}/" if address.file else ""
    within = [name for name in files if name.startswith(start)]
    if not within:
        raise UsageError(f"{address} is not there", hint=_near(address, files))
    if networks := _networks(within, start):
        if f"{start}vae/config.json" in within:
            raise WeightsError(
                f"{address} is a pipeline of latent diffusion, whose network makes no pictures but codes of them",
                "give a model of pictures, as those of DDPMPipeline are",
            )
        telling = (name for name in files if name.endswith(("scheduler_config.json", "model_index.json")))
        return address.file, (*telling, *networks)
    weights = [name for name in within if PurePosixPath(name).suffix in WEIGHT_SUFFIXES]
    if len(weights) == 1:
        return weights[0], (weights[0],)
    if not weights:
        raise UsageError(f"{address} holds no weights that are known here", hint=_near(address, files))
    raise UsageError(
        f"{address} has {len(weights)} files of weights", hint=f"name one: {_named(address, weights)}"
    )


def _networks(names: Collection[str], start: str) -> list[str]:
    """Configuration and weights of the U-Nets that diffusers saved in the folder ``start``, or in those below it."""
    found = []
    for folder in sorted({name.rpartition("/")[0] for name in names}):
        below = f"{folder}/" if folder else ""
        near = below == start or re.fullmatch(re.escape(start) + "unet[^/]*/", below)
        weights = next((below + name for name in WEIGHTS if below + name in names), None)
        if near and weights is not None and f"{below}config.json" in names:
            found += [f"{below}config.json", weights]
    return found


def holds_network(folder: Path) -> bool:
    """Whether a folder has what :func:`choose` takes of a folder of diffusers."""
    places = (folder, *folder.glob("unet*"))
    return any(
        (place / "config.json").is_file() and any((place / name).is_file() for name in WEIGHTS)
        for place in places
    )


def _named(address: Address, names: Collection[str]) -> str:
    shown = [visible(str(replace(address, file=name))) for name in sorted(names)[:_SHOWN]]
    return ", ".join(shown) + (f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _near(address: Address, files: Collection[str]) -> str | None:
    """The nearest name, or which files of weights there are."""
    weights = [name for name in files if PurePosixPath(name).suffix in WEIGHT_SUFFIXES]
    close = did_you_mean(address.file, files) if address.file else None
    return close or (f"it has {_named(address, weights)}" if weights else None)
