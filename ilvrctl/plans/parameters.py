"""The one table of parameters: a row for everything that can be asked for.

From its rows come the options of the commands, the keys of a jobs file with their JSON schema, the arguments of the
functions in :mod:`ilvrctl.api`, and the readers of their values. To add a flag is to add a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ilvrctl.choices import Fit, Precision, Speed
from ilvrctl.errors import UsageError
from ilvrctl.plans.values import (
    Kind,
    bounds,
    count,
    decimal,
    file,
    jumps,
    level,
    one_of,
    switch,
    whole,
    word,
    words,
)

Command = Literal["translate", "edit", "jobs", "batch", "train", "doctor", "inspect"]
"""Who knows a parameter: the commands, and the ``jobs`` of a jobs file."""

MAKING = frozenset[Command]({"translate", "edit", "jobs"})
_COMMANDS = frozenset[Command]({"translate", "edit"})
_EDIT = frozenset[Command]({"edit", "jobs"})
_RUNS = frozenset[Command]({"translate", "edit", "batch"})
_TRANSLATE = frozenset[Command]({"translate"})
_JOBS = frozenset[Command]({"translate", "jobs"})

COMMON = "Common options"
METHOD = "Method"
SAMPLING = "Sampling"
PICTURES = "Pictures"
MACHINE = "Machine"
OUTPUT = "Output"
EDITED = "What is edited"


@dataclass(frozen=True)
class Parameter:
    """A row: its ``name`` in jobs files and in Python, its ``kind`` of values, the dotted ``key`` of the setting that
    it gives, if any, and which commands know it.

    ``flags`` are its names on the command line (``--name`` where none are given), shown with ``metavar`` and ``help``
    in a ``panel``. ``default`` is what it is when it is not given, told as ``shown``. ``environment``: a variable
    that gives it. ``one``: a flag takes one value, no comma list.
    ``rival``: the parameter that says the same, and what both say. ``sets``: what a switch sets the setting to.
    """

    name: str
    help: str
    kind: Kind = word
    key: str = ""
    commands: frozenset[Command] = MAKING
    panel: str = COMMON
    flags: tuple[str, ...] = ()
    metavar: str = ""
    default: Any = None
    shown: str = ""
    environment: str = ""
    one: bool = False
    rival: tuple[str, str] | None = None
    sets: Any = None

    @property
    def flag(self) -> str:
        """What messages call it on the command line."""
        return self.spellings[0].partition("/")[0]

    @property
    def spellings(self) -> tuple[str, ...]:
        """All its names on the command line."""
        return self.flags or ("--" + self.name.replace("_", "-"),)

    @property
    def listed(self) -> bool:
        """Whether a flag may give several values."""
        return bool(self.key) and not self.one and self.kind is not switch


TABLE: tuple[Parameter, ...] = (
    Parameter("to", "Target domain: see [bold]ilvrctl presets[/].", flags=("--to", "-t"), metavar="NAME"),
    Parameter(
        "out",
        "Folder, file, or - for standard output.",
        commands=_COMMANDS,
        flags=("--out", "-o"),
        metavar="PATH",
        default="out",
    ),
    Parameter(
        "mode",
        "scribble: keep the photo, clean the scribbles. paint: a rough painting to a picture.",
        commands=frozenset({"edit"}),
        metavar="NAME",
        default="scribble",
    ),
    Parameter(
        "preset",
        "Settings by name (paint, scribble, ilvr_adm) or from a YAML file.",
        key="preset",
        panel=METHOD,
        metavar="NAME|FILE",
    ),
    Parameter(
        "method",
        "Method: ilvr, sddm, egsde, sdedit, sddm+egsde, ddib, cyclediffusion, or your own.",
        key="method.name",
        panel=METHOD,
        metavar="NAME,...",
    ),
    Parameter(
        "from",
        "Domain of the inputs, for methods with two models: ddib, cyclediffusion.",
        commands=_JOBS,
        panel=METHOD,
        metavar="NAME",
    ),
    Parameter(
        "compat",
        "Follow published code where it differs from the paper: ilvr_adm, sddm, egsde.",
        key="compat",
        commands=_JOBS,
        panel=METHOD,
        metavar="NAME",
    ),
    Parameter(
        "N",
        "Factor of the low-pass filter: small stays close to the input, large keeps only its colours.",
        whole(1),
        "method.N",
        flags=("--N", "-N"),
        metavar="N,...",
    ),
    Parameter(
        "samples",
        "Samples of every input.",
        whole(1),
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
        metavar="HIGH:LOW",
        rival=("range_t", "what is conditioned"),
    ),
    Parameter(
        "range_t",
        "Condition the steps with more than this many to go (respaced steps, as ILVR's range_t).",
        whole(-1),
        "method.range_t",
        panel=METHOD,
        metavar="STEPS",
    ),
    Parameter(
        "kernel",
        "Low-pass kernel: cubic, linear, box, lanczos3.",
        key="method.kernel",
        panel=METHOD,
        metavar="NAME",
    ),
    Parameter(
        "blocks",
        "Blocks a side whose statistics sddm holds: few leave much free.",
        whole(1),
        "method.blocks",
        panel=METHOD,
        metavar="N",
    ),
    Parameter(
        "start",
        "Begin from the noised input at this level: 0.8 of all, or 500. 1.0 is pure noise.",
        level,
        "method.start",
        panel=METHOD,
        metavar="LEVEL",
    ),
    Parameter(
        "repeats",
        "Passes, each from the noised output of the last (K of SDEdit and EGSDE).",
        whole(1),
        "method.repeats",
        panel=METHOD,
        metavar="N",
    ),
    Parameter(
        "resample",
        "Walk the last JUMP steps TIMES times, so that what is painted in joins its surroundings.",
        jumps,
        "method.resample",
        commands=_EDIT,
        panel=METHOD,
        metavar="JUMPxTIMES",
    ),
    Parameter(
        "set",
        "Any setting, for instance energies.dse.weight=500 or model.num_heads=4.",
        words,
        commands=_COMMANDS | {"inspect"},
        panel=METHOD,
        metavar="KEY=VALUE",
    ),
    Parameter(
        "sampler",
        "Sampler: ddpm, ddim, dpmpp_2m, dpmpp_2m_sde.",
        key="sampler.name",
        panel=SAMPLING,
        metavar="NAME,...",
    ),
    Parameter(
        "eta",
        "Noise of the ddim sampler, 0 to 1.",
        decimal(0, 1),
        "sampler.eta",
        panel=SAMPLING,
        metavar="ETA",
    ),
    Parameter(
        "variance",
        "Variance of the ddpm sampler: auto, learned, fixed_small, fixed_large.",
        key="sampler.variance",
        panel=SAMPLING,
        metavar="NAME",
    ),
    Parameter(
        "steps",
        "Sampling steps, spread evenly over the levels.",
        whole(1),
        "steps",
        metavar="N,...",
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
    Parameter(
        "class_label",
        "Class, for class-conditional models.",
        whole(0),
        "class_label",
        panel=SAMPLING,
        metavar="N",
    ),
    Parameter(
        "seed",
        "Noise for this seed; also ILVRCTL_SEED in the environment.",
        whole(),
        "seed",
        metavar="N,...",
        shown="0",
        environment="ILVRCTL_SEED",
    ),
    Parameter(
        "examples",
        "Also take the twelve example pictures that ship with ilvrctl.",
        switch,
        commands=_JOBS,
        default=False,
    ),
    Parameter(
        "sheet",
        "Contact sheet: input, low-pass, samples; a grid has one anyhow.",
        file,
        commands=_COMMANDS,
        metavar="FILE",
    ),
    Parameter(
        "preview",
        "Only draw mask, regions and what is kept of the picture; the model is not loaded.",
        file,
        commands=frozenset({"edit"}),
        metavar="FILE",
    ),
    Parameter(
        "mask",
        "A picture of the photo's size: white is edited, black is kept.",
        commands=frozenset({"edit"}),
        panel=EDITED,
        metavar="FILE",
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
    Parameter(
        "fit",
        "Make inputs square: crop, pad or stretch; or native: keep their size.",
        one_of(*get_args(Fit)),
        "fit",
        commands=_JOBS,
        panel=PICTURES,
        metavar="NAME",
    ),
    Parameter(
        "background",
        "Behind transparency and padding.",
        key="background",
        panel=PICTURES,
        metavar="COLOR",
    ),
    Parameter(
        "recursive",
        "Pictures of subfolders too.",
        switch,
        commands=_JOBS,
        panel=PICTURES,
        flags=("--recursive", "-r"),
        default=False,
    ),
    Parameter(
        "from_file",
        "Read input names from a file, - for standard input.",
        commands=_JOBS,
        panel=PICTURES,
        metavar="FILE",
    ),
    Parameter(
        "null",
        "Names in --from-file end with a zero byte.",
        switch,
        commands=_TRANSLATE,
        panel=PICTURES,
        flags=("-0", "--null"),
        default=False,
    ),
    Parameter(
        "device",
        "auto, cpu, cuda, cuda:1, mps.",
        commands=_RUNS | {"train", "doctor", "inspect"},
        panel=MACHINE,
        default="auto",
        environment="ILVRCTL_DEVICE",
    ),
    Parameter(
        "precision",
        "auto, fp32, bf16, fp16; also ILVRCTL_PRECISION in the environment.",
        one_of(*get_args(Precision)),
        "precision",
        commands=MAKING | {"train", "doctor"},
        panel=MACHINE,
        metavar="NAME",
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
        metavar="NAME",
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
        metavar="N",
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
        metavar="PART",
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
        commands=_RUNS,
        panel=MACHINE,
        metavar="N|auto",
        environment="ILVRCTL_BATCH_SIZE",
    ),
    Parameter(
        "compile",
        "torch.compile; by itself only on CUDA and for long jobs.",
        switch,
        commands=_RUNS,
        panel=MACHINE,
        flags=("--compile/--no-compile",),
        shown="where it pays",
    ),
    Parameter(
        "weights",
        "A checkpoint that you have: a file, or a folder of diffusers.",
        file,
        panel=MACHINE,
        metavar="FILE",
    ),
    Parameter(
        "from_weights",
        "A checkpoint of the inputs' kind.",
        file,
        commands=_JOBS,
        panel=MACHINE,
        metavar="FILE",
    ),
    Parameter("quality", "Of results in JPEG and WebP.", whole(1, 100), panel=OUTPUT, default=95),
    Parameter("gif", "An animation of every sample.", switch, panel=OUTPUT, default=False),
    Parameter(
        "overwrite",
        "Replace outputs made otherwise.",
        switch,
        commands=_RUNS,
        panel=OUTPUT,
        default=False,
    ),
    Parameter(
        "from_image",
        "Take target, settings and sample from a result of ilvrctl.",
        file,
        commands=_COMMANDS,
        panel=OUTPUT,
        metavar="FILE",
    ),
    Parameter(
        "dry_run",
        "Tell what would be done.",
        switch,
        commands=_RUNS | {"train"},
        panel=OUTPUT,
        default=False,
    ),
)
"""In the order in which several of them make a grid: the first varies slowest."""

SCREEN: tuple[Parameter, ...] = (
    Parameter("json", "JSON lines on stdout.", switch, panel=OUTPUT, default=False),
    Parameter(
        "quiet", "Only failures and warnings.", switch, panel=OUTPUT, flags=("--quiet", "-q"), default=False
    ),
    Parameter(
        "verbose", "More; -vv with tracebacks.", count, panel=OUTPUT, flags=("--verbose", "-v"), default=0
    ),
    Parameter("color", "auto, always or never.", panel=OUTPUT, metavar="WHEN", default="auto"),
)
"""What every command knows: how it is shown."""


def parameters_of(command: Command) -> dict[str, Parameter]:
    """The rows of a command, by name."""
    return {row.name: row for row in TABLE if command in row.commands}


def settings_of(command: Command) -> dict[str, Parameter]:
    """Those of them that give a setting."""
    return {name: row for name, row in parameters_of(command).items() if row.key}


def check_rivals(given: Mapping[str, Any], name_of: Callable[[Parameter], str]) -> None:
    """UsageError when two parameters are given of which one takes the place of the other.

    ``given``: what was given, by name; ``name_of``: what a message calls a parameter.
    """
    rows = {row.name: row for row in TABLE}
    for row in TABLE:
        if row.rival is not None and row.name in given and row.rival[0] in given:
            other, what = row.rival
            raise UsageError(
                f"{name_of(row)} and {name_of(rows[other])} both say {what}", hint="give one of them"
            )
