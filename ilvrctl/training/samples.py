"""The sheet that shows how far a model is: translations of reference pictures, and samples of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ilvrctl.config import Layer
from ilvrctl.diffusion.noise import NoiseStream, noise_seed
from ilvrctl.diffusion.samplers import DDPM
from ilvrctl.engine import Engine, Reference, sample
from ilvrctl.events import SampleDone
from ilvrctl.images.geometry import fit_picture, parse_color
from ilvrctl.images.io import open_picture, read_bytes, save_picture
from ilvrctl.images.sheets import SheetRow, contact_sheet
from ilvrctl.images.tensors import to_image, to_tensor
from ilvrctl.methods import Context, Method
from ilvrctl.settings import build_settings
from ilvrctl.training.pictures import Square, look_into

if TYPE_CHECKING:
    from PIL.Image import Image

    from ilvrctl.presets import ModelPreset

ROWS = 6
SAMPLES = 4  # a row
STEPS = 25
SEED = 0


def factors(size: int) -> list[int]:
    """The factors N that a sheet shows: 2, 4 and 8 at 64 px, and in proportion at other sizes."""
    wanted = [max(1, size // 32), max(1, size // 16), max(1, size // 8)]
    return sorted({n for n in wanted if size % n == 0})


def read_references(folder: Path, square: Square) -> list[tuple[str, Image]]:
    """Names and squares of the first pictures of a folder. InputError when one cannot be read."""
    color = parse_color(square.background)
    return [
        (path.stem, fit_picture(open_picture(read_bytes(path), path.name), square.size, square.fit, color))
        for path in look_into(folder).pictures[:ROWS]
    ]


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
    own = list(_own(engine, max(len(references), 4) * SAMPLES))
    rows = []
    for i in range(max(len(references), 4)):
        left: list[Image | None] = [None] * len(columns)
        label = ""
        if i < len(references):
            label, picture = references[i]
            left = [picture, *(pictures[i] for pictures in translated)]
        rows.append(SheetRow(label, (*left, *own[i * SAMPLES : (i + 1) * SAMPLES])))
    sheet = contact_sheet(rows, [*columns, *(f"sample {n + 1}" for n in range(SAMPLES))], caption)
    save_picture(sheet, path)


def _translations(engine: Engine, references: Sequence[tuple[str, Image]], N: int) -> list[Image | None]:
    settings = build_settings(
        Layer.of(
            "sheet", {"steps": STEPS, "seed": SEED, "method": {"name": "ilvr", "N": N, "range": [1.0, 0.1]}}
        )
    )
    asked = [Reference(str(n), to_tensor(picture), f"{n}") for n, (_, picture) in enumerate(references)]
    made: list[Image | None] = [None] * len(references)
    for event in engine.translate(asked, settings):
        if isinstance(event, SampleDone):
            made[int(event.sample.key)] = to_image(event.x)
    return made


def _own(engine: Engine, count: int) -> Iterator[Image]:
    """Unconditional samples, in batches of the engine."""
    settings = build_settings(Layer.of("sheet", {"steps": STEPS}))
    shape = (3, engine.image_size, engine.image_size)
    for start in range(0, count, engine.batch_size):
        batch = range(start, min(count, start + engine.batch_size))
        with NoiseStream([noise_seed(SEED, "sample", n) for n in batch], shape, engine.device) as noise:
            nothing = torch.zeros(len(batch), *shape, device=engine.device)
            context = Context(nothing, engine.schedule, noise)
            steps = settings.chain(engine.schedule)
            for done in sample(engine.denoiser, context, steps, Method(), DDPM(engine.variance)):
                x = done.x
        yield from (to_image(picture) for picture in x)
