"""The one table of parameters: a row for everything that can be asked for.

From its rows come the options of the commands, the keys of a jobs file with their JSON schema, the arguments of the
functions in :mod:`ilvrctl.api`, and the readers of their values. To add a flag is to add a row.
"""

from __future__ import annotations

from typing import get_args

from ilvrctl.choices import Mode, Precision, Speed
from ilvrctl.diffusion.lowpass import KERNELS
from ilvrctl.plans import offers, parameters_of_inputs
from ilvrctl.plans.parameter import (
    EDITED,
    MACHINE,
    MAKING,
    METHOD,
    RUNS,
    SAMPLING,
    SAVING,
    Command,
    Parameter,
)
from ilvrctl.plans.parameters_of_classes import CLASSES
from ilvrctl.plans.parameters_of_drawing import DRAWING
from ilvrctl.plans.parameters_of_methods import OF_PAPERS
from ilvrctl.plans.parameters_of_noise import NOISE
from ilvrctl.plans.parameters_of_pictures import JOBS, ROWS_OF_PICTURES
from ilvrctl.plans.parameters_of_runs import OF_RUNS
from ilvrctl.plans.values import (
    bounds,
    decimal,
    file,
    jumps,
    level,
    one_of,
    sheet,
    size,
    switch,
    whole,
    words,
)

_COMMANDS = frozenset[Command]({"translate", "edit"})
_EDIT = frozenset[Command]({"edit", "jobs"})
_ALL = frozenset[Command]({*RUNS, "jobs"})


TABLE: tuple[Parameter, ...] = (
    Parameter(
        "to", "Target domain: see [bold]ilvrctl presets[/].", flags=("--to", "-t"), choices=offers.targets
    ),
    Parameter(
        "out",
        "Folder, file, or - for standard output.",
        commands=_COMMANDS | {"draw"},
        flags=("--out", "-o"),
        metavar="PATH",
        shown="out; out/TARGET beside results of others",
    ),
    Parameter(
        "mode",
        "scribble: keep the photo, clean the scribbles. paint: a rough painting to a picture.",
        commands=_EDIT,
        default="scribble",
        choices=get_args(Mode),
    ),
    Parameter(
        "preset",
        "Settings by name (paint, scribble, ilvr_adm) or from a YAML file.",
        key="preset",
        panel=METHOD,
        metavar="NAME|FILE",
        choices=offers.presets,
    ),
    Parameter(
        "method",
        "Method: ilvr, sddm, egsde, sdedit, sddm+egsde, ddib, cyclediffusion, or your own.",
        key="method.name",
        panel=METHOD,
        choices=offers.methods,
    ),
    Parameter(
        "from",
        "Domain of the inputs, for methods with two models: ddib, cyclediffusion.",
        commands=JOBS,
        panel=METHOD,
        choices=offers.targets,
    ),
    *OF_PAPERS,
    Parameter(
        "N",
        "Factor of the low-pass filter: small stays close to the input, large keeps only its colours.",
        whole(1),
        "method.N",
        flags=("--N", "-N"),
    ),
    Parameter(
        "samples",
        "Samples of every input.",
        whole(1),
        commands=SAVING,
        flags=("--samples", "-n"),
        shown="1",
        rival=("from_image", "which samples are made"),
    ),
    Parameter(
        "range",
        "Condition these levels: 1000:200, or fractions 1.0:0.2, whatever the number of steps.",
        bounds,
        "method.range",
        panel=METHOD,
        rival=("range_t", "what is conditioned"),
    ),
    Parameter(
        "range_t",
        "Condition the steps with more than this many to go (respaced steps, as ILVR's range_t).",
        whole(-1),
        "method.range_t",
        panel=METHOD,
    ),
    Parameter(
        "kernel",
        "Low-pass kernel: cubic, linear, box, lanczos3, gaussian.",
        key="method.kernel",
        panel=METHOD,
        choices=KERNELS,
    ),
    Parameter(
        "blocks",
        "Blocks a side whose statistics sddm holds: few leave much free.",
        whole(1),
        "method.blocks",
        panel=METHOD,
    ),
    Parameter(
        "start",
        "Begin from the noised input at this level: 0.8 of all, or 500. 1.0 is pure noise.",
        level,
        "method.start",
        panel=METHOD,
    ),
    Parameter(
        "repeats",
        "Passes, each from the noised output of the last (K of SDEdit and EGSDE).",
        whole(1),
        "method.repeats",
        panel=METHOD,
    ),
    Parameter(
        "resample",
        "Walk the last JUMP steps TIMES times, so that what is painted in joins its surroundings.",
        jumps,
        "method.resample",
        commands=_EDIT,
        panel=METHOD,
    ),
    Parameter(
        "set",
        "Any setting, for instance energies.dse.weight=500 or model.num_heads=4.",
        words,
        commands=_COMMANDS | {"draw", "inspect"},
        panel=METHOD,
    ),
    Parameter(
        "sampler",
        "Sampler: ddpm, ddim, dpmpp_2m, dpmpp_2m_sde, heun (two calls a step).",
        key="sampler.name",
        panel=SAMPLING,
        choices=offers.samplers,
    ),
    Parameter("eta", "Noise of the ddim sampler, 0 to 1.", decimal(0, 1), "sampler.eta", panel=SAMPLING),
    Parameter(
        "variance",
        "Variance of the ddpm sampler: auto, learned, fixed_small, fixed_large.",
        key="sampler.variance",
        panel=SAMPLING,
        choices=("auto", "learned", "fixed_small", "fixed_large"),
    ),
    Parameter(
        "steps",
        "Sampling steps, spread evenly over the levels.",
        whole(1),
        "steps",
        rival=("timestep_respacing", "how many steps there are"),
    ),
    Parameter(
        "timestep_respacing",
        "Respacing as published: 100, ddim50, or 10,15,20.",
        key="timestep_respacing",
        panel=SAMPLING,
        metavar="TEXT",
        one=True,
    ),
    Parameter(
        "clip",
        "Keep clean estimates in the range of pictures.",
        switch,
        "clip_denoised",
        panel=SAMPLING,
        flags=("--clip/--no-clip",),
        shown="clip",
    ),
    *CLASSES,
    Parameter(
        "seed",
        "Noise for this seed; also ILVRCTL_SEED in the environment.",
        whole(),
        "seed",
        shown="0",
        environment="ILVRCTL_SEED",
    ),
    Parameter(
        "examples",
        "Also take the twelve example pictures that ship with ilvrctl.",
        switch,
        commands=JOBS,
        default=False,
    ),
    Parameter("sheet", "Contact sheet: input, low-pass, samples; grids have one.", sheet, commands=SAVING),
    Parameter(
        "preview",
        "Only draw mask, regions and what is kept of the picture; the model is not loaded.",
        file,
        commands=frozenset({"edit"}),
        in_shells=True,
    ),
    Parameter(
        "mask",
        "A picture of the photo's size: white is edited, black is kept.",
        commands=_EDIT,
        panel=EDITED,
        shown="where the two pictures differ",
        rival=("no_mask", "what is edited"),
    ),
    Parameter(
        "no_mask",
        "Edit all of the picture, as in the paper.",
        switch,
        "edit.mask",
        commands=_EDIT,
        panel=EDITED,
        default=False,
        sets=False,
    ),
    *ROWS_OF_PICTURES,
    *parameters_of_inputs.ROWS,
    Parameter(
        "device",
        "auto, cpu, cuda, cuda:1, mps.",
        commands=_ALL | {"draw", "train", "doctor", "inspect"},
        panel=MACHINE,
        default="auto",
        environment="ILVRCTL_DEVICE",
        choices=("auto", "cpu", "cuda", "mps"),
    ),
    Parameter(
        "precision",
        "auto, fp32, bf16, fp16; also ILVRCTL_PRECISION in the environment.",
        one_of(*get_args(Precision)),
        "precision",
        commands=MAKING | {"train", "doctor"},
        panel=MACHINE,
        shown="auto",
        environment="ILVRCTL_PRECISION",
        one=True,
    ),
    Parameter(
        "speed",
        "exact: fp32. fast: the hardware's own precision. turbo: few steps from the noised input by ddim, "
        "deep features reused. --steps, --sampler, --start, --precision and --set beside it win.",
        one_of(*get_args(Speed)),
        "speed",
        commands=MAKING | {"doctor"},
        shown="fast",
        one=True,
    ),
    Parameter(
        "threshold",
        "Differences above this, of 255, are scribbles: higher for noisy copies, lower for faint pens.",
        whole(1),
        "edit.threshold",
        commands=_EDIT,
        panel=EDITED,
        shown="20",
    ),
    Parameter(
        "grow",
        "Edit this far around the scribbles.",
        whole(0),
        "edit.grow",
        commands=_EDIT,
        panel=EDITED,
        metavar="PX",
        shown="1 % of the longer side; 0 with --mask",
    ),
    Parameter(
        "feather",
        "Fade into the photo over this many pixels more.",
        whole(0),
        "edit.feather",
        commands=_EDIT,
        panel=EDITED,
        metavar="PX",
        shown="1 % of the longer side",
    ),
    Parameter(
        "context",
        "What the model sees around an edited part, on each side, in sizes of that part.",
        decimal(0, 100),
        "edit.context",
        commands=_EDIT,
        panel=EDITED,
        shown="0.5",
    ),
    Parameter(
        "whole",
        "Show the model the whole picture, not a square around each edited part.",
        switch,
        "edit.whole",
        commands=_EDIT,
        panel=EDITED,
    ),
    Parameter(
        "batch_size",
        "Samples at a time, or auto: the fastest is measured; pixels do not depend on it.",
        size,
        commands=_ALL,
        panel=MACHINE,
        metavar="N|auto",
        environment="ILVRCTL_BATCH_SIZE",
        choices=("auto",),
    ),
    Parameter(
        "compile",
        "torch.compile, which takes minutes: for long jobs.",
        switch,
        commands=_ALL | {"draw"},
        panel=MACHINE,
        flags=("--compile/--no-compile",),
        shown="no",
    ),
    Parameter("weights", "A file, a diffusers folder, a model's name, or hf:user/repo.", file, panel=MACHINE),
    Parameter("from_weights", "A checkpoint of the inputs' kind.", file, commands=JOBS, panel=MACHINE),
    *NOISE,
    *OF_RUNS,
    *DRAWING,
)
"""In the order in which several of them make a grid: the first varies slowest."""


def parameters_of(command: Command) -> dict[str, Parameter]:
    """The rows of a command, by name."""
    return {row.name: row for row in TABLE if command in row.commands}
