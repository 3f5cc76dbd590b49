"""ilvrctl from Python: what the commands do, as functions, and a model in memory.

Names and values of parameters are those of the command line's options (:mod:`ilvrctl.plans.parameters`), and so are
the errors, as exceptions: :class:`~ilvrctl.errors.IlvrctlError` and its kinds. Nothing here prints, exits, reads the
terminal or handles signals. torch is imported by the first call that needs it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ilvrctl.errors import IlvrctlError, UsageError
from ilvrctl.events import ItemFailed, JobEvent, Skipped, Written
from ilvrctl.work.machine import Machine, Tell, carry_out

if TYPE_CHECKING:
    from PIL.Image import Image

    from ilvrctl.diffusion.denoiser import Denoiser
    from ilvrctl.engine import Engine
    from ilvrctl.evaluation.result import Evaluation
    from ilvrctl.plans.asked import Asked
    from ilvrctl.plans.find_networks import FoundNetworks
    from ilvrctl.plans.inputs import Item
    from ilvrctl.plans.outputs import Destination
    from ilvrctl.plans.plan import Plan

Progress = Tell
"""Is told of everything that happens, as the screen of the commands is."""
Picture = Any
"""A path, the bytes of a picture file, a PIL picture, numpy (H, W) or (H, W, C) of uint8 or of floats from 0 to 1, or
torch (C, H, W) in [-1, 1]."""


@dataclass(frozen=True)
class Result:
    """What became of one sample of an input.

    ``state``: ``done``, ``skipped`` (it was there already) or ``failed`` with its ``error``. ``path``: its file, or
    None where nothing is written. ``changes``: the settings that tell it from others of a grid.
    """

    input: str
    state: Literal["done", "skipped", "failed"]
    sample: int | None = None
    path: Path | None = None
    seconds: float = 0.0
    error: IlvrctlError | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    data: bytes | None = field(default=None, repr=False)

    @cached_property
    def _bytes(self) -> bytes:
        if self.error is not None:
            raise self.error
        if self.data is not None:
            return self.data
        assert self.path is not None
        return self.path.read_bytes()

    @property
    def image(self) -> Image:
        """The picture. The result's error where it failed."""
        from ilvrctl.images.io import open_picture

        return open_picture(self._bytes, self.input)

    @property
    def record(self) -> dict[str, Any]:
        """How it was made: the record in its file, from which ``from_image`` makes it again."""
        import json

        from ilvrctl.images.metadata import read_record

        found: dict[str, Any] = json.loads(read_record(self._bytes, self.input))
        return found


def translate(
    inputs: str | Path | Picture | Sequence[Any],
    *,
    to: str | None = None,
    weights: str | Path | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    **parameters: Any,
) -> Generator[Result, None, None]:
    """Pictures in, pictures of the target domain out, as ``ilvrctl translate`` does.

    ``inputs``: pictures (:data:`Picture`), folders, or a sequence of both. With ``out``, a folder or a file, results
    are files, and what is there already is not made again; without, they are pictures only. ``parameters``: those of
    the command, with text or values (``N=4``, ``N=[2, 4]`` for a grid, ``range=(1.0, 0.2)``, ``device="cpu"``).
    Everything is checked by the call itself; the results come as they are made, and closing the iterator stops.

    Raises UsageError for what cannot be meant, WeightsError for weights that are not here. An input that cannot be
    read is a failed result.

    >>> import ilvrctl
    >>> for result in ilvrctl.translate("cats/", to="emoji3d", N=4, out="out/"):  # doctest: +SKIP
    ...     print(result.path, result.seconds)
    """
    from ilvrctl.plans.asked import asked_by_values
    from ilvrctl.plans.request import translation

    asked = asked_by_values("translate", {"to": to, "weights": weights, **parameters})
    plan = translation(asked, _inputs(inputs), _destination(out))
    return _results(plan, asked, progress)


def edit(
    photo: Picture,
    scribbled: Picture | None = None,
    *,
    mask: Picture | None = None,
    to: str | None = None,
    weights: str | Path | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    **parameters: Any,
) -> Generator[Result, None, None]:
    """Edit a photo at its own size, as ``ilvrctl edit`` does: where ``scribbled`` differs, or ``mask`` is white.

    Pictures and parameters as for :func:`translate`; ``mode`` is ``scribble`` or ``paint``.

    Raises UsageError for pictures of different sizes and for what cannot be meant, WeightsError for weights that are
    not here.
    """
    from ilvrctl.plans.asked import asked_by_values
    from ilvrctl.plans.request import edit as editing

    asked = asked_by_values("edit", {"to": to, "weights": weights, **parameters})
    first, *others = (
        None if one is None else _input(one, n) for n, one in enumerate((photo, scribbled, mask))
    )
    assert first is not None
    plan = editing(asked, (first, others[0], others[1]), _destination(out))
    return _results(plan, asked, progress)


def batch(
    jobs: str | Path | Mapping[str, Any],
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    retry_failed: bool = False,
    max_failures: int | None = None,
    shard: tuple[int, int] = (1, 1),
    progress: Progress | None = None,
    **machine: Any,
) -> Generator[Result, None, None]:
    """Carry out the jobs of a file, or of a mapping with the same keys, as ``ilvrctl batch`` does.

    ``shard``: (3, 16) makes the third of sixteen parts. ``machine``: the fields of :class:`Machine`.

    Raises UsageError for the first mistake, with its line.
    """
    from ilvrctl.plans.jobs import plans_of
    from ilvrctl.work.batches import divide

    plans, past = plans_of(
        jobs if isinstance(jobs, Mapping) else Path(jobs),
        None if out is None else Path(out),
        overwrite=overwrite,
        retry=retry_failed,
    )

    chosen, parts = Machine(**machine), divide(plans, shard)

    def begin(aside: Tell) -> Generator[JobEvent, None, None]:
        return carry_out(parts, chosen, past=past, shard=shard, max_failures=max_failures, aside=aside)

    return _told(begin, progress)


def evaluate(
    *results: str | Path,
    source: str | Path | None = None,
    truth: str | Path | None = None,
    against: str | Path | None = None,
    device: str = "auto",
    progress: Callable[[str, int, int], None] = lambda *_: None,
    **how: Any,
) -> Evaluation:
    """Measure folders of results, as ``ilvrctl eval`` does: against the inputs, the true results, or real pictures.

    ``how``: the other fields of :class:`ilvrctl.evaluation.evaluate.Order`. ``progress`` is told what is
    done, how much of it, of how much. The result has ``.record()``, and :func:`ilvrctl.evaluation.report.page` draws
    it.

    Raises UsageError for folders that do not go together, MissingExtraError for features that are not installed.
    """
    from ilvrctl.devices import choose_device
    from ilvrctl.evaluation.evaluate import Order
    from ilvrctl.evaluation.evaluate import evaluate as measure

    sides = {"source": source, "truth": truth, "against": against}
    places: dict[str, Any] = {name: Path(side) for name, side in sides.items() if side is not None}
    asked = Order(tuple(map(Path, results)), **places, **how)
    return measure(asked, choose_device(device), progress)


def load(
    name_or_file: str | Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | None = None,
    **facts: Any,
) -> Model:
    """A model in memory: a target or model by its name, or a checkpoint file with ``facts`` that it does not tell.

    Raises UsageError for an unknown name, WeightsError for weights that are not here or broken, DeviceError for a
    device that is not there.

    >>> import ilvrctl
    >>> emoji = ilvrctl.load("emoji3d", device="cpu")
    >>> [picture] = emoji.translate([ilvrctl.examples()[0]], steps=2, seed=7)
    >>> picture.size
    (64, 64)
    """
    from ilvrctl.config import Layer
    from ilvrctl.plans.check import networks_of
    from ilvrctl.plans.find_networks import NetworksAsked, find_networks

    path = Path(name_or_file)
    file = (
        isinstance(name_or_file, Path)
        or path.exists()
        or path.suffix.lower() in (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
    )
    given = Layer.of("load()", {"model": facts}) if facts else Layer({})
    asked = (
        NetworksAsked(weights=path, facts=given) if file else NetworksAsked(str(name_or_file), facts=given)
    )
    networks = find_networks(asked)
    engine = networks_of(networks, precision).load(device=device, batch_size=batch_size)
    return Model(networks, engine, precision)


def examples() -> list[Path]:
    """The example pictures that ship with ilvrctl."""
    from ilvrctl import paths

    return sorted(paths.EXAMPLES.glob("*.png"))


class Model:
    """A network in memory, by :func:`load`; several threads may use it, one call at a time runs.

    ``with`` lets go of it at the end.
    """

    def __init__(self, networks: FoundNetworks, engine: Engine, precision: str) -> None:
        self._networks, self._precision = networks, precision
        self._engine: Engine | None = engine
        self._lock = threading.Lock()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the network's memory."""
        self._engine = None

    @property
    def engine(self) -> Engine:
        """The engine, for loops of one's own. UsageError once it is closed."""
        if self._engine is None:
            raise UsageError("this model is closed", hint="ilvrctl.load(...) loads it again")
        return self._engine

    @property
    def facts(self) -> dict[str, Any]:
        """What is known of the network, under the names of a model preset."""
        from ilvrctl.plans.plan import network_facts

        return network_facts(self._networks.target.model)

    @property
    def denoiser(self) -> Denoiser:
        """The network as (x, step) -> prediction, for loops of one's own; its module is ``.network``."""
        return self.engine.denoiser

    def translate(
        self,
        images: Sequence[Picture],
        *,
        as_tensor: bool = False,
        progress: Progress | None = None,
        **parameters: Any,
    ) -> list[Any]:
        """Pictures of the target domain, those of the first image first; nothing is written.

        ``images`` as for :func:`translate`. PIL pictures, or with ``as_tensor`` float32 (3, H, W) in [-1, 1]. Raises
        the first error of an image.
        """
        from ilvrctl.plans.request import translation

        asked = self._asked("translate", parameters)
        inputs = [_input(image, n) for n, image in enumerate(images)]
        plan = translation(asked, inputs, _destination(None), networks=self._networks)
        return self._pictures(plan, as_tensor, progress)

    def edit(
        self,
        photo: Picture,
        scribbled: Picture | None = None,
        *,
        mask: Picture | None = None,
        as_tensor: bool = False,
        progress: Progress | None = None,
        **parameters: Any,
    ) -> list[Any]:
        """The samples of an edited photo; pictures as for :func:`edit`, nothing is written."""
        from ilvrctl.plans.request import edit as editing

        asked = self._asked("edit", parameters)
        first, *others = (
            None if one is None else _input(one, n) for n, one in enumerate((photo, scribbled, mask))
        )
        assert first is not None
        plan = editing(asked, (first, others[0], others[1]), _destination(None), networks=self._networks)
        return self._pictures(plan, as_tensor, progress)

    def sample(self, n: int = 1, *, seed: int = 0, steps: int = 100, as_tensor: bool = False) -> list[Any]:
        """Pictures of the domain out of nothing but noise: the first ``n`` of the ``seed``."""
        from ilvrctl.images.tensors import to_image

        with self._lock:
            found = list(self.engine.unconditional(n, seed=seed, steps=steps))
        return found if as_tensor else [to_image(x) for x in found]

    def _asked(self, command: Literal["translate", "edit"], parameters: Mapping[str, Any]) -> Asked:
        from ilvrctl.plans.asked import asked_by_values

        for name in ("to", "weights", "from", "from_weights", "from_image", "device", "compile"):
            if name in parameters or f"{name}_" in parameters:
                raise UsageError(f"{name} belongs to ilvrctl.load, or to ilvrctl.{command}")
        return asked_by_values(command, {"precision": self._precision, **parameters})

    def _pictures(self, plan: Plan, as_tensor: bool, progress: Progress | None) -> list[Any]:
        from ilvrctl.images.tensors import to_tensor
        from ilvrctl.plans.check import make_plan
        from ilvrctl.work.run import run
        from ilvrctl.work.workers import Alone

        plan = make_plan(plan, overwrite=False)
        with self._lock:
            engine = self.engine

            def begin(aside: Tell) -> Generator[JobEvent, None, None]:
                return run([plan], Alone(lambda _: engine), rescued=aside)

            found = {}
            for result in _told(begin, progress):
                if result.error is not None:
                    raise result.error
                found[result.input, result.sample] = result.image
        order = [(output.item.name, output.sample) for output in plan.outputs]
        pictures = [found[place] for place in order]
        return [to_tensor(picture) for picture in pictures] if as_tensor else pictures


def _results(plan: Plan, asked: Asked, progress: Progress | None) -> Generator[Result, None, None]:
    from ilvrctl.plans.check import make_plan

    plan = make_plan(plan, overwrite=bool(asked.values.get("overwrite")))
    machine = Machine(
        **{key: asked.values[key] for key in ("device", "batch_size", "compile") if key in asked.values}
    )
    return _told(lambda aside: carry_out([plan], machine, aside=aside), progress)


def _told(
    begin: Callable[[Tell], Generator[JobEvent, None, None]], progress: Progress | None
) -> Generator[Result, None, None]:
    """The results among the events of a run; ``progress`` is told of all."""
    tell = progress or (lambda event: None)
    with closing(begin(tell)) as events:
        for event in events:
            tell(event)
            if (result := _result(event)) is not None:
                yield result


def _result(event: JobEvent) -> Result | None:
    if isinstance(event, Written):
        return Result(
            event.key, "done", event.sample, event.path, event.seconds, changes=event.changes, data=event.data
        )
    if isinstance(event, Skipped):
        return Result(event.key, "skipped", event.sample, event.path, changes=event.changes)
    if isinstance(event, ItemFailed):
        return Result(event.key, "failed", event.sample, error=event.error, changes=event.changes)
    return None


def _destination(out: str | Path | None) -> Destination:
    from ilvrctl.plans.outputs import Destination

    return Destination(memory=True) if out is None else Destination.parse(str(out))


def _inputs(inputs: Any) -> list[str | Item]:
    several = inputs if isinstance(inputs, (list, tuple)) else [inputs]
    return [str(one) if isinstance(one, (str, Path)) else _input(one, n) for n, one in enumerate(several)]


def _input(picture: Any, n: int) -> Item:
    """The input that a picture is, of whatever kind."""
    from ilvrctl.images.arrays import png_bytes
    from ilvrctl.plans.inputs import Item, one_picture

    if isinstance(picture, (str, Path)):
        return one_picture(str(picture), None)
    data = picture if isinstance(picture, bytes) else png_bytes(picture)
    return Item(f"image {n + 1}", f"image-{n + 1}", data=data, where=f"memory {n + 1}")
