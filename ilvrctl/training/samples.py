"""The sheet that shows how far a model is: translations of reference pictures, and samples of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ilvrctl.config import Layer
from ilvrctl.engine import Engine, Reference
from ilvrctl.errors import InputError
from ilvrctl.events import SampleDone
from ilvrctl.images.channels import eight_bits
from ilvrctl.images.io import read_bytes, save_picture
from ilvrctl.images.sheets import SheetRow, contact_sheet
from ilvrctl.images.tensors import to_image, to_tensor
from ilvrctl.settings import build_settings
from ilvrctl.sizes import AnySize, Size
from ilvrctl.training.pictures import Square, look_into

if TYPE_CHECKING:
    from PIL.Image import Image

    from ilvrctl.presets import ModelPreset

ROWS = 6
SAMPLES = 4  # a row
STEPS = 25
SEED = 0


def factors(size: AnySize) -> list[int]:
    """The factors N that a sheet shows: 2, 4 and 8 at 64 px, and in proportion at other sizes."""
    sides = Size.of(size)
    wanted = [max(1, min(sides) // part) for part in (32, 16, 8)]
    return sorted({n for n in wanted if sides.fits(n)})


def read_references(folder: Path, square: Square) -> tuple[list[tuple[str, Image]], list[str]]:
    """Names and squares of the first pictures of a folder that can be read, and why those before them cannot."""
    found: list[tuple[str, Image]] = []
    failed: list[str] = []
    for path in look_into(folder).pictures:
        if len(found) == ROWS:
            break
        try:
            found.append((path.stem, square.made_of(read_bytes(path), path.name)[0]))
        except InputError as error:
            failed.append(error.message)
    return found, failed


def draw_sheet(
    model: ModelPreset,
    weights: Path,
    references: Sequence[tuple[str, Image]],
    path: Path,
    caption: str,
    device: str,
) -> None:
    """Load the weights as any command does, and write the sheet to ``path``; the same noise every time."""
    engine = Engine.load(model, weights, device=device)
    columns = ["reference", *(f"N = {n}" for n in factors(engine.image_size))] if references else []
    translated = (
        [_translations(engine, references, n) for n in factors(engine.image_size)] if references else []
    )
    count = max(len(references), 4) * SAMPLES
    own = [to_image(x, engine.channels) for x in engine.unconditional(count, seed=SEED, steps=STEPS)]
    rows = []
    for i in range(max(len(references), 4)):
        left: list[Image | None] = [None] * len(columns)
        label = ""
        if i < len(references):
            label, picture = references[i]
            left = [eight_bits(picture), *(pictures[i] for pictures in translated)]
        rows.append(SheetRow(label, (*left, *own[i * SAMPLES : (i + 1) * SAMPLES])))
    sheet = contact_sheet(rows, [*columns, *(f"sample {n + 1}" for n in range(SAMPLES))], caption)
    save_picture(sheet, path)


def _translations(engine: Engine, references: Sequence[tuple[str, Image]], N: int) -> list[Image | None]:
    settings = build_settings(
        Layer.of(
            "sheet", {"steps": STEPS, "seed": SEED, "method": {"name": "ilvr", "N": N, "range": [1.0, 0.1]}}
        )
    )
    asked = [Reference(n, to_tensor(picture), f"{n}") for n, (_, picture) in enumerate(references)]
    made: list[Image | None] = [None] * len(references)
    for event in engine.translate(asked, settings):
        if isinstance(event, SampleDone) and isinstance(event.sample.key, int):
            made[event.sample.key] = to_image(event.x, engine.channels)
    return made
