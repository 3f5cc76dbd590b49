"""A picture as noise in a safetensors file, with its facts and the picture itself. No torch here.

Tensors: ``x`` (C, H, W) float32, the sample at the level of the first step; ``picture``, the bytes of a PNG, as the
network saw it; and of an encoder that finds noises ``deviations`` (steps, C, H, W) and ``std``, of the same size or
(steps, 1, 1, 1), both float32. ``__metadata__`` has under :data:`KEY` one JSON mapping: :class:`NoiseFacts`.

Whoever sends such a file may have written anything into it: every fact is checked, and none is followed anywhere.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ilvrctl.config import Layer, build
from ilvrctl.errors import ConfigError, InputError, WeightsError
from ilvrctl.files import make_folder, replacing
from ilvrctl.models.files.facts_header import read_notes
from ilvrctl.text import visible

KEY = "ilvrctl-noise"
SUFFIX = ".noise.safetensors"
_KINDS = {"x": "F32", "deviations": "F32", "std": "F32", "picture": "U8"}
_FULL = bytes((0x7F, 0xFF))


@dataclass(frozen=True)
class NoiseFacts:
    """How noise was found.

    ``picture`` and ``sha256``: name and digest of the file that the picture came from, ``sample`` its number.
    ``network`` and ``network_sha256``: name and digest of the weights that found it. ``schedule`` with ``T`` levels:
    of the chain that was walked; ``levels``: the levels t of its steps, the highest first, and ``alphas`` of these.
    ``noises``: whether those of the steps are there too.
    """

    picture: str
    sha256: str
    sample: int
    method: str
    network: str
    network_sha256: str
    schedule: str
    T: int
    levels: tuple[int, ...]
    alphas: tuple[float, ...]
    shape: tuple[int, int, int]
    noises: bool = False
    dtype: str = "float32"
    version: int = 1

    def mistake(self) -> str | None:
        """What of it cannot be, in words; None where all can."""
        falling = all(a > b for a, b in zip(self.levels, self.levels[1:], strict=False))
        if not (self.levels and falling and self.levels[-1] >= 0 and self.levels[0] < self.T <= 100_000):
            return "its levels go from below T down to 0"
        if len(self.alphas) != len(self.levels) or not all(0 <= alpha <= 1 for alpha in self.alphas):
            return "there is an alpha from 0 to 1 for each level"
        if (
            self.dtype != "float32"
            or self.shape[0] not in (1, 3, 4)
            or not all(1 <= n <= 1 << 14 for n in self.shape)
        ):
            return "noise is float32 of 1, 3 or 4 channels"
        return "samples count from 1" if self.sample < 1 else None


@dataclass(frozen=True)
class Array:
    """Numbers as bytes, float32 in the order of this machine's."""

    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True)
class Arrays:
    """The numbers: ``deviations`` and ``std`` are None where an encoder finds no noises."""

    x: Array
    deviations: Array | None = None
    std: Array | None = None


@dataclass(frozen=True)
class Noise:
    """A picture as noise; ``picture`` itself is a PNG."""

    facts: NoiseFacts
    picture: bytes
    arrays: Arrays

    def to_bytes(self) -> bytes:
        """It as a file: the header's length, the header, the numbers (the layout of safetensors)."""
        arrays = {name: one for name, one in vars(self.arrays).items() if one is not None}
        arrays["picture"] = Array((len(self.picture),), self.picture)
        facts = json.dumps(asdict(self.facts), ensure_ascii=False, sort_keys=True)
        header: dict[str, Any] = {"__metadata__": {KEY: facts}}
        end = 0
        for name, one in arrays.items():
            start, end = end, end + len(one.data)
            header[name] = {"dtype": _KINDS[name], "shape": list(one.shape), "data_offsets": [start, end]}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        return b"".join([len(text).to_bytes(8, "little"), text, *(one.data for one in arrays.values())])

    def save(self, path: str | Path) -> Path:
        """Write it to ``path``, all at once or not at all. OutputError when it cannot be written."""
        make_folder(Path(path).parent)
        with replacing(Path(path)) as part:
            part.write_bytes(self.to_bytes())
        return Path(path)


def noise_facts(path: Path) -> NoiseFacts:
    """The facts in the header of a file. InputError where it has none that can be."""
    try:
        return _facts(read_notes(path).get(KEY), str(path))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist", "check the path; relative ones start here") from error
    except WeightsError as error:
        raise _none(str(path), "it is no safetensors file") from error


def read_noise(data: bytes, name: str) -> Noise:
    """The noise in the bytes of a file called ``name``. InputError where something is not as it must be."""
    try:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length]) if length < len(data) else None
    except (ValueError, RecursionError) as error:
        raise _none(name, "it is no safetensors file, or damaged") from error
    if not isinstance(header, dict):
        raise _none(name, "it is no safetensors file")
    notes = header.pop("__metadata__", None)
    facts = _facts(notes.get(KEY) if isinstance(notes, dict) else None, name)
    numbers = memoryview(data)[8 + length :]
    arrays = {key: _array(key, told, numbers, name) for key, told in header.items()}
    if not {"x", "picture"} <= arrays.keys():
        raise _none(name, "it holds no x, or no picture")
    _check_shapes(facts, arrays, name)
    found = Arrays(arrays["x"], arrays.get("deviations"), arrays.get("std"))
    return Noise(facts, arrays["picture"].data, found)


def _facts(text: object, name: str) -> NoiseFacts:
    try:
        found = json.loads(text) if isinstance(text, str) else None
        if not isinstance(found, dict):
            raise _none(name, "its header tells nothing of noise")
        facts = build(NoiseFacts, Layer(found))
    except (ValueError, RecursionError, ConfigError) as error:
        raise _none(name, f"its facts cannot be read: {visible(str(error))[:200]}") from error
    if facts.version != 1:
        raise _none(name, f"its facts are of layout {facts.version}, and this ilvrctl knows 1")
    if (wrong := facts.mistake()) is not None:
        raise _none(name, f"its facts cannot be: {wrong}")
    return facts


def _array(key: str, told: Any, numbers: memoryview, name: str) -> Array:
    """The tensor that the header tells of under ``key``."""
    kind, shape, place = (
        told.get(k) if isinstance(told, dict) else None for k in ("dtype", "shape", "data_offsets")
    )
    if key not in _KINDS or kind != _KINDS[key]:
        raise _none(
            name, f"a tensor {visible(key)!r} of the kind {visible(str(kind))!r} does not belong there"
        )
    whole = all(isinstance(x, list) and all(type(n) is int and n >= 0 for n in x) for x in (shape, place))
    size = math.prod(shape) * (4 if kind == "F32" else 1) if whole and isinstance(shape, list) else -1
    if (
        not isinstance(place, list)
        or len(place) != 2
        or place[1] - place[0] != size
        or place[1] > len(numbers)
    ):
        raise _none(name, f"the numbers of its {key} are not all there")
    data = bytes(numbers[place[0] : place[1]])
    first = data[3::4] if kind == "F32" else b""
    if len(first.translate(None, _FULL)) < len(first):  # NaN, infinite, or above 1e38
        raise _none(name, f"its {key} holds numbers that are not finite")
    return Array(tuple(shape or ()), data)


def _check_shapes(facts: NoiseFacts, arrays: Mapping[str, Array], name: str) -> None:
    shape, steps = facts.shape, len(facts.levels)
    if arrays["x"].shape != shape:
        raise _none(name, f"its x is {_times(arrays['x'].shape)}, and its facts say {_times(shape)}")
    if not {"deviations": facts.noises, "std": facts.noises} == {
        k: k in arrays for k in ("deviations", "std")
    }:
        raise _none(name, "its facts, deviations and std do not go together")
    if not facts.noises:
        return
    if arrays["deviations"].shape != (steps, *shape) or arrays["std"].shape not in (
        (steps, *shape),
        (steps, 1, 1, 1),
    ):
        raise _none(name, f"its noises are not those of {steps} steps of {_times(shape)}")
    std = memoryview(arrays["std"].data).cast("f")
    size = math.prod(arrays["std"].shape[1:])
    if min(std[: (steps - 1) * size], default=1.0) <= 0:
        raise _none(name, "a standard deviation of its noises is not above 0")


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _none(name: str, why: str) -> InputError:
    return InputError(
        f"{visible(name)} is no noise that can be used: {why}",
        "ilvrctl translate ... --save-noise writes such files",
    )
