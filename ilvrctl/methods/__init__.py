"""The methods: what steers the sampling towards the reference picture, as pieces that are put together."""

from __future__ import annotations

from ilvrctl.methods.base import Context
from ilvrctl.methods.method import Method

__all__ = ["Context", "Method"]
