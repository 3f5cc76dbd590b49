"""Averaged (EMA) weights beside raw ones: which are meant, and the names that say what they are."""

from __future__ import annotations

import re

AVERAGED, RAW = "averaged", "raw"
_MARK = re.compile(r"(?<![a-z])(ema|swa|avg|averaged?|average|shadow|polyak)(?![a-z])")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def is_averaged(name: str) -> bool:
    """Whether a key, a prefix or a folder's name says that what it holds are averaged weights."""
    return bool(_MARK.search(_CAMEL.sub("_", name).lower()))


def choice_note(taken: str, averaged: bool, others: list[str]) -> str:
    """What people should know where ``taken`` was chosen and there are ``others``."""
    kind = "averaged" if averaged else "raw"
    other = RAW if averaged and len(others) == 1 and not is_averaged(others[0]) else others[0]
    return (
        f"the {kind} weights are taken, {taken}; also there: {', '.join(others)} "
        f"(--set model.weights={other} takes these)"
    )
