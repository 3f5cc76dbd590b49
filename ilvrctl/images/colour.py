"""Colour profiles: pictures come to sRGB once, on the way in, and edits go back to the photo's own colours."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from io import BytesIO
from itertools import product
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageChops

from ilvrctl.images import icc, png

if TYPE_CHECKING:
    from PIL.ImageCms import ImageCmsTransform

_SPACES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}
_SAME = 1
"""A profile that changes no colour by more than so many of 255 is that of sRGB: its pictures stay as they are."""
_GAMMA_OF_SRGB = 1 / 2.2
_CICP_PRIMARIES = {
    1: (icc.REC_709, icc.D65),
    5: (((0.64, 0.33), (0.29, 0.60), (0.15, 0.06)), icc.D65),
    6: (((0.63, 0.34), (0.31, 0.595), (0.155, 0.07)), icc.D65),
    9: (icc.REC_2020, icc.D65),
    11: (icc.P3, (0.314, 0.351)),
    12: (icc.P3, icc.D65),
}
_CICP_CURVES = {
    1: icc.REC_709_CURVE,
    4: (2.2,),
    5: (2.8,),
    6: icc.REC_709_CURVE,
    8: (1.0,),
    13: icc.SRGB_CURVE,
    14: icc.REC_709_CURVE,
    15: icc.REC_709_CURVE,
}
_WIDE = (9, 11, 12)
_NCLX_WITHIN = 1 << 16
_HDR = {16: "PQ", 18: "HLG"}


class UnusableProfileError(ValueError):
    """A profile that cannot be read, or does not fit its picture; the message says what, to stand behind "its"."""


@dataclass(frozen=True)
class Profile:
    """A colour profile that can be read, as the bytes of an ICC file."""

    data: bytes

    @classmethod
    def read(cls, data: bytes, mode: str) -> Profile | None:
        """That of a picture of ``mode`` L, RGB or CMYK; None where it is sRGB's. UnusableProfileError if broken."""
        profile = cls(data)
        space = profile.space
        if data[36:40] != b"acsp":
            raise UnusableProfileError("colour profile cannot be read")
        if space != mode and (space, mode) != ("RGB", "L"):
            kinds = {"L": "grey", None: "something else"}
            what = f"is one of {kinds.get(space, space)}, and its pixels are {kinds.get(mode, mode)}"
            raise UnusableProfileError(f"colour profile {what}")
        return None if profile.is_srgb else profile

    @property
    def space(self) -> str | None:
        """Pillow's mode of its pixels: L, RGB or CMYK; None for others."""
        return _SPACES.get(self.data[16:20])

    @cached_property
    def name(self) -> str:
        """What it calls itself."""
        from PIL import ImageCms

        try:
            found = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(BytesIO(self.data)))
        except Exception:  # a name is not worth a picture
            found = ""
        return " ".join(found.split())[:80] or "unnamed"

    @cached_property
    def is_srgb(self) -> bool:
        """Whether it changes nothing."""
        if self.space == "CMYK":
            return False
        grid = _grid(self.space == "L")
        same = ImageChops.difference(self.to_srgb(grid), grid.convert("RGB")).getextrema()
        return max(high for _, high in same) <= _SAME  # type: ignore[misc]

    def to_srgb(self, image: Image.Image) -> Image.Image:
        """The RGB picture of one in L, RGB or CMYK. UnusableProfileError when the profile has no way to it."""
        found = _transform(self.data, None, self.space).apply(self._fitting(image))
        found.info = {}
        return found

    def from_srgb(self, image: Image.Image) -> Image.Image:
        """The picture of an RGB one in this profile's colours. UnusableProfileError when there is no way back."""
        found = _transform(None, self.data, self.space).apply(image)
        found.info = {}
        return found

    def _fitting(self, image: Image.Image) -> Image.Image:
        return image.convert("RGB") if self.space == "RGB" and image.mode == "L" else image

    def deep_to_srgb(self, array: Any) -> Any:
        """uint16 (H, W, 3) in sRGB of uint16 (H, W, channels), by imagecodecs: ImageCms knows 8 bits alone."""
        import imagecodecs
        import numpy as np

        names = {"L": "gray", "RGB": "rgb", "CMYK": "cmyk"}
        if self.space == "RGB" and array.shape[2] == 1:
            array = np.repeat(array, 3, axis=2)
        found = imagecodecs.cms_transform(
            np.ascontiguousarray(array if array.shape[2] > 1 else array[..., 0]),
            self.data,
            icc.srgb(),
            colorspace=names[self.space or "RGB"],
            outcolorspace="rgb",
            outdtype="uint16",
            flags=imagecodecs.CMS.FLAGS.NOOPTIMIZE,  # without it, a coarse table is up to 20 of 255 off
        )
        return found.reshape(*array.shape[:2], 3)


def _grid(grey: bool) -> Image.Image:
    levels = range(0, 256, 51)
    if grey:
        return Image.frombytes("L", (6, 1), bytes(levels))
    return Image.frombytes("RGB", (36, 6), bytes(value for rgb in product(levels, repeat=3) for value in rgb))


@lru_cache(maxsize=16)
def _transform(source: bytes | None, target: bytes | None, mode: str | None) -> ImageCmsTransform:
    """Between a profile and sRGB, which is None. Perceptual, as littleCMS does where nothing is said."""
    from PIL import ImageCms

    try:
        profiles = [
            ImageCms.ImageCmsProfile(BytesIO(icc.srgb() if data is None else data))
            for data in (source, target)
        ]
        modes = ["RGB" if data is None else mode or "" for data in (source, target)]
        return ImageCms.ImageCmsTransform(profiles[0], profiles[1], modes[0], modes[1])
    except Exception as error:  # of littleCMS, for bytes that are no profile
        raise UnusableProfileError("colour profile cannot be read") from error


def embedded(info: Mapping[Any, Any], data: bytes, *, grey: bool) -> bytes:
    """The profile of a picture with this ``info`` of Pillow's and these bytes; empty where it has none, or sRGB.

    A PNG may tell its colours in chunks: cICP wins over iCCP, that over sRGB, and that over gAMA with cHRM.
    Raises UnusableProfileError for one that says nothing usable.
    """
    is_png = data.startswith(png.MARK)
    chunks = dict(_colour_chunks(data)) if is_png else {}
    if b"cICP" in chunks:
        return _of_cicp(chunks[b"cICP"], grey)
    profile = info.get("icc_profile") or _in_jpeg2000(data)
    if b"iCCP" in chunks and not profile:
        raise UnusableProfileError("colour profile cannot be read")
    if not profile and data[4:8] == b"ftyp":
        return _of_nclx(data, grey)
    if profile or b"sRGB" in chunks or not is_png:
        return bytes(profile) if isinstance(profile, bytes) else b""
    return _of_gamma(chunks, grey)


def _colour_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a PNG that tell its colours: all before its pixels."""
    for kind, content in png.chunks(data):
        if kind == b"IDAT":
            return
        if kind in (b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM"):
            yield kind, content


def _of_cicp(chunk: bytes, grey: bool) -> bytes:
    if len(chunk) != 4:
        raise UnusableProfileError("cICP chunk cannot be read")
    primaries, curve, matrix, full = chunk
    if name := _HDR.get(curve):
        raise UnusableProfileError(f"colours are HDR ({name}), for which there is no one way to sRGB")
    if primaries not in _CICP_PRIMARIES or curve not in _CICP_CURVES or matrix != 0 or full != 1:
        raise UnusableProfileError("cICP chunk names colours that ilvrctl does not know")
    name = f"cICP {primaries}/{curve}"
    if grey:
        return icc.grey_profile(name, _CICP_CURVES[curve])
    return icc.rgb_profile(name, _CICP_CURVES[curve], *_CICP_PRIMARIES[primaries])


def _in_jpeg2000(data: bytes) -> bytes:
    """The profile in the header of a JP2, of which Pillow tells nothing."""
    at = data.find(b"colr\2", 0, data.find(b"jp2c")) if data[4:8] == b"jP  " else -1
    return b"" if at < 4 else data[at + 7 : at - 4 + int.from_bytes(data[at - 4 : at], "big")]


def _of_nclx(data: bytes, grey: bool) -> bytes:
    """The colours that an AVIF or HEIC names by numbers. Curves of video are meant for screens of sRGB."""
    at = data.find(b"colrnclx", 0, _NCLX_WITHIN)
    if at < 0:
        return b""
    primaries, curve = struct.unpack_from(">HH", data, at + 8)
    if curve not in _HDR and (grey or primaries not in _WIDE):
        return b""
    return _of_cicp(bytes([primaries, curve if curve in _HDR else 13, 0, 1]), grey)


def _of_gamma(chunks: Mapping[bytes, bytes], grey: bool) -> bytes:
    """gAMA alone has the primaries of sRGB, cHRM alone its curve; 1/2.2 is what programs write for sRGB's."""
    if not chunks:
        return b""
    curve, points = icc.SRGB_CURVE, (icc.D65, *icc.REC_709)
    try:
        if b"gAMA" in chunks:
            gamma = struct.unpack(">I", chunks[b"gAMA"])[0] / 100_000
            curve = curve if abs(gamma - _GAMMA_OF_SRGB) < 0.005 else (1 / gamma,)
        if b"cHRM" in chunks and not grey:
            values = [value / 100_000 for value in struct.unpack(">8I", chunks[b"cHRM"])]
            points = tuple(zip(values[::2], values[1::2], strict=True))
        if grey:
            return icc.grey_profile("gAMA", curve)
        return icc.rgb_profile("gAMA and cHRM", curve, points[1:], points[0])
    except (struct.error, ZeroDivisionError, ValueError) as error:
        raise UnusableProfileError("gAMA and cHRM chunks cannot be read") from error
