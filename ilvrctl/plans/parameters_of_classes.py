"""Rows of the table of parameters: classes, and what guides to them."""

from __future__ import annotations

from ilvrctl.plans import offers
from ilvrctl.plans.parameter import SAMPLING, Parameter
from ilvrctl.plans.values import decimal, file, label

_GUIDE = "method.energies.classifier"

CLASSES: tuple[Parameter, ...] = (
    Parameter(
        "class_label",
        "Class, for class-conditional models: its number, its name of ImageNet, random (drawn for each), or none.",
        label,
        "class_label",
        panel=SAMPLING,
    ),
    Parameter(
        "guide",
        "A classifier of noised pictures that guides to the class: a name, or a file.",
        file,
        f"{_GUIDE}.model",
        panel=SAMPLING,
        choices=offers.classifiers,
    ),
    Parameter(
        "guide_scale", "How much it does.", decimal(0, 1000), f"{_GUIDE}.weight", panel=SAMPLING, shown="1"
    ),
)
