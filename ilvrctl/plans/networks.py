"""The networks of a plan: which files, with which facts, and loading them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ilvrctl.presets import ModelPreset

if TYPE_CHECKING:
    from ilvrctl.engine import Engine


@dataclass(frozen=True)
class Networks:
    """The target's ``model`` in the file ``weights``, and that of the inputs' own kind where there is one.

    Plans with equal networks share one engine, and fill their batches together.
    """

    model: ModelPreset = field(default_factory=ModelPreset)
    weights: Path = Path()
    precision: str = "auto"
    source: ModelPreset | None = None
    source_weights: Path = Path()

    def load(self, *, device: str, batch_size: int | None = None, compiled: bool = False) -> Engine:
        """The engine; one network in it where both are the same. Errors as :meth:`Engine.load` has them."""
        from ilvrctl.engine import Engine

        def one(model: ModelPreset, weights: Path) -> Engine:
            return Engine.load(
                model,
                weights,
                device=device,
                precision=self.precision,
                batch_size=batch_size,
                compiled=compiled,
            )

        engine = one(self.model, self.weights)
        if self.source is None:
            return engine
        same = self.source_weights == self.weights and self.source == self.model
        return engine.with_source(engine if same else one(self.source, self.source_weights))
