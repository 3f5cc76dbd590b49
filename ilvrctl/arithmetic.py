"""What float32 is on a device, exact or TF32 with its ten bits of mantissa, and which kernels convolutions take.

The switches belong to the whole process. So they stand as stated only while something is computed, and are as the
caller had them before, after, and between two steps of a sampling.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

    from ilvrctl.choices import Fit

T = TypeVar("T")


@dataclass(frozen=True)
class Arithmetic:
    """How a network is computed.

    ``half``: its convolutions are in half precision; what of it stays in float32 may then be computed as TF32 on
    CUDA, which is as fine as fp16. Else (``--speed exact``, ``--precision fp32``) matrix products and convolutions
    are float32's own: by itself cuDNN takes TF32. And cuDNN is asked for kernels that give the same bits in every run.
    ``fixed_shapes``: in half precision cuDNN tries its kernels at the first call of each shape and takes the fastest,
    whichever that is today; that is for batches of one size.
    """

    half: bool = False
    fixed_shapes: bool = True

    @contextmanager
    def stated(self, device: torch.device) -> Iterator[None]:
        """The block in which it is so on a device, whatever the process is set to."""
        import torch

        cudnn: Any = torch.backends.cudnn
        before = _Switches.now()
        try:
            before.turn(self.half and device.type == "cuda")
            cudnn.benchmark, cudnn.deterministic = self._tries, not self.half
            yield
        finally:
            before.restore()

    @property
    def _tries(self) -> bool:
        return self.half and self.fixed_shapes

    def fitting(self, fit: Fit) -> Arithmetic:
        """It for pictures that are fitted so: those of sizes of their own have no fixed shape."""
        return replace(self, fixed_shapes=fit != "native")

    def record(self, device: str) -> dict[str, str]:
        """What it means on a kind of device, for the record of a result; nothing where the switches do nothing."""
        if device != "cuda":
            return {}
        kernels = "benchmark" if self._tries else "heuristics" if self.half else "deterministic"
        return {"float32": "tf32" if self.half else "ieee", "cudnn": kernels}


EXACT = Arithmetic()


def each_stated(made: Iterator[T], device: torch.device, arithmetic: Arithmetic = EXACT) -> Iterator[T]:
    """The same things, each made as stated; between two of them the switches are the caller's."""
    while True:
        with arithmetic.stated(device):
            try:
                one = next(made)
            except StopIteration:
                return
        yield one


@dataclass(frozen=True)
class _Switches:
    """As they are: those by which torch 2.9 and later know them, and the older ones, which cannot be read where a
    caller has set the newer ones in ways that they cannot say.
    """

    new: tuple[tuple[Any, str], ...]
    products: str | None
    convolutions: bool | None
    benchmark: bool
    deterministic: bool

    @classmethod
    def now(cls) -> _Switches:
        import torch

        backends: Any = torch.backends
        places = [
            (backends.cuda, "matmul"),
            *product((backends.cudnn, backends.mkldnn), ("matmul", "conv", "rnn")),
        ]
        holders: list[Any] = [getattr(place, name, None) for place, name in places]
        new = [(one, one.fp32_precision) for one in holders if hasattr(one, "fp32_precision")]
        products = convolutions = None
        with suppress(RuntimeError):
            products = torch.get_float32_matmul_precision()
        with suppress(RuntimeError):
            convolutions = backends.cudnn.allow_tf32
        cudnn = backends.cudnn
        return cls(tuple(new), products, convolutions, cudnn.benchmark, cudnn.deterministic)

    def turn(self, rough: bool) -> None:
        """TF32 on or off, by the older switches too where they can be put back."""
        self._older(None if self.products is None else "high" if rough else "highest", rough)
        for one, _ in self.new:
            one.fp32_precision = "tf32" if rough else "ieee"

    def restore(self) -> None:
        """As they were."""
        import torch

        self._older(self.products, self.convolutions)
        for one, value in self.new:
            if one.fp32_precision != value:
                one.fp32_precision = value
        torch.backends.cudnn.benchmark = self.benchmark
        torch.backends.cudnn.deterministic = self.deterministic

    def _older(self, products: str | None, convolutions: bool | None) -> None:
        import torch

        if products is not None:
            torch.set_float32_matmul_precision(products)
        if convolutions is not None and self.convolutions is not None:
            torch.backends.cudnn.allow_tf32 = convolutions
