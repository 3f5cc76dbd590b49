"""The flags of the published format that no tensor shows. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from ilvrctl.errors import ConfigError, WeightsError
from ilvrctl.presets import ModelPreset


@dataclass(frozen=True)
class HiddenFlags:
    """Flags of the published format that leave no trace in the tensors.

    ``num_head_channels`` wins over ``num_heads`` when both are given, as in the published code; None or -1
    means not given. ``num_heads_upsample`` is the number of heads in the decoder when it differs.
    ``theta``: the base of the frequencies that tell lucidrains' networks the level.
    Raises :class:`ConfigError` for a number below 1.
    """

    num_heads: int | None = None
    num_head_channels: int | None = None
    num_heads_upsample: int | None = None
    use_new_attention_order: bool = False
    theta: float = 10_000.0

    def __post_init__(self) -> None:
        for name in ("num_heads", "num_head_channels", "num_heads_upsample"):
            value = getattr(self, name)
            if value == -1:
                object.__setattr__(self, name, None)
            elif value is not None and value < 1:
                raise ConfigError(f"{name} is {value}: expected a whole number of at least 1, or -1 for none")

    @classmethod
    def of(cls, model: ModelPreset) -> HiddenFlags:
        """Those that a preset states."""
        return cls(
            num_heads=model.num_heads,
            num_head_channels=model.num_head_channels,
            num_heads_upsample=model.num_heads_upsample,
            use_new_attention_order=model.use_new_attention_order,
            theta=model.theta,
        )

    @property
    def known(self) -> bool:
        """Whether the number of heads can be told."""
        return self.num_heads is not None or self.num_head_channels is not None

    def heads(self, channels: int, *, decoder: bool = False) -> int:
        """Number of heads of an attention layer ``channels`` wide. Raises WeightsError if it cannot be."""
        count = self.num_heads_upsample if decoder and self.num_heads_upsample else self.num_heads
        if self.num_head_channels is None and count is None:
            raise WeightsError(
                "the tensors do not tell how many attention heads this network has",
                "`ilvrctl inspect FILE --probe` finds out; or give num_head_channels or num_heads (with "
                "use_new_attention_order if it applies) in the model's preset or by --set, for instance "
                "--set model.num_head_channels=64",
            )
        name, divisor = "num_head_channels", self.num_head_channels
        if divisor is None:
            name, divisor = "num_heads", count
        if not divisor or channels % divisor:
            raise WeightsError(
                f"{name}={divisor} does not divide the {channels} channels of an attention layer",
                f"change {name} in the model's preset or by --set",
            )
        return channels // divisor if name == "num_head_channels" else divisor
