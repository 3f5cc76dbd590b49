"""ILVR: Iterative Latent Variable Refinement (Choi et al., ICCV 2021, arXiv 2108.02938)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from ilvrctl.diffusion.lowpass import LowPass, check_factor
from ilvrctl.errors import UsageError
from ilvrctl.methods.base import Context, Method

if TYPE_CHECKING:
    from torch import Tensor

    from ilvrctl.diffusion.denoiser import Prediction
    from ilvrctl.diffusion.schedule import Step


@dataclass(frozen=True)
class ILVR(Method):
    """The low frequencies of every sample are those of the noised reference (Algorithm 1):

        ``x_s = x'_s + phi_N(y_s - x'_s)``,   ``x'_s ~ p(. | x_t)``,   ``y_s ~ q(. | y)``

    ``N``: the factor of phi; small stays close to the reference, large takes over only its colours and layout.
    ``kernel``: of phi, ``cubic`` as published; also ``linear``, ``box``, ``lanczos3``.
    ``range``: samples at levels ``high > s >= low`` are refined; whole numbers are original levels, numbers with a
    decimal point are fractions of T, so ``(1.0, 0.2)`` stops at level 200 of 1000 however many steps there are.
    Where the steps are so few that the first one jumps over ``low``, that one is refined, since the reference would
    not count otherwise; not under ``compat``.
    ``range_t``: the same in respaced steps, as the published flag counts them: the steps with more than
    ``range_t`` steps to go are refined. Takes the place of ``range`` where it is given; -1 refines the last too.
    ``reference_level``: the reference is noised to ``s``, the level of the sample, as in the paper; the published
    code (``compat: ilvr_adm``) noises it to ``t``, one level too high, which lowers its contrast by 0.2 % at 1000
    steps, 2.1 % at 100 and 9.4 % at 25.

    Under a sampler that adds no noise (DDIM with eta = 0) fresh noise in y_s would stay in the picture, so y_s is
    made with the network's own eps; this is the refinement of the clean estimate with eps kept.
    """

    name: ClassVar[str] = "ilvr"
    N: int = 8
    kernel: Literal["cubic", "linear", "box", "lanczos3"] = "cubic"
    range: tuple[int | float, int | float] = (1.0, 0.0)
    range_t: int | None = None
    reference_level: Literal["s", "t"] = "s"

    @property
    def low_pass(self) -> LowPass:
        """phi_N."""
        return LowPass(self.N, self.kernel)

    def refines(self, k: Step, T: int) -> bool:
        """Whether the sample that step k makes is refined, on a schedule of T levels."""
        if self.range_t is not None:
            return k.remaining > self.range_t
        high, low = (bound * T if isinstance(bound, float) else bound for bound in self.range)
        jumps_over = k.i == 0 and k.s < low <= k.t and self.reference_level == "s"
        return low <= k.s < high or jumps_over

    def check(self, size: int, steps: Sequence[Step], T: int) -> None:
        """UsageError when N does not divide the size or when no step at all would be refined."""
        check_factor(self.N, size)
        if not any(self.refines(k, T) for k in steps):
            what = f"range_t = {self.range_t}" if self.range_t is not None else f"range {self.range}"
            raise UsageError(
                f"{what} leaves none of the {len(steps)} steps conditioned, so the input would not be used",
                hint="--range-t -1 conditions every step; with more --steps, --range 1.0:0.2 the first 80 %",
            )

    def project(self, context: Context, x: Tensor, prediction: Prediction, k: Step) -> Tensor:
        """``x + phi(y_s - x)`` inside the range: phi is linear, so one application does."""
        if not self.refines(k, context.schedule.T):
            return x
        eps = context.noise() if context.stochastic else prediction.eps
        y_s = context.reference_at(k.s if self.reference_level == "s" else k.t, eps)
        return x + self.low_pass(y_s - x)

    def preview(self, reference: Tensor) -> Tensor:
        """phi_N of the reference."""
        return self.low_pass(reference)

    def describe(self) -> str:
        """For instance ``ILVR N=4, levels 1.0 to 0.2``."""
        until = (
            f"range_t {self.range_t}" if self.range_t is not None else "levels {} to {}".format(*self.range)
        )
        kernel = "" if self.kernel == "cubic" else f", {self.kernel}"
        published = ", reference at t" if self.reference_level == "t" else ""
        return f"ILVR N={self.N}{kernel}, {until}{published}"

    def preview_title(self) -> str:
        """For instance ``low-pass N=4``."""
        return f"low-pass N={self.N}"
