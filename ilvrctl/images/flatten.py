"""From pixels of any depth and colours to 8-bit sRGB, and what people should know about that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from PIL import Image

from ilvrctl.images import tiff
from ilvrctl.images.colour import Profile, UnusableProfileError
from ilvrctl.images.deep import Deep, Range, window_text
from ilvrctl.images.load import Loaded

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Seen:
    """A picture as it is seen: ``rgb`` in sRGB and its opacity ``alpha`` (mode L), None where all is opaque.

    ``own``: its colours in 8 bits as they are stored, in mode L, RGB or CMYK. ``levels``: the numbers of a
    deep picture that mean black and white. ``notes``: what people should know. ``read``: how it was read
    where that is not plain, for the record: "profile", the name of that it was converted from, and "window",
    as ``--window`` takes it. ``deep``: the picture as it is stored, where it has more than 8 bits.
    """

    rgb: Image.Image
    alpha: Image.Image | None
    own: Image.Image
    profile: Profile | None
    levels: Range | None = None
    notes: tuple[str, ...] = ()
    read: Mapping[str, str] = field(default_factory=dict)
    deep: Deep | None = None

    def flat(self, background: Colour) -> Image.Image:
        """On a background. Not a copy where nothing is transparent."""
        if self.alpha is None:
            return self.rgb
        flat = Image.new("RGB", self.rgb.size, background)
        flat.paste(self.rgb, mask=self.alpha)
        return flat


def see(loaded: Loaded, window: str | None = None) -> Seen:
    """What was loaded, as it is seen. ``window``: the numbers of a deep picture that mean black and white, see
    :meth:`~ilvrctl.images.deep.Deep.levels`, which also tells the errors.
    """
    pixels, notes, read, levels = loaded.pixels, list(loaded.notes), {}, None
    if isinstance(pixels, Deep):
        levels, note = pixels.levels(window, loaded.name)
        notes += [note] if note else []
        if window is not None or note:
            read["window"] = window_text(levels)
        own, alpha = pixels.eight(levels)
    else:
        own, alpha = parts(pixels)
        if window is not None:
            notes.append(f"{loaded.name} has 8 bits, all of which are seen: --window does not change it")
    profile = loaded.profile
    try:
        rgb = _in_srgb(pixels, own, profile, levels)
    except UnusableProfileError as error:
        notes.append(f"{loaded.name}: its {error}; its colours are taken as they are")
        profile, rgb = None, own.convert("RGB")
    if profile is not None:
        read["profile"] = profile.name
    rgb.info = {}
    deep = pixels if isinstance(pixels, Deep) else None
    return Seen(rgb, alpha, own, profile, levels, tuple(notes), read, deep)


def _in_srgb(
    pixels: Image.Image | Deep, own: Image.Image, profile: Profile | None, levels: Range | None
) -> Image.Image:
    """In RGB; deep colours are converted before their bits are cut, which in large spaces costs up to 17 of 255."""
    if profile is None:
        return own if own.mode == "RGB" else own.convert("RGB")
    if isinstance(pixels, Deep) and pixels.image is None and levels is not None and tiff.can_read_all():
        array = profile.deep_to_srgb(pixels.sixteen(levels))
        return Image.fromarray(((array.astype("u4") + 128) // 257).astype("u1"))
    return profile.to_srgb(own)


def parts(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours of an 8-bit picture, in mode L, RGB or CMYK, and its opacity (L), None where all is opaque."""
    if image.mode == "La":
        image = image.convert("LA")
    grey = image.mode in ("1", "L", "LA")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return rgba.getchannel("R") if grey else rgba.convert("RGB"), rgba.getchannel("A")
    if image.mode == "CMYK":
        return image.copy(), None
    return image.convert("L" if grey else "RGB"), None


def to_rgb(image: Image.Image, background: Colour) -> Image.Image:
    """8-bit RGB of an 8-bit picture of any mode: transparency composed on ``background``, no metadata."""
    own, alpha = parts(image)
    return Seen(own.convert("RGB"), alpha, own, None).flat(background)
