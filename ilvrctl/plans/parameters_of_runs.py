"""Rows of the table of parameters (:mod:`ilvrctl.plans.parameters`): what is written, and whether what is planned is
carried out."""

from __future__ import annotations

from ilvrctl.plans.parameter import OUTPUT, RUNS, SAVING, Parameter
from ilvrctl.plans.values import file, one_of, switch, whole

OF_RUNS: tuple[Parameter, ...] = (
    Parameter(
        "ext",
        "Format of results: png, jpg, webp.",
        one_of("png", "jpg", "webp"),
        commands=SAVING,
        panel=OUTPUT,
        default="png",
    ),
    Parameter(
        "quality", "Of results in JPEG and WebP.", whole(1, 100), commands=SAVING, panel=OUTPUT, default=95
    ),
    Parameter("gif", "An animation of every sample.", switch, commands=SAVING, panel=OUTPUT, default=False),
    Parameter(
        "overwrite",
        "Replace outputs made otherwise.",
        switch,
        commands=RUNS | {"jobs"},
        panel=OUTPUT,
        default=False,
    ),
    Parameter(
        "from_image",
        "Take target, settings and sample from a result of ilvrctl.",
        file,
        commands=SAVING,
        panel=OUTPUT,
    ),
    Parameter(
        "dry_run",
        "Tell what would be done.",
        switch,
        commands=RUNS | {"train"},
        panel=OUTPUT,
        default=False,
        in_shells=True,
    ),
    Parameter(
        "watch",
        "Go on with what comes into the folder, until Ctrl-C.",
        switch,
        commands=frozenset({"translate"}),
        panel=OUTPUT,
        default=False,
    ),
    Parameter(
        "estimate",
        "With --dry-run: load the model and time some steps.",
        switch,
        commands=RUNS,
        panel=OUTPUT,
        default=False,
        in_shells=True,
    ),
)
