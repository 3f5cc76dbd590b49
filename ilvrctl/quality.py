"""What was measured of a target: figures with their intervals, and of which weights they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

Figure = tuple[float, float, float]
"""A value and the ends of its 95 % interval."""


@dataclass(frozen=True)
class Measured:
    """A row: what was run, network ``calls`` a picture, and PSNR (dB) and SSIM to the truth, means over pictures, and
    KID x1000 to the true pictures; None where a figure has no meaning, as PSNR of unconditional samples.
    """

    name: str
    calls: int
    psnr: Figure | None = None
    ssim: Figure | None = None
    kid: Figure | None = None


@dataclass(frozen=True)
class Quality:
    """``set``: which pictures were translated, ``n`` of them. ``features`` of KID. ``weights``: sha256 of the files of
    the model when it was measured, in the order of :attr:`ilvrctl.presets.ModelPreset.parts`; figures of other
    weights are worth nothing. ``command`` makes the table again.
    """

    set: str
    n: int
    weights: tuple[str, ...]
    command: str
    rows: tuple[Measured, ...]
    features: str = "EfficientNet-Lite0"

    def table(self) -> Iterator[str]:
        """As lines of text, columns under each other."""
        yield f"measured on {self.set}, n = {self.n}; [95 % interval]; KID x1000 of {self.features}"
        cells = [["", "calls", "PSNR", "SSIM", "KID"]]
        for row in self.rows:
            figures = (_text(row.psnr, 2), _text(row.ssim, 3), _text(row.kid, 0))
            cells.append([row.name, str(row.calls), *figures])
        widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        for name, *numbers in cells:
            line = "  ".join(text.rjust(width) for text, width in zip(numbers, widths[1:], strict=True))
            yield f"{name.ljust(widths[0])}  {line}".rstrip()
        yield f"made by: {self.command}"


def _text(figure: Figure | None, digits: int) -> str:
    if figure is None:
        return "-"
    value, low, high = (f"{number:.{digits}f}" for number in figure)
    return f"{value} [{low}, {high}]"
