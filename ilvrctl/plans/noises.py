"""Noise in files as inputs: which files, the settings that start from them, and whether these go together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ilvrctl.config import Layer
from ilvrctl.diffusion.matching import check_noise, check_noises_of_steps
from ilvrctl.errors import InputError, UsageError
from ilvrctl.models.files.noise_file import SUFFIX, Noise, noise_facts, read_noise
from ilvrctl.plans.grid import Variant, naming
from ilvrctl.plans.inputs import Item
from ilvrctl.plans.places import is_folder
from ilvrctl.plans.plan import Plan
from ilvrctl.text import visible

FROM_NOISE = Layer.of("--from-noise", {"method": {"encoder": {"given": True}}})
"""What starting from noise means for settings."""


def items_in(place: Path, *, recursive: bool) -> tuple[Item, ...]:
    """The noises in a folder, and below it where ``recursive``, or in one file. UsageError where there are none."""
    if not is_folder(place):
        return (Item(visible(str(place)), _stem(place.name), place, noise=True),)
    found = sorted(place.rglob(f"*{SUFFIX}") if recursive else place.glob(f"*{SUFFIX}"))
    if not found:
        deeper = not recursive and next(place.rglob(f"*{SUFFIX}"), None) is not None
        hint = "its subfolders have some: add --recursive" if deeper else "--save-noise writes them"
        raise UsageError(f"there is no noise (*{SUFFIX}) in {place}", hint)
    return tuple(
        Item(str(file), str(file.relative_to(place).parent / _stem(file.name)), file, noise=True)
        for file in found
    )


def items_of(noises: Sequence[Noise]) -> list[Item]:
    """Noises in memory as inputs."""
    return [
        Item(f"noise {n}", f"noise-{n}", data=noise.to_bytes(), where=f"noise {n}", noise=True)
        for n, noise in enumerate(noises, 1)
    ]


def _stem(name: str) -> str:
    return name.removesuffix(SUFFIX) if name.endswith(SUFFIX) else Path(name).stem


def check_keeping(plan: Plan) -> None:
    """UsageError where noise is to be kept and a method finds none."""
    if any(output.noise is not None for output in plan.outputs):
        check_finding(plan.variants)


def check_finding(variants: Sequence[Variant]) -> None:
    """UsageError for settings that find no noise of their input."""
    for variant in variants:
        encoder = variant.settings.method.encoder
        if encoder.models != 2 or variant.settings.edit is not None:
            what = "starts from noise already" if encoder.given else "finds no noise of the input"
            raise naming(
                variant.label,
                UsageError(
                    f"--save-noise: {variant.settings.method.name} {what}",
                    hint="--from NAME with --method ddib or cyclediffusion finds it",
                ),
            )


def check_noises(plan: Plan) -> None:
    """UsageError for noise that does not go with the chain of a variant; what cannot be read fails by itself."""
    given = [(n, variant) for n, variant in enumerate(plan.variants) if variant.settings.method.encoder.given]
    for number, variant in given:
        for output in plan.outputs:
            if output.variant == number and output.status == "to do":
                _check(plan, variant, output.item)


def _check(plan: Plan, variant: Variant, item: Item) -> None:
    if not item.noise:
        raise naming(
            variant.label, UsageError(f"{item.name} is no noise to start from", hint="--from-noise FOLDER")
        )
    try:
        facts = noise_facts(item.path) if item.path is not None else read_noise(item.read(), item.name).facts
    except InputError:
        return
    settings, schedule = variant.settings, plan.schedule()
    try:
        chain = settings.chain(schedule)
        check_noise(facts.alphas, chain, schedule)
        if settings.method.encoder.finds == "noises":
            check_noises_of_steps(facts.alphas if facts.noises else (), chain)
    except UsageError as error:
        raise naming(variant.label, UsageError(f"{item.name}: {error.message}", error.hint)) from None
    size = plan.model.image_size
    if size is not None and settings.fit != "native" and facts.shape[1:] != (size, size):
        _, height, width = facts.shape
        raise naming(
            variant.label,
            UsageError(
                f"{item.name} is noise of {width} x {height} pixels, and {plan.model.name} makes pictures of {size}: "
                "noise cannot be resized and stay noise",
                hint="a target of the same size",
            ),
        )
