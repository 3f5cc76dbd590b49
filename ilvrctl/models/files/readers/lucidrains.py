"""lucidrains' denoising-diffusion-pytorch, 2.0 and later: a Trainer's file, a GaussianDiffusion, or a bare Unet.

All sizes follow from the tensors, but not ``theta``, the base of the frequencies that tell the level. A
GaussianDiffusion keeps its betas, and the weight of its loss by level, whose shape tells the objective; a
Trainer adds its version. Of a bare Unet schedule and objective are not told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ilvrctl.diffusion.schedule import recognise
from ilvrctl.errors import WeightsError
from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.architecture.lucidrains import Attends, LucidrainsArchitecture
from ilvrctl.models.architecture.shapes import Shapes
from ilvrctl.models.files.readers.base import TRAINING, File, Reader
from ilvrctl.models.files.stated import UNKNOWN, checked

if TYPE_CHECKING:
    from ilvrctl.models.trunk_network import HalfPrecision


def _build(architecture: LucidrainsArchitecture) -> HalfPrecision:
    from ilvrctl.models.lucidrains import LucidrainsUnet

    return LucidrainsUnet(architecture)


def _infer(shapes: Shapes, hidden: HiddenFlags, file: File) -> LucidrainsArchitecture:
    if "time_mlp.0.weights" in shapes:
        raise WeightsError(
            "a Unet with a learned or random embedding, which the continuous-time diffusions of its package "
            "tell the noise: these cannot be driven",
            "networks trained with its GaussianDiffusion can be read",
        )
    levels = 1 + max(shapes.indices("downs."))
    into = shapes.shape("init_conv.weight", 4)[1]
    out = shapes.shape("final_conv.weight", 4)[0]
    widths = [shapes.shape(f"downs.{i}.0.block1.proj.weight", 4)[1] for i in range(levels)]
    architecture = LucidrainsArchitecture(
        in_channels=into,
        out_channels=out,
        width=shapes.shape("time_mlp.1.weight", 2)[1],
        widths=(*widths, shapes.shape("mid_block1.block1.proj.weight", 4)[1]),
        attention=tuple(_attends(shapes, f"downs.{i}.2") for i in range(levels)),
        middle=_attends(shapes, "mid_attn"),
        self_condition=into == 2 * out or (into == out and into in (2, 6, 8)),
        theta=hidden.theta,
    )
    shapes.compare(architecture.parameter_shapes())
    return architecture


def _attends(shapes: Shapes, name: str) -> Attends:
    _, heads, first, second = shapes.shape(f"{name}.mem_kv", 4)
    full = f"{name}.to_out.weight" in shapes
    return Attends(full, heads, second if full else first, first if full else second)


def _facts(architecture: LucidrainsArchitecture) -> dict[str, object]:
    return {
        "dim": architecture.width,
        "widths": architecture.widths,
        "full_attn": tuple(plan.full for plan in architecture.attention),
        "attn_heads": tuple(plan.heads for plan in architecture.attention),
        "attn_dim_head": tuple(plan.channels for plan in architecture.attention),
        "self_condition": architecture.self_condition,
        "channels": architecture.channels,
        "in_channels": architecture.in_channels,
        "out_channels": architecture.out_channels,
        "downsample_factor": architecture.downsample_factor,
        "learn_sigma": architecture.learns_variance,
    }


def _stated(file: File) -> dict[str, Any]:
    """How few steps are spread, and where the file is of a GaussianDiffusion, its schedule and objective."""
    facts: dict[str, Any] = {"noise_schedule": UNKNOWN, "predicts": UNKNOWN}
    facts |= {"timestep_spacing": "trailing", "variance": "fixed_small"}
    betas, weight = file.numbers("betas"), file.numbers("loss_weight")
    if betas:
        facts |= recognise(checked(file.path, {"betas": betas})["betas"])
    if betas and len(weight) == len(betas):
        facts["predicts"] = _objective(file, betas, weight)
    return checked(file.path, facts)


def _objective(file: File, betas: Sequence[float], weight: Sequence[float]) -> str:
    """What is predicted: the loss is weighted by min(snr, gamma) over snr, 1 or snr + 1 for eps, x0 or v."""
    abar, rows = 1.0, []
    for beta, w in zip(betas, weight, strict=True):
        abar *= 1 - beta
        snr = abar / (1 - abar) if abar < 1 else 0.0
        if 1e-6 < snr < 1e6:  # where neither has lost its digits
            rows.append((snr, w))
    for predicts, factor in (("eps", lambda snr: snr), ("x0", lambda snr: 1.0), ("v", lambda snr: snr + 1)):
        clipped = [w * factor(snr) for snr, w in rows]
        gamma = max(clipped, default=0.0)
        if rows and all(
            abs(c - min(snr, gamma)) < 1e-3 * min(snr, gamma)
            for (snr, _), c in zip(rows, clipped, strict=True)
        ):
            return predicts
    raise WeightsError(
        f"{file.path}: the weights of its loss belong to none of the objectives pred_noise, pred_x0 and pred_v",
        "give what it predicts: --set model.predicts=v (or eps, x0)",
    )


READER = Reader(
    "network of lucidrains' denoising-diffusion-pytorch",
    _infer,
    _build,
    _facts,
    unknown=(*TRAINING, "theta"),
    stated=_stated,
)
