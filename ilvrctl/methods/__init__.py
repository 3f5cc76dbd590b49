"""The methods: what steers the sampling towards the reference picture."""

from __future__ import annotations

from ilvrctl.methods.base import Context, Method
from ilvrctl.methods.ilvr import ILVR

METHODS: dict[str, type[Method]] = {"ilvr": ILVR}

__all__ = ["ILVR", "METHODS", "Context", "Method"]
