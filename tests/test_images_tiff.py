"""TIFF of every kind: what is read is right, and what cannot be is refused for the true reason; with the extra and
without it.
"""

from __future__ import annotations

import itertools
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import tifffile

from ilvrctl.errors import InputError
from ilvrctl.images import tiff
from ilvrctl.images.io import read_picture

WIDTH, HEIGHT = 37, 21
TYPES = [(bits, "u") for bits in (1, 2, 4, 6, 8, 10, 12, 14, 16, 24, 32, 64)]
TYPES += [(8, "i"), (16, "i"), (32, "i"), (16, "f"), (32, "f"), (64, "f")]
COLOURS = {
    "grey": ("minisblack", 1, None),
    "negative": ("miniswhite", 1, None),
    "grey+alpha": ("minisblack", 2, "unassalpha"),
    "rgb": ("rgb", 3, None),
    "rgb+alpha": ("rgb", 4, "unassalpha"),
    "rgb*alpha": ("rgb", 4, "assocalpha"),
    "cmyk": ("separated", 4, None),
}
STORED: dict[str, dict[str, Any]] = {
    "plain": {},
    "big-endian": {"byteorder": ">"},
    "deflate": {"compression": "zlib"},
    "big-endian lzw": {"byteorder": ">", "compression": "lzw"},
    "predictor": {"compression": "zlib", "predictor": True},
    "tiles": {"tile": (16, 16)},
    "packbits": {"compression": "packbits"},
    "bigtiff": {"bigtiff": True},
}


def shades(count: int) -> np.ndarray:
    """(H, W, count), 0 to 1, each channel another; the last of an even number, which may be alpha, never 0."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / np.array([[[HEIGHT - 1]], [[WIDTH - 1]]])
    channels = [x, y, (x + y) / 2, 0.25 + 0.75 * x * y]
    return np.stack([*channels[: count - 1], channels[3]] if count % 2 == 0 else channels[:count], axis=-1)


def numbers(part: np.ndarray, bits: int, kind: str) -> np.ndarray:
    """``part``, 0 to 1, as numbers of that type over their full range."""
    size = next(size for size in (8, 16, 32, 64) if bits <= size)
    if kind == "f":
        return part.astype(f"f{bits // 8}")
    whole = np.round(part.astype(np.longdouble) * (np.longdouble(2) ** bits - 1))
    low = 2 ** (bits - 1) if kind == "i" else 0
    return (whole - low).astype(f"{kind}{size // 8}")


def seen(part: np.ndarray, colour: str) -> np.ndarray:
    """What is seen of them on white, 0 to 255."""
    if colour == "negative":
        part = 1 - part
    if "alpha" in colour:
        alpha = part[..., -1:]
        part = (part[..., :-1] if "*" in colour else part[..., :-1] * alpha) + 1 - alpha
    if colour == "cmyk":
        part = (1 - part[..., :3]) * (1 - part[..., 3:])
    return np.broadcast_to(part * 255, (HEIGHT, WIDTH, 3))


def encoded(colour: str, bits: int, kind: str, stored: str, *, apart: bool) -> tuple[bytes, np.ndarray]:
    photometric, count, extra = COLOURS[colour]
    part = shades(count)
    if "*" in colour:
        part[..., :-1] *= part[..., -1:]
    array = numbers(part, bits, kind)
    if bits == 1:
        array = array.astype(bool)
    low = 2.0 ** (bits - 1) if kind == "i" else 0
    kept = part if kind == "f" else (array + np.longdouble(low)) / (np.longdouble(2) ** bits - 1)
    data = np.moveaxis(array, -1, 0) if apart else array
    content = BytesIO()
    tifffile.imwrite(
        content,
        data if count > 1 else array[..., 0],
        photometric=photometric,
        planarconfig=("separate" if apart else "contig") if count > 1 else None,
        extrasamples=[extra] if extra else None,
        bitspersample=bits if bits not in (1, 8, 16, 32, 64) else None,
        metadata=None,
        **STORED[stored],
    )
    return content.getvalue(), seen(kept, colour)


def walk() -> list[Any]:
    cases = []
    for colour, (bits, kind), stored, apart in itertools.product(COLOURS, TYPES, STORED, (False, True)):
        name = f"{colour} {bits}{kind} {stored}{' apart' if apart else ''}"
        several = COLOURS[colour][1] > 1
        if (apart and not several) or (kind == "i" and "alpha" in colour):
            continue
        if (bits == 1 and several and not apart) or (
            bits not in (1, 2, 4, 8, 16, 32, 64) and "big-endian" in stored
        ):
            continue  # tifffile writes what neither it nor libtiff reads again
        try:
            data, truth = encoded(colour, bits, kind, stored, apart=apart)
        except (ValueError, TypeError, NotImplementedError, RuntimeError, KeyError):
            continue  # a kind that tifffile does not write
        cases.append((name, data, truth))
    return cases


@pytest.fixture(scope="module")
def kinds() -> list[tuple[str, bytes, np.ndarray]]:
    return walk()


@pytest.mark.parametrize("extra", [True, False])
def test_every_kind_is_right_or_refused_for_the_extra(
    extra: bool, kinds: list[tuple[str, bytes, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not extra:
        monkeypatch.setattr(tiff, "can_read_all", lambda: False)
        for module in ("load", "flatten", "own"):
            monkeypatch.setattr(f"ilvrctl.images.{module}.can_read_all", lambda: False, raising=False)
    wrong, refused = {}, 0
    for name, data, truth in kinds:
        try:
            image = read_picture(data, "a.tif").image
        except InputError as error:
            if extra or "needs the extra 'tiff'" not in error.message or "ilvrctl[tiff]" not in error.hint:
                wrong[name] = error.message
            refused += 1
            continue
        difference = np.abs(np.asarray(image).astype(float) - truth).max()
        if difference > (2.1 if "*" in name or "cmyk" in name else 1.5 if "alpha" in name else 1.01):
            wrong[name] = difference
    assert not wrong
    assert len(kinds) > 500
    assert refused == 0 if extra else 0 < refused < len(kinds)
