"""Ways of editing a photo, as settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, get_args

from ilvrctl.choices import Mode
from ilvrctl.config import Layer
from ilvrctl.errors import UsageError, did_you_mean
from ilvrctl.plans.grid import Choice
from ilvrctl.sizes import AnySize, Size

if TYPE_CHECKING:
    from ilvrctl.plans.find_networks import FoundNetwork

PAINTINGS = 4
"""Samples of a painting, where nobody says how many."""


def way_of(network: FoundNetwork, mode: str, choices: Sequence[Choice] = (), *, masked: bool) -> Layer:
    """The settings of a way of editing, for the size of the model, or the first that the ``choices`` give.

    UsageError for a mode that there is not, and where the size is not known before the model is loaded.
    """
    known: dict[str, Mode] = {name: name for name in get_args(Mode)}
    if mode not in known:
        raise UsageError(f"unknown mode {mode!r}; known: {', '.join(known)}", hint=did_you_mean(mode, known))
    asked = (option.value for choice in choices if choice.key == "picture_size" for option in choice.options)
    size = next(asked, network.model.image_size)
    if size is None:
        raise UsageError(
            f"{network.weights.name} does not tell its picture size", hint="add --set model.image_size=256"
        )
    return mode_layer(known[mode], size, masked=masked)


def mode_layer(mode: Mode, size: AnySize, *, masked: bool) -> Layer:
    """The settings of a way of editing, for a model of ``size`` pixels.

    ``scribble``: N = 8 at 256 px; not ``masked``, as in the paper, levels 1000 to 200, else down to where the
    target says. ``paint``: a rough painting as a whole, N = 64 at 256 px, conditioned at all steps (Choi et al.,
    ICCV 2021).
    """
    if mode == "paint":
        method = {"name": "ilvr", "N": _scaled(64, size), "range": [1.0, 0.0]}
        return Layer.of("--mode paint", {"method": method, "edit": {"mask": False}})
    method = {"name": "ilvr", "N": _scaled(8, size), **({} if masked else {"range": [1.0, 0.2]})}
    return Layer.of("--mode scribble", {"method": method, "edit": {}})


def _scaled(N: int, size: AnySize) -> int:
    """The factor that is N at 256 px, or the next smaller one, from 2 up, that divides the size."""
    sides = Size.of(size)
    return next(n for n in range(max(2, N * min(sides) // 256), 0, -1) if sides.fits(n))
