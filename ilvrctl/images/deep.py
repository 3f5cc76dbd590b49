"""Pictures of more than 8 bits: their numbers as they are, which of them is white, and their 8 bits."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from PIL import Image, ImageMath

from ilvrctl.errors import InputError, UsageError

Model = Literal["grey", "rgb", "cmyk"]
Range = tuple[float, float]
"""The numbers that mean black and white (of inks: none and full)."""

AUTO = "auto"
"""The window from the smallest to the largest number of the picture."""
DEEP_MODES = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N", "F"})
"""Pillow's modes of more than 8 bits; all are grey."""
_MODES: dict[Model, str] = {"grey": "L", "rgb": "RGB", "cmyk": "CMYK"}
_LEAST_FILLED = 0.25
_LIKELY_WHITES = (255.0, 65535.0)
_OVERSHOOT = (-1.0, 2.0)


def full_range(bits: int, *, signed: bool) -> Range:
    """The smallest and the largest integer of so many bits."""
    return (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if signed else (0.0, 2.0**bits - 1)


def parse_window(text: str) -> Range | None:
    """The numbers that mean black and white in "LO:HI"; None for "auto". UsageError for anything else."""
    if text == AUTO:
        return None
    try:
        low, high = (float(part) for part in text.split(":"))
        if low < high and math.isfinite(low) and math.isfinite(high):
            return low, high
    except ValueError:
        pass
    raise UsageError(
        f"{text!r} is no window: LO:HI, of which the first number is black and the second white, or auto",
        hint="--window 0:4095, --window=-1000:2000 or --window auto",
    )


def window_text(levels: Range) -> str:
    """As :func:`parse_window` reads it."""
    return "{:.10g}:{:.10g}".format(*levels)


@dataclass(frozen=True)
class Deep:
    """The numbers of a picture: in ``array`` (H, W, channels; numpy), or in ``image``, grey of Pillow's deep modes.

    ``full``: the range of their type, None for floats, which have none. ``alpha``: the last channel is it;
    ``premultiplied``: the others are multiplied by it. ``negative``: 0 is white. ``key``: the colour that is
    transparent. ``bits`` of a sample.
    """

    model: Model
    full: Range | None
    array: Any = None
    image: Image.Image | None = None
    alpha: bool = False
    premultiplied: bool = False
    negative: bool = False
    key: tuple[int, ...] | None = None
    bits: int = 16

    def __str__(self) -> str:
        names = {"grey": "grey", "rgb": "RGB", "cmyk": "CMYK"}
        return f"{self.bits}-bit {'float ' if self.full is None else ''}{names[self.model]}"

    @property
    def mode(self) -> str:
        """Pillow's mode of its colours in 8 bits."""
        return _MODES[self.model]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return (self.array.shape[1], self.array.shape[0]) if self.image is None else self.image.size

    def turned(self, orientation: int) -> Deep:
        """Upright, for an EXIF orientation (1 to 8, others are 1); what is in ``image`` is turned by others."""
        if self.array is None or orientation not in range(2, 9):
            return self
        import numpy as np

        array = self.array.transpose(1, 0, 2) if orientation >= 5 else self.array
        array = array[::-1] if orientation in (3, 4, 7, 8) else array
        array = array[:, ::-1] if orientation in (2, 3, 6, 7) else array
        return replace(self, array=np.ascontiguousarray(array))

    def simplest(self) -> Deep | Image.Image:
        """As a picture of Pillow's where 8 bits hold it."""
        if self.full is None or self.full[0] != 0 or self.full[1] > 255:
            return self
        image, opacity = self.eight(self.full)
        if opacity is not None and image.mode != "CMYK":
            image.putalpha(opacity)
        return image

    def paintable(self) -> Deep:
        """With its numbers in an array, where numpy is, and a transparent colour as a channel of opacity."""
        import numpy as np

        array = self.array
        if self.image is not None:
            array = np.array(self.image)[..., None]
            array = array.astype(np.float32 if self.full is None else np.uint16)
        if self.key is None:
            return replace(self, array=array, image=None)
        opacity = np.where((array == np.array(self.key)).all(axis=2, keepdims=True), 0, self._opaque)
        array = np.concatenate([array, opacity.astype(array.dtype)], axis=2)
        return replace(self, array=array, image=None, alpha=True, key=None)

    def extrema(self) -> Range:
        """The smallest and largest number of its colours; not finite where one is not."""
        if self.image is not None:
            low, high = self._band(0, 0.0).getextrema()
            return float(low), float(high)  # type: ignore[arg-type]
        colours = self.array[..., : len(self.mode)]
        return float(colours.min()), float(colours.max())

    def levels(self, window: str | None, name: str) -> tuple[Range, str | None]:
        """The numbers that mean black and white, and what people should know about that choice.

        ``window`` as :func:`parse_window` reads it; without one, the range of their type. Of floats, and of whole
        numbers of 32 bits, files do not say which is white: the next of 1, 255, 65535 is taken, with a word.
        InputError where the numbers are none; UsageError for a window that is none.
        """
        asked = None if window is None else parse_window(window)
        low, high = self.extrema()
        if not (math.isfinite(low) and math.isfinite(high)):
            raise InputError(
                f"{name} holds values that are not numbers (NaN or infinite)",
                "replace them, by 0 for example",
            )
        if asked is not None:
            return asked, None
        if window is not None:
            return ((low, high) if low < high else (low, low + 1)), None
        return _chosen(self, low, high, name)

    def eight(self, levels: Range) -> tuple[Image.Image, Image.Image | None]:
        """8 bits: the colours, in mode L, RGB or CMYK, and the opacity (L), None where all is opaque."""
        low, high = levels
        scale = 255.0 / (high - low)
        if self.negative:
            low, scale = high, -scale
        bands = [_to_byte(self._band(k, low), scale) for k in range(len(self.mode))]
        opacity = self._opacity()
        return (bands[0] if len(bands) == 1 else Image.merge(self.mode, bands)), opacity

    def grey(self, levels: Range) -> Image.Image:
        """A grey one in mode F, black 0 and white 255, its bits not cut."""
        low, high = levels
        scale = 255.0 / (high - low)
        low, scale = (high, -scale) if self.negative else (low, scale)
        found = self._band(0, low).point(lambda value: value * scale + 0.0)
        floor, white = (Image.new("F", found.size, value) for value in (0.0, 255.0))
        clipped: Image.Image = ImageMath.lambda_eval(
            lambda of: of["min"](of["max"](of["x"], of["floor"]), of["white"]),
            x=found,
            floor=floor,
            white=white,
        )
        return clipped

    def sixteen(self, levels: Range) -> Any:
        """uint16 (H, W, channels but alpha), black 0 and white 65535; of what is in ``array``."""
        import numpy as np

        bands = []
        for k in range(len(self.mode)):
            part = np.clip((self.plain(k).astype(np.float64) - levels[0]) / (levels[1] - levels[0]), 0, 1)
            bands.append(np.round((1 - part if self.negative else part) * 65535).astype(np.uint16))
        return np.stack(bands, axis=-1)

    def paste(self, part: Image.Image, at: tuple[int, int], mask: Image.Image, levels: Range) -> None:
        """Blend ``part``, 8 bits in ``mode``, into the array at (left, top); where ``mask`` is 0 it stays."""
        import numpy as np

        left, top = at
        place = self.array[top : top + part.height, left : left + part.width]
        weight = np.asarray(mask, dtype=np.float64)[..., None] / 255
        new = np.asarray(part, dtype=np.float64).reshape(*place.shape[:2], -1) / 255
        new = levels[0] + (1 - new if self.negative else new) * (levels[1] - levels[0])
        if self.premultiplied:
            new = new * (place[..., -1:] / self._opaque)
        old = place[..., : len(self.mode)]
        blended = old + (new - old) * weight
        if self.full is not None:
            blended = np.clip(np.round(blended), *self.full)
        old[...] = np.where(weight > 0, blended.astype(old.dtype), old)

    @property
    def _opaque(self) -> float:
        """The number that means opaque; of signed ones too, transparent is 0."""
        return 1.0 if self.full is None else self.full[1]

    def plain(self, k: int) -> Any:
        """Channel ``k``, not multiplied by the opacity."""
        import numpy as np

        band = self.array[..., k]
        if not self.premultiplied:
            return band
        alpha = self.array[..., -1].astype(np.float64)
        return np.divide(band * self._opaque, alpha, out=np.zeros(alpha.shape), where=alpha > 0)

    def _band(self, k: int, low: float) -> Image.Image:
        """Channel ``k`` less ``low``, in mode F."""
        if self.image is not None:
            deep = self.image if self.image.mode == "F" else self.image.convert("I").convert("F")
            return deep.point(lambda value: value * 1.0 - low) if low else deep
        import numpy as np

        return Image.fromarray((self.plain(k).astype(np.float64) - low).astype(np.float32))

    def _opacity(self) -> Image.Image | None:
        if self.alpha:
            import numpy as np

            alpha = Image.fromarray(self.array[..., -1].astype(np.float32))
            return _to_byte(alpha, 255.0 / self._opaque)
        if self.key is None:
            return None
        if self.image is not None:
            table = [255] * 65536
            table[min(max(self.key[0], 0), 65535)] = 0
            return self.image.convert("I").point(table, "L")
        return self.paintable()._opacity()


def _to_byte(band: Image.Image, scale: float) -> Image.Image:
    # Conversion of F to L clips and rounds down, hence the half.
    return band.point(lambda value: value * scale + 0.5).convert("L")


def _chosen(deep: Deep, low: float, high: float, name: str) -> tuple[Range, str | None]:
    """Black and white where nobody says them."""
    holds = f"{name} holds {'numbers' if deep.full is None else 'levels'} from {low:g} to {high:g}"
    asks = "--window LO:HI says which are black and white, --window auto takes these"
    if deep.full is None:
        if low >= _OVERSHOOT[0] and high <= _OVERSHOOT[1]:
            cut = "" if low >= 0 and high <= 1 else "what lies outside of 0 to 1 is cut off"
            levels = (0.0, 1.0)
        else:
            likely = next((white for white in _LIKELY_WHITES if low >= 0 and high <= white), None)
            levels = (low, high) if likely is None else (0.0, likely)
            cut = f"floating point numbers have no white of their own: read as {window_text(levels)}"
    else:
        full = deep.full if low < 0 else (0.0, deep.full[1])
        likely = next((white for white in _LIKELY_WHITES if high <= white), None)
        if deep.bits == 32 and low >= 0 and likely is not None:
            levels = (0.0, likely)
            cut = f"of {full[1]:g} that 32 bits can hold: read as {window_text(levels)}"
        else:
            levels, cut = full, ""
    inks = deep.model == "cmyk"
    if not cut and not inks and low < high and high - low < _LEAST_FILLED * (levels[1] - levels[0]):
        cut = f"less than a quarter of {window_text(levels)}, which it is read as: it may look flat or dark"
    return levels, f"{holds}, {cut}; {asks}" if cut else None
