"""The plan of a translation: which results, and which are there already. Without torch or the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ilvrctl.diffusion.schedule import Schedule
from ilvrctl.errors import InputError, UsageError
from ilvrctl.images.geometry import parse_color
from ilvrctl.jobs.digest import sha256_hex, weights_sha256
from ilvrctl.jobs.outputs import Output, Status, check_places, check_sheet
from ilvrctl.jobs.places import exists, real
from ilvrctl.jobs.record import Recipe, is_sheet_of
from ilvrctl.presets import ModelPreset
from ilvrctl.settings import Settings

_NETWORK_FACTS = (
    "image_size",
    "num_heads",
    "num_head_channels",
    "num_heads_upsample",
    "use_new_attention_order",
    "noise_schedule",
    "diffusion_steps",
    "rescale_timesteps",
    "predicts",
    "variance",
)
"""Fields of a model preset that change what the network computes or how it is used."""


@dataclass(frozen=True)
class Plan:
    """All results of a job, in the order of the inputs, and the contact sheet of them, if any."""

    outputs: tuple[Output, ...]
    settings: Settings
    model: ModelPreset
    weights_sha256: str
    target: str | None = None
    sheet: Path | None = None

    @cached_property
    def identity(self) -> str:
        """sha256 of everything but the inputs that decides the pixels."""
        return self.settings.identity(
            {"weights": self.weights_sha256, **self.network_facts(), **self.energy_networks()}
        )

    @property
    def pending(self) -> tuple[Output, ...]:
        """The outputs still to be made."""
        return tuple(output for output in self.outputs if output.status == "to do")

    def energy_networks(self) -> dict[str, Any]:
        """sha256 of the networks that energies bring, by the energy's name; WeightsError when one is not here."""
        found = {name: weights_sha256(path) for name, path in self.settings.method.weights().items()}
        return {"energies": found} if found else {}

    def network_facts(self) -> dict[str, Any]:
        """What the preset adds to the tensors, as JSON values."""
        return {name: getattr(self.model, name) for name in _NETWORK_FACTS}

    def schedule(self) -> Schedule:
        """The levels that the network was trained on."""
        return Schedule.named(self.model.noise_schedule, self.model.diffusion_steps)


def make_plan(plan: Plan, *, overwrite: bool) -> Plan:
    """The plan, checked as far as is possible before the network is loaded, with what is done marked.

    Done is a file made from the same input bytes with the same settings and weights. UsageError for settings
    that cannot work, for an output that is an input (inputs are never touched), and, unless ``overwrite``,
    naming the files that are there but were made otherwise.
    """
    parse_color(plan.settings.background)
    if plan.model.image_size is not None:
        plan.settings.check(plan.schedule(), plan.model.image_size)
    files = [file for output in plan.outputs for file in output.files]
    if plan.sheet is not None:
        check_sheet(plan.sheet)
        if real(plan.sheet) in {real(file) for file in files}:
            raise UsageError(f"--sheet {plan.sheet} is also the name of a result", hint="choose another name")
        files.append(plan.sheet)
    check_places(files, {o.item.path for o in plan.outputs if o.item.path is not None})
    judged = [replace(output, status=_judge(output, plan.identity)) for output in plan.outputs]
    if not overwrite:
        _refuse_taken(plan, judged)
    pending = (replace(o, status="to do") if o.status == "taken" else o for o in judged)
    return replace(plan, outputs=tuple(pending))


def _judge(output: Output, identity: str) -> Status:
    """Done when all files are there and are what the plan would make; taken when they are something else.

    A result without its animation was made halfway, and one whose input cannot be read fails by itself.
    """
    there = [file for file in output.files if exists(file)]
    if not there:
        return "to do"
    ours = _is_ours(output, identity)
    if ours is False:
        return "taken"
    return "done" if ours and there == output.files else "to do"


def _refuse_taken(plan: Plan, judged: Sequence[Output]) -> None:
    """UsageError naming the files that are in the way."""
    taken = [str(file) for o in judged if o.status == "taken" for file in o.files if exists(file)]
    if plan.sheet is not None and exists(plan.sheet) and not is_sheet_of(plan.sheet, plan.identity):
        taken.append(str(plan.sheet))
    if taken:
        more = f" and {len(taken) - 3} more" if len(taken) > 3 else ""
        raise UsageError(
            f"{', '.join(taken[:3])}{more} {'are' if len(taken) > 1 else 'is'} there already, made from "
            "another input or with other settings",
            hint="--overwrite, or another name",
        )


def _is_ours(output: Output, identity: str) -> bool | None:
    """Whether the file is the result that the plan would make; None when its input cannot be read."""
    try:
        digest = sha256_hex(output.item.read())
    except InputError:
        return None
    try:
        recipe = Recipe.read(output.path.read_bytes(), output.path.name) if output.path is not None else None
    except (InputError, OSError):
        return False
    found = recipe and (recipe.identity, recipe.sample, recipe.input_sha256)
    return found == (identity, output.sample, digest)
