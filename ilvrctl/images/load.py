"""A picture file as it is stored, but upright: its pixels at their depth, its colours, its tags."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from PIL import Image, ImageOps

from ilvrctl.errors import InputError
from ilvrctl.images import jpeg, png, tiff
from ilvrctl.images.colour import Profile, UnusableProfileError, embedded
from ilvrctl.images.decode import MAX_PIXELS, check_size, decoding, ends_early, kind_in, open_header
from ilvrctl.images.deep import DEEP_MODES, Deep, full_range
from ilvrctl.images.kinds import Kind, install

_DEEP_PNG_COLOURS = {2: ("rgb", False), 4: ("grey", True), 6: ("rgb", True)}
_NETPBM = re.compile(rb"(P[56Ff])\s+(?:#[^\n]*\s+)*(\d+)\s+(?:#[^\n]*\s+)*(\d+)\s+(?:#[^\n]*\s+)*(\S+)\s")
_PARTS = {"TIFF": "pages", "JPEG": "pictures", "HEIF": "pictures"}
"""What the several pictures in a file are called, by its decoder; frames in others."""

MAX_DECODED = 5_000_000_000
"""Bytes: more than :data:`MAX_PIXELS` pixels of three numbers of 64 bits have."""


@dataclass(frozen=True)
class Loaded:
    """What a file holds: ``pixels``, upright, their colour ``profile`` (None: sRGB), and how many ``frames``
    or pages.

    ``notes``: what people should know. ``icc``: the bytes of the profile in it, if it is sRGB's. ``image``,
    ``tags``: where the metadata stand, those of a TIFF in its tags. ``info`` of Pillow's.
    """

    name: str
    kind: Kind
    pixels: Image.Image | Deep
    profile: Profile | None
    frames: int
    notes: tuple[str, ...]
    icc: bytes = b""
    tags: tiff.Tags | None = None
    image: Image.Image | None = None
    info: Mapping[Any, Any] = field(default_factory=dict)


def load(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS, frame: int | None = None) -> Loaded:
    """Decode ``data``: frame or page ``frame``, from 0, or with a note the first where none is asked for.

    Raises InputError, before decoding when there are more than ``max_pixels`` pixels, and when ``data`` is empty,
    truncated, damaged, no picture, one that this installation does not read, or has no such frame.
    """
    with decoding(data, name):
        kind = kind_in(data, name)
        if kind.plugins == ("TIFF",):
            return _load_tiff(data, name, kind, max_pixels, frame)
        deep = _deep_netpbm(data, name, max_pixels) if kind.plugins == ("PPM",) else None
        if deep is not None:
            return Loaded(name, kind, deep, None, 1, _which(name, kind, 1, frame))
        header = jpeg.Header.read(data) if kind.plugins == ("JPEG",) else None
        if header is not None and (header.precision > 8 or header.process == jpeg.LOSSLESS_LS):
            return _load_deep_jpeg(data, name, kind, header, max_pixels, frame)
        image = open_header(data, name, max_pixels)
        frames = getattr(image, "n_frames", 1)
        notes = _which(name, kind, frames, frame)
        if frame is not None and frames > 1:
            image.seek(frame)
            check_size(image.size, name, max_pixels)
        deep = None if frame else _deep_png(data, image) or _deep_jpeg2000(data, name)
        if deep is None:
            image.load()
        profile, icc, more = _profile(image.info, data, _mode(deep or image), name)
        pixels = deep.turned(_orientation(image)) if deep is not None else _upright(image)
        return Loaded(name, kind, pixels, profile, frames, notes + more, icc, None, image, image.info)


def frames_in(data: bytes, name: str) -> int:
    """How many frames, pages or pictures the file ``data`` has. InputError as :func:`load` has it."""
    with decoding(data, name):
        if kind_in(data, name).plugins == ("TIFF",):
            return len(tiff.pages(data))
        return int(getattr(open_header(data, name, MAX_PIXELS), "n_frames", 1))


@dataclass(frozen=True)
class Timing:
    """How the frames of an animation follow each other: how long each is shown, in ms, and how often all of them, 0
    being for ever. ``durations_ms`` None: nothing is said, as of pages.
    """

    durations_ms: tuple[int, ...] | None = None
    plays: int = 0


def timing_of(data: bytes, name: str) -> Timing:
    """How the frames of the file ``data`` follow each other. InputError as :func:`load` has it."""
    with decoding(data, name):
        if kind_in(data, name).plugins == ("TIFF",):
            return Timing()
        image = open_header(data, name, MAX_PIXELS)
        plays = int(image.info.get("loop", 0))
        if kind_in(data, name).plugins == ("GIF",):  # it counts how often again, and says nothing for once
            plays = 1 if "loop" not in image.info else plays and plays + 1
        shown = []
        for n in range(getattr(image, "n_frames", 1)):
            image.seek(n)
            image.load()  # some formats tell only then
            shown.append(round(image.info.get("duration", 0)))
        return Timing(tuple(ms or 100 for ms in shown) if any(shown) else None, plays)


def _load_tiff(data: bytes, name: str, kind: Kind, max_pixels: int, frame: int | None) -> Loaded:
    pages = tiff.pages(data)
    if not pages:
        raise ValueError("it has no pages")
    notes = _which(name, kind, len(pages), frame)
    number, tags = pages[frame or 0]
    if not len(tags):
        raise EOFError("truncated")
    check_size((int(tags.get(256, 0)), int(tags.get(257, 0))), name, max_pixels)
    tiff.check(tags, name)
    layout = tiff.Layout.of(data, tags)
    if layout.bytes_a_pixel * int(tags[256]) * int(tags[257]) > MAX_DECODED:
        raise InputError(f"{name} is too large when decoded: {layout}", "scale it down first")
    info: dict[Any, Any] = {"icc_profile": tags.get(34675)}
    pixels: Image.Image | Deep
    if layout.pillow_is_right and not (layout.is_deep and tiff.can_read_all()):
        image = open_header(data, name, max_pixels)
        image.seek(number)
        image.load()
        pixels = _upright(image, negative=tags.get(262) == 0)
    else:
        pixels = tiff.read(data, number, layout, name).turned(tags.get(274, 1)).simplest()
    profile, icc, more = _profile(info, b"", _mode(pixels), name)
    return Loaded(name, kind, pixels, profile, len(pages), notes + more, icc, tags)


def _load_deep_jpeg(
    data: bytes, name: str, kind: Kind, header: jpeg.Header, max_pixels: int, frame: int | None
) -> Loaded:
    check_size(header.size, name, max_pixels)
    if ends_early(data):
        raise EOFError("truncated")
    deep = jpeg.read(data, header, name)
    info: dict[Any, Any] = {"icc_profile": header.icc or None, "exif": header.exif}
    profile, icc, more = _profile(info, b"", deep.mode, name)
    frame_of = Image.new("L", (1, 1))  # Pillow reads tags from what an image knows
    frame_of.info = info
    return Loaded(
        name, kind, deep, profile, 1, _which(name, kind, 1, frame) + more, icc, None, frame_of, info
    )


def _which(name: str, kind: Kind, frames: int, frame: int | None) -> tuple[str, ...]:
    """What is told where a file holds several pictures; InputError for one that it has not."""
    parts = _PARTS.get(kind.plugins[0], "frames")
    if frame is not None and frame not in range(frames):
        counted = parts.removesuffix("s") if frames == 1 else parts
        raise InputError(f"{name} has {frames} {counted}: there is none of number {frame + 1}")
    if frames <= 1 or frame is not None:
        return ()
    if parts == "frames":
        return (f"{name} is an animation of {frames} frames: taken by its first",)
    return (f"{name} has {frames} {parts}: taken by its first",)


def _profile(
    info: Mapping[Any, Any], data: bytes, mode: str, name: str
) -> tuple[Profile | None, bytes, tuple[str, ...]]:
    """The profile, None for sRGB, and the bytes of that where it has one of its own.

    One that cannot be used is told, and the colours are taken as they are.
    """
    try:
        found = embedded(info, data, grey=mode == "L")
        profile = Profile.read(found, mode) if found else None
    except UnusableProfileError as error:
        return None, b"", (f"{name}: its {error}; its colours are taken as they are",)
    return profile, (found if profile is None and info.get("icc_profile") == found else b""), ()


def _mode(pixels: Image.Image | Deep) -> str:
    """Pillow's mode of the colours: L, RGB or CMYK."""
    if isinstance(pixels, Deep):
        return pixels.mode
    if pixels.mode in DEEP_MODES or pixels.mode in ("1", "L", "LA", "La"):
        return "L"
    return "CMYK" if pixels.mode == "CMYK" else "RGB"


def _upright(image: Image.Image, *, negative: bool = False) -> Image.Image | Deep:
    """The picture turned as its EXIF orientation asks; a broken EXIF block is ignored."""
    with suppress(Exception):  # a picture that shows well must not fail over a bad tag
        image = ImageOps.exif_transpose(image)
    if image.mode not in DEEP_MODES:
        return image
    key = image.info.get("transparency")
    is_float = image.mode == "F"
    return Deep(
        "grey",
        None if is_float else full_range(16, signed=False),
        image=image,
        negative=negative,
        key=(key,) if isinstance(key, int) and not is_float else None,
        bits=32 if is_float else 16,
    )


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # as above
        return 1


def _deep_png(data: bytes, image: Image.Image) -> Deep | None:
    """All 16 bits of a PNG in colours, of which Pillow keeps 8; None for others, or without the extra for it."""
    colours = _DEEP_PNG_COLOURS.get(data[25]) if data.startswith(png.MARK) and data[24] == 16 else None
    if colours is None or not tiff.can_read_all():
        return None
    if ends_early(data):
        raise EOFError("truncated")
    png.check(data)
    import imagecodecs

    array = imagecodecs.png_decode(data)
    key = image.info.get("transparency")
    has_alpha = colours[1] or array.shape[2] > 3
    return Deep(
        "rgb" if colours[0] == "rgb" else "grey",
        full_range(16, signed=False),
        array,
        alpha=has_alpha,
        key=key if isinstance(key, tuple) and not has_alpha else None,
    )


def _deep_jpeg2000(data: bytes, name: str) -> Deep | None:
    """A JPEG 2000 in colours of more than 8 bits, which Pillow cuts wrongly: white becomes black."""
    at = data.find(b"\xff\x4f\xff\x51")
    if at < 0 or not (at == 0 or data[4:8] == b"jP  "):
        return None
    channels, depth = int.from_bytes(data[at + 40 : at + 42], "big"), data[at + 42] + 1
    bits, signed = depth & 127, depth > 128
    if bits <= 8 or (channels == 1 and not signed):
        return None
    if not tiff.can_read_all():
        what = f"{name} is a JPEG 2000 of {bits} bits, which needs the extra 'tiff'"
        raise InputError(what, install("tiff"))
    import imagecodecs

    array = imagecodecs.jpeg2k_decode(data)
    array = array[..., None] if array.ndim == 2 else array
    if b"colr\1\0\0\0\0\0\x12" in data[:at] or array.shape[2] > 4:
        raise InputError(f"{name} is a JPEG 2000 in colours that ilvrctl does not read", "convert it to PNG")
    alpha = array.shape[2] in (2, 4)
    return Deep(
        "grey" if channels < 3 else "rgb", full_range(bits, signed=signed), array, alpha=alpha, bits=bits
    )


def _deep_netpbm(data: bytes, name: str, max_pixels: int) -> Deep | None:
    """A PGM or PPM of more than 8 bits, or a PFM in colours; None where Pillow reads it, or must do without
    numpy.
    """
    header = _NETPBM.match(data)
    if header is None:
        return None
    kind, width, height = header[1], int(header[2]), int(header[3])
    floats, channels = kind in (b"PF", b"Pf"), 1 if kind in (b"P5", b"Pf") else 3
    if not floats and not 255 < int(header[4]) < 65536:
        return None
    if not tiff.can_read_all():
        if kind == b"PF":
            raise InputError(f"{name} is a PFM in colours, which needs the extra 'tiff'", install("tiff"))
        return None
    check_size((width, height), name, max_pixels)
    import numpy as np

    big = not floats or float(header[4]) > 0
    kind_of_number = f"{'>' if big else '<'}{'f4' if floats else 'u2'}"
    if len(data) - header.end() < width * height * channels * (4 if floats else 2):
        raise EOFError("truncated")
    values = np.frombuffer(data, kind_of_number, width * height * channels, header.end())
    array = values.reshape(height, width, channels).astype(kind_of_number[1:])
    if floats:
        return Deep("rgb" if channels == 3 else "grey", None, np.ascontiguousarray(array[::-1]), bits=32)
    full = (0.0, float(header[4]))
    return Deep("rgb" if channels == 3 else "grey", full, array, bits=int(header[4]).bit_length())
