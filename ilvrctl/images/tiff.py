"""TIFF: which of its many kinds Pillow reads rightly, and the others by tifffile."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from typing import Any

from PIL import TiffImagePlugin

from ilvrctl.errors import InputError
from ilvrctl.images.deep import Deep, Model, full_range
from ilvrctl.images.kinds import install

MOST_PAGES = 100_000
_PLAIN_ALPHA = (2,)
_GREY_WHITE, _GREY, _RGB, _PALETTE, _MASK, _CMYK, _YCBCR = range(7)
_PILLOW_UNPACKS = {1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34925, 50000}
"""Compressions that Pillow's libtiff reads: none, CCITT, LZW, JPEG, Deflate, PackBits, LZMA, Zstandard."""
_LAB = {8: "Lab", 9: "ICC Lab", 10: "ITU Lab"}
_SENSOR = {32803, 34892}
_SUBFILE, _BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION = 254, 258, 259, 262, 274
_SAMPLES, _PLANAR, _SUBFOLDERS, _EXTRA, _FORMAT, _DEPTH, _DNG = 277, 284, 330, 338, 339, 32997, 50706

_VOLUME_HINT = "save the plane that you mean as a picture of its own"

Tags = Mapping[int, Any]
"""The tags of a page."""


def directory(data: bytes, offset: int | None = None) -> TiffImagePlugin.ImageFileDirectory_v2:
    """The tags at ``offset`` in a TIFF or BigTIFF, those of the first page where it is None.

    Raises nearly anything for damaged bytes: to be called inside :func:`~ilvrctl.images.decode.decoding`.
    """
    found = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if b"+" in data[2:4] else 8])
    file = BytesIO(data)
    file.seek(found.next if offset is None else offset)
    found.load(file)
    return found


def pages(data: bytes) -> list[tuple[int, Tags]]:
    """The pages, each with its number among all: without reduced copies and masks, unless there is nothing else."""
    every = list(enumerate(_directories(data)))
    whole = [(n, tags) for n, tags in every if not (n and _first(tags, _SUBFILE, 0) & 5)]
    return whole or every


def _directories(data: bytes) -> Iterator[Tags]:
    offset = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if b"+" in data[2:4] else 8]).next
    seen = {0}
    while offset not in seen and len(seen) <= MOST_PAGES:
        seen.add(offset)
        found = directory(data, offset)
        yield found
        offset = found.next


def _first(tags: Tags, tag: int, default: int) -> int:
    value = tags.get(tag, default)
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, int) else default


@dataclass(frozen=True)
class Layout:
    """How a page stores its samples; ``format``: 1 unsigned, 2 signed, 3 float."""

    bits: tuple[int, ...]
    format: int
    samples: int
    planar: bool
    photometric: int
    extra: tuple[int, ...]
    compression: int
    big_endian: bool

    @classmethod
    def of(cls, data: bytes, tags: Tags) -> Layout:
        """That of a page; InputError for what no reader here makes a picture of."""
        samples = _first(tags, _SAMPLES, 1)
        bits, extra = tags.get(_BITS, (1,)), tags.get(_EXTRA, ())
        bits = bits if isinstance(bits, tuple) else (bits,)
        extra = extra if isinstance(extra, tuple) else (extra,)
        return cls(
            bits=bits * samples if len(bits) == 1 else bits,
            format=_first(tags, _FORMAT, 1),
            samples=samples,
            planar=_first(tags, _PLANAR, 1) == 2 and samples > 1,
            photometric=_first(tags, _PHOTOMETRIC, _GREY),
            extra=extra,
            compression=_first(tags, _COMPRESSION, 1),
            big_endian=data[:2] == b"MM",
        )

    @property
    def pillow_is_right(self) -> bool:
        """Whether Pillow gives the picture, of 8 bits or grey of 16, as it is (tried kind by kind in the tests)."""
        if len(set(self.bits)) != 1 or self.compression not in _PILLOW_UNPACKS:
            return False
        bits, grey = self.bits[0], self.photometric in (_GREY_WHITE, _GREY)
        if self.format == 3:
            return (
                grey and self.samples == 1 and bits == 32 and not (self.big_endian and self.compression > 1)
            )
        if self.format not in (1, 4):
            return False
        if self.planar:
            return bits == 8 and self.photometric in (_RGB, _CMYK) and self.extra in ((), _PLAIN_ALPHA)
        if grey and self.samples == 1:
            swapped = self.big_endian and self.photometric == _GREY_WHITE
            return bits in (1, 2, 4, 8) or (bits == 16 and not swapped)
        if self.photometric == _PALETTE:
            return bits in (1, 2, 4, 8) and self.samples == 1
        if grey:
            return bits == 8 and self.samples == 2 and self.photometric == _GREY
        return bits == 8 or (bits == 16 and self.photometric in (_RGB, _CMYK))

    @property
    def bytes_a_pixel(self) -> float:
        """When it is decoded."""
        return self.samples * max(self.bits, default=1) / 8

    @property
    def is_deep(self) -> bool:
        """Whether there is more in it than 8 bits can say."""
        return max(self.bits) > 8 or self.format != 1

    def __str__(self) -> str:
        names = {_RGB: "RGB", _CMYK: "CMYK", _PALETTE: "palette", _YCBCR: "YCbCr"}
        kind = names.get(self.photometric, "grey")
        bits = "/".join(map(str, sorted(set(self.bits))))
        numbers = {2: ", signed", 3: ", floating point", 5: ", complex", 6: ", complex"}.get(self.format, "")
        packed = "" if self.compression in _PILLOW_UNPACKS else f", compression {self.compression}"
        return f"{kind} of {bits} bits{numbers}{', planes apart' if self.planar else ''}{packed}"


def check(tags: Tags, name: str) -> None:
    """InputError for a page that is no picture but the raw data of one, or in colours that are not read."""
    photometric = _first(tags, _PHOTOMETRIC, _GREY)
    preview = _first(tags, _SUBFILE, 0) & 1 and _SUBFOLDERS in tags
    if _DNG in tags or photometric in _SENSOR or preview:
        hint = "develop it to TIFF or PNG first: what is inside beside it is a small preview"
        raise InputError(f"{name} is a raw camera picture, which ilvrctl does not read", hint)
    if _first(tags, _DEPTH, 1) > 1:
        raise InputError(f"{name} is a volume of {tags[_DEPTH]} planes, not a picture", _VOLUME_HINT)
    if what := _LAB.get(photometric):
        raise InputError(
            f"{name} is a picture in {what} colours, which ilvrctl does not read",
            "convert it to PNG or JPEG first",
        )


def can_read_all() -> bool:
    """Whether the packages of the extra are there."""
    return all(find_spec(package) is not None for package in ("tifffile", "imagecodecs", "numpy"))


def read(data: bytes, number: int, layout: Layout, name: str) -> Deep:
    """Page ``number``, counted among all, with all its bits. InputError where the extra for it is not installed."""
    if not can_read_all():
        raise InputError(f"{name} is a TIFF that needs the extra 'tiff': {layout}", install("tiff"))
    import tifffile

    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it finds odd is told by its errors
    with tifffile.TiffFile(BytesIO(data)) as file:
        page = file.pages[number]
        assert isinstance(page, tifffile.TiffPage)
        _check(page, layout, len(data), name)
        try:
            array = page.asarray()
        except ValueError as error:
            if "not supported" not in str(error) and "imagecodecs" not in str(error):
                raise
            hint = "save it as a TIFF without compression, or as PNG"
            raise InputError(f"{name} is a TIFF that ilvrctl does not read: {layout}", hint) from error
        if page.axes == "SYX":
            array = array.transpose(1, 2, 0)
        elif page.axes not in ("YX", "YXS"):
            raise InputError(f"{name} is not a picture: its axes are {page.axes}", _VOLUME_HINT)
        return _deep(array, page, layout, name)


def _check(page: Any, layout: Layout, size: int, name: str) -> None:
    """tifffile goes on without tags that it cannot read, and fills missing data with zeros: neither is the
    picture.
    """
    bits = page.bitspersample if isinstance(page.bitspersample, tuple) else (page.bitspersample,)
    found = (set(bits), page.samplesperpixel, page.planarconfig == 2, page.photometric, page.compression)
    planar = layout.planar and page.samplesperpixel > 1
    if found != (set(layout.bits), layout.samples, planar, layout.photometric, layout.compression):
        raise InputError(f"{name} is damaged: its tags contradict each other", "copy or download it again")
    if any(at + count > size for at, count in zip(page.dataoffsets, page.databytecounts, strict=False)):
        raise InputError(
            f"{name} is truncated: its data ends before the picture does", "copy or download it again"
        )


_MODELS: dict[int, tuple[Model, int]] = {
    _GREY_WHITE: ("grey", 1),
    _GREY: ("grey", 1),
    _RGB: ("rgb", 3),
    _PALETTE: ("rgb", 3),
    _CMYK: ("cmyk", 4),
    _YCBCR: ("rgb", 3),
}


def _deep(array: Any, page: Any, layout: Layout, name: str) -> Deep:
    """The samples of a page with their meaning."""
    import numpy as np

    array = array[..., None] if array.ndim == 2 else array
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} holds complex numbers, not a picture: {layout}", _VOLUME_HINT)
    unpacked = layout.photometric != _YCBCR or layout.compression in (6, 7)  # JPEG gives RGB
    if layout.photometric not in _MODELS or not unpacked:
        raise InputError(
            f"{name} has colours that ilvrctl does not read: {layout}", "convert it to RGB first"
        )
    model, colours = _MODELS[layout.photometric]
    array = array.astype(np.uint8) if array.dtype.kind == "b" else array
    full = None if array.dtype.kind == "f" else full_range(max(layout.bits), signed=array.dtype.kind == "i")
    if layout.photometric == _PALETTE:
        array, full = (
            np.asarray(page.colormap)[:, array[..., 0]].transpose(1, 2, 0),
            full_range(16, signed=False),
        )
    if array.shape[2] < colours:
        raise InputError(f"{name} is damaged: it lacks channels ({layout})", "copy or download it again")
    opacity = next((n for n, kind in enumerate(layout.extra) if kind in (1, 2)), None)
    has_alpha = opacity is not None and colours + opacity < array.shape[2]
    kept = [*range(colours), *([colours + (opacity or 0)] if has_alpha else [])]
    return Deep(
        model=model,
        full=full,
        array=np.ascontiguousarray(array[..., kept] if len(kept) < array.shape[2] else array),
        alpha=has_alpha,
        premultiplied=has_alpha and layout.extra[opacity or 0] == 1,
        negative=layout.photometric == _GREY_WHITE,
        bits=16 if layout.photometric == _PALETTE else max(layout.bits),
    )
