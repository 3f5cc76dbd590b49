"""A model in memory, for Python programs."""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ilvrctl.errors import UsageError
from ilvrctl.events import JobEvent
from ilvrctl.plans.inputs import Item, one_picture
from ilvrctl.plans.noises import check_finding, items_of
from ilvrctl.plans.outputs import Destination
from ilvrctl.work.machine import Tell, told_before
from ilvrctl.work.result import Results

if TYPE_CHECKING:
    from ilvrctl.diffusion.denoiser import Denoiser
    from ilvrctl.engine import Engine
    from ilvrctl.models.files.noise_file import Noise
    from ilvrctl.plans.asked import Asked
    from ilvrctl.plans.find_networks import FoundNetworks
    from ilvrctl.plans.plan import Plan

Progress = Tell | bool
"""Is told of everything that happens, as the screen of the commands is; True draws that."""
Picture = Any
"""A path, the bytes of a picture file, a PIL picture, numpy (H, W) or (H, W, C) of uint8 or of floats from 0 to 1,
or torch (C, H, W) in [-1, 1]."""
LOADED = frozenset({"to", "weights", "from", "from_weights", "from_image", "device", "compile", "batch_size"})
"""Parameters of the commands that a model has from the start."""
WRITTEN = frozenset({"out", "sheet", "gif", "join", "save_noise", "ext", "quality", "overwrite", "watch"})
"""... and those of the files that they write."""


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
        images: Picture | Sequence[Picture] = (),
        *,
        noise: Sequence[Noise] = (),
        as_tensor: bool = False,
        progress: Progress | None = None,
        **parameters: Any,
    ) -> list[Any]:
        """Pictures of the target domain, those of the first image first; nothing is written.

        ``images``: pictures and folders, as for :func:`translate`; or ``noise`` in their place, as :meth:`invert`
        finds it. ``progress`` is told too what in the folders is passed by. PIL pictures, or with ``as_tensor`` float32
        (C, H, W) in [-1, 1]. Raises the first error of an image.
        """
        from ilvrctl.plans.request import translation

        asked = self._asked("translate", parameters)
        pictures = inputs_of(images)
        if pictures and noise:
            raise UsageError("noise brings its own pictures", hint="give images or noise")
        inputs = [*items_of(noise), *pictures]
        plan = translation(asked, inputs, Destination(memory=True), networks=self._networks)
        return self._pictures(plan, as_tensor, progress)

    def invert(self, images: Sequence[Picture], *, method: str = "ddib", **parameters: Any) -> list[Noise]:
        """Pictures of the model's own kind as noise, for the ``noise`` of another's :meth:`translate`.

        ``method``: ddib, or cyclediffusion. With the same ``parameters`` there (``method``, ``steps``, ``start``)
        the results are those of both models together. ``.save(path)`` of a noise writes the file that
        ``from_noise`` takes. Raises the first error of an image, UsageError for a method that finds no noise.
        """
        from ilvrctl.plans.check import make_plan
        from ilvrctl.plans.request import translation
        from ilvrctl.work.invert import inverted

        asked = self._asked("translate", {"method": method, **parameters})
        inputs = [input_of(image, n) for n, image in enumerate(images)]
        networks = replace(self._networks, encoder=self._networks.target, implied=False)
        plan = translation(asked, inputs, Destination(memory=True), networks=networks)
        check_finding(plan.variants)
        plan = make_plan(plan, overwrite=False)
        with self._lock:
            return list(inverted(plan, self.engine))

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
            None if one is None else input_of(one, n) for n, one in enumerate((photo, scribbled, mask))
        )
        assert first is not None
        plan = editing(
            asked, (first, others[0], others[1]), Destination(memory=True), networks=self._networks
        )
        return self._pictures(plan, as_tensor, progress)

    def sample(self, n: int = 1, *, seed: int = 0, steps: int = 100, as_tensor: bool = False) -> list[Any]:
        """Pictures of the domain out of nothing but noise: the first ``n`` of the ``seed``."""
        from ilvrctl.images.tensors import to_image

        with self._lock:
            found = list(self.engine.unconditional(n, seed=seed, steps=steps))
        return found if as_tensor else [to_image(x, self.engine.channels) for x in found]

    def _asked(self, command: Literal["translate", "edit"], parameters: Mapping[str, Any]) -> Asked:
        from ilvrctl.plans.asked import asked_by_values

        for name in (given.rstrip("_") for given in parameters):
            if name in LOADED:
                raise UsageError(f"{name} belongs to ilvrctl.load, or to ilvrctl.{command}")
            if name in WRITTEN:
                raise UsageError(f"{name} belongs to ilvrctl.{command}: a model in memory writes no files")
        return asked_by_values(command, {"precision": self._precision, **parameters})

    def _pictures(self, plan: Plan, as_tensor: bool, progress: Progress | None) -> list[Any]:
        from ilvrctl.images.channels import in_floats
        from ilvrctl.images.tensors import to_tensor
        from ilvrctl.plans.check import make_plan
        from ilvrctl.work.run import run
        from ilvrctl.work.workers import Alone

        plan = make_plan(plan, overwrite=False)
        with self._lock:
            engine = self.engine

            def begin(aside: Tell) -> Generator[JobEvent, None, None]:
                yield from told_before([plan])
                yield from run([plan], Alone(lambda _: engine), rescued=aside)

            found = {}
            for result in Results(begin, progress, len(plan.outputs)):
                if result.error is not None:
                    raise result.error
                found[result.input, result.sample, repr(result.changes)] = result.image
        order = [(output.item.name, output.sample, repr(plan.changes(output))) for output in plan.outputs]
        pictures = [found[place] for place in order]
        if not as_tensor:
            return pictures
        grey = engine.channels == 1
        return [to_tensor(in_floats(picture) if grey else picture) for picture in pictures]


def inputs_of(pictures: Any) -> list[str | Item]:
    """The inputs that a picture, a folder, or a sequence of both are."""
    several = pictures if isinstance(pictures, (list, tuple)) else [pictures]
    return [str(one) if isinstance(one, (str, Path)) else input_of(one, n) for n, one in enumerate(several)]


def input_of(picture: Picture, n: int = 0) -> Item:
    """The input that a picture is, of whatever kind; ``n`` tells it from others in memory."""
    if isinstance(picture, (str, Path)):
        return one_picture(str(picture), None)
    from ilvrctl.images.arrays import png_bytes

    data = picture if isinstance(picture, bytes) else png_bytes(picture)
    return Item(f"image {n + 1}", f"image-{n + 1}", data=data, where=f"memory {n + 1}")
