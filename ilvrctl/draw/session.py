"""What is drawn on, what is made of it one after the other, and what of that is kept. No network, no page."""

from __future__ import annotations

import base64
import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilvrctl import api
from ilvrctl.draw.runs import Files, Run
from ilvrctl.errors import IlvrctlError, OutputError, UsageError, stage
from ilvrctl.events import BatchStarted, JobEvent, Noted, Selected, StepDone, Warned
from ilvrctl.files import make_folder, replacing
from ilvrctl.images.drawing import Layer, blank, marked, painted, save_quickly
from ilvrctl.images.geometry import parse_color
from ilvrctl.images.io import encode_picture, open_picture, read_bytes
from ilvrctl.images.photo import open_photo
from ilvrctl.images.tensors import to_image
from ilvrctl.plans import offers
from ilvrctl.plans.asked import asked_by_values
from ilvrctl.plans.check import check_networks, make_plan
from ilvrctl.plans.outputs import Destination
from ilvrctl.plans.places import exists
from ilvrctl.plans.request import edit as plan_edit
from ilvrctl.sizes import Size
from ilvrctl.work.machine import Keeping

if TYPE_CHECKING:
    from PIL.Image import Image

    from ilvrctl.plans.plan import Plan

CONTROLS = ("method", "N", "steps", "start", "seed")
"""The parameters that the page changes."""
MOST_WAITING = 8
"""Results that may wait for the one that is made."""
EVERY = 0.1
"""Seconds between two previews."""
IDLE = 0.2
"""Seconds between two looks at the terminal."""


@dataclass(frozen=True)
class Kept:
    """The files of a result, now that somebody wants it."""

    files: tuple[Path, ...]


class _CancelledError(Exception):
    """Somebody does not want the result any more."""


class Session:
    """A picture that is drawn on, and the results; ``with`` gives it a folder for those that nobody kept yet.

    ``photo``: the picture's name; None is paper of ``size`` pixels, for a painting. ``values``: the parameters that
    hold whatever the page says. ``out``: the folder of what is kept. Everything but :meth:`work` may be called in any
    thread; ``listeners`` are told what the page should know, by the thread that knows it.

    Raises what :func:`ilvrctl.edit` does, and InputError for a photo that cannot be read.
    """

    def __init__(
        self, photo: str | None, out: Path, values: Mapping[str, Any], size: tuple[int, int] = (512, 512)
    ) -> None:
        self.photo = None if photo is None else Path(photo)
        self.name = "painting" if self.photo is None else self.photo.name
        self.out, self.runs = out, dict[int, Run]()
        self.listeners: list[Callable[[Mapping[str, Any]], None]] = []
        self.news: queue.SimpleQueue[Kept] = queue.SimpleQueue()
        self.opened = threading.Event()
        self.paints = photo is None or values.get("mode") == "paint"
        self._values = {**values, **({"mode": "paint", "samples": 1} if self.paints else {})}
        machine = {name: values[name] for name in ("device", "batch_size", "compile") if name in values}
        self._machine = Keeping(**machine)
        self._lock, self._numbers = threading.Lock(), count(1)
        self._queue: queue.SimpleQueue[Run] = queue.SimpleQueue()
        self._told = 0.0
        plan = self._plan({}, scribbled=True, masked=False)
        self.target = plan.target or plan.model.name
        self.picture = blank(size)
        if self.photo is not None:
            settings = plan.variants[0].settings
            opened = open_photo(read_bytes(self.photo), str(self.photo), window=settings.window)
            self.picture = opened.flat(parse_color(settings.background))

    def __enter__(self) -> Session:
        self._folder = tempfile.TemporaryDirectory(prefix="ilvrctl-draw-")
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def about(self) -> dict[str, Any]:
        """What the page shows before anything is drawn."""
        return {
            "name": self.name,
            "size": self.picture.size,
            "paper": self.photo is None,
            "masks": not self.paints,
            "target": self.target,
            "methods": offers.methods(),
            **self.checked({}, masked=False),
        }

    def checked(self, controls: Mapping[str, str], *, masked: bool) -> dict[str, Any]:
        """What the controls come to: the ``values`` of all of them, in ``words``, and which ``N`` there are."""
        plan = self._plan(controls, scribbled=True, masked=masked)
        settings = plan.variants[0].settings
        size = Size.of(settings.picture_size or plan.model.image_size or 1)
        values = _shown(settings.record())
        factors = [n for n in range(1, min(size) + 1) if size.fits(n)]
        return {
            "values": values,
            "N": factors if values["N"] is not None else [],
            "words": f"{settings.method.describe()}, {plan.network_calls()} network calls",
        }

    def ask(self, controls: Mapping[str, str], paint: Layer | None, marks: Layer | None) -> Run:
        """Have a result made of what was painted over the picture, where something is marked there alone.

        What is painted counts as marked too. UsageError where too many wait.
        """
        if sum(run.state == "waiting" for run in list(self.runs.values())) >= MOST_WAITING:
            raise UsageError(f"{MOST_WAITING} results wait already", hint="cancel one, or wait")
        masked = marks is not None and not self.paints
        shown = self.checked(controls, masked=masked)["values"]
        with self._lock:
            number = next(
                n for n in self._numbers if not any(map(exists, self._files(n, self.out, True).made))
            )
        places = (Path(self._folder.name), self.out)
        files, kept_as = (self._files(number, one, paint is not None, masked) for one in places)
        run = Run(number, files, kept_as, {**self._values, **controls}, shown)
        picture = self.picture if paint is None else painted(self.picture, paint)
        if files.scribble is not None or self.photo is None:
            save_quickly(picture, files.scribble or files.photo)
        if files.mask is not None and marks is not None:
            save_quickly(marked(picture.size, marks, paint), files.mask)
        self.runs[number] = run
        self._queue.put(run)
        self._tell(run)
        return run

    def cancel(self, number: int) -> None:
        """Do not make a result, or go no further with it."""
        run = self.run(number)
        run.stop.set()
        if run.state == "waiting":
            run.state = "cancelled"
            self._tell(run)

    def keep(self, number: int) -> Run:
        """Write a result and what it is made of to where its command expects them. OutputError where they cannot be."""
        run = self.run(number)
        if run.state != "done":
            raise UsageError("there is no result to keep yet")
        if run.kept:
            return run
        pairs = [*zip(run.files.made, run.kept_as.made, strict=True)]
        if taken := next((place for _, place in pairs if exists(place)), None):
            raise OutputError(f"{taken} is there already", hint="Run it again: it gets another name")
        make_folder(self.out)
        for source, place in pairs:
            with replacing(place) as part:
                shutil.copyfile(source, part)
        run.kept = True
        self.news.put(Kept(tuple(place for _, place in pairs)))
        self._tell(run)
        return run

    def run(self, number: int) -> Run:
        """A result by its number. UsageError where there is none."""
        if number not in self.runs:
            raise UsageError(f"there is no result {number}")
        return self.runs[number]

    def given(self, run: Run) -> Image:
        """What was drawn for a result."""
        drawn = run.files.photo if self.photo is None else run.files.scribble
        return self.picture if drawn is None else open_picture(read_bytes(drawn), drawn.name)

    def work(self, look: Callable[[], None]) -> None:
        """Make results, one after the other, until ``look``, which is called again and again, raises something."""
        warm = False
        while True:
            look()
            try:
                run = self._queue.get(timeout=IDLE)
            except queue.Empty:
                if self.opened.is_set() and not warm:
                    warm = True
                    with suppress(ImportError):  # while somebody draws: the first result comes sooner
                        import torch  # noqa: F401
                continue
            self._make(run, look)

    def _make(self, run: Run, look: Callable[[], None]) -> None:
        if run.stop.is_set():
            return
        run.state = "running"
        self._tell(run)

        def hear(event: JobEvent) -> None:
            self._hear(run, event)
            look()

        scribble, mask, files = run.files.scribble, run.files.mask, run.files
        try:
            with stage("editing", self.name):
                for result in api.edit(
                    files.photo,
                    scribble,
                    mask=mask,
                    out=files.result,
                    progress=hear,
                    machine=self._machine,
                    **run.values,
                ):
                    run.error, run.seconds = result.error, result.seconds
            run.state = "done" if run.error is None else "failed"
        except IlvrctlError as error:
            stopped = isinstance(error.__cause__, _CancelledError)
            run.state, run.error = ("cancelled", None) if stopped else ("failed", error)
        run.previews.clear()
        self._tell(run)

    def _hear(self, run: Run, event: JobEvent) -> None:
        if isinstance(event, Selected):
            run.boxes = event.boxes
        elif isinstance(event, BatchStarted):
            run.part, run.step, run.steps = run.part + 1, 0, event.steps
            self._tell(run)
        elif isinstance(event, StepDone):
            run.step = event.i + 1
            if time.monotonic() - self._told >= EVERY or run.step == event.n:
                self._told = time.monotonic()
                run.previews[run.part - 1] = _address(event)
                self._tell(run, run.part - 1)
        elif isinstance(event, (Noted, Warned)):
            run.notes.append(event.message)
        if run.stop.is_set() and isinstance(event, (BatchStarted, StepDone)):
            raise _CancelledError

    def _tell(self, run: Run, part: int | None = None) -> None:
        preview = {} if part is None else {"part": part, "preview": run.previews[part]}
        for listener in list(self.listeners):
            listener({**run.view(), **preview})

    def _files(self, number: int, folder: Path, scribbled: bool, masked: bool = True) -> Files:
        """The files of a result, in a folder; the photo stays where it is."""
        if self.photo is None:
            name = folder / f"painting-{number}.png"
            return Files(name, name.with_name(f"{name.stem}-result.png"), painted=True)
        name = folder / f"{self.photo.stem}-{number}.png"
        beside = (name.with_name(f"{name.stem}-{what}.png") for what in ("scribble", "mask"))
        scribble, mask = next(beside) if scribbled else None, folder / f"{name.stem}-mask.png"
        return Files(self.photo, name, scribble, mask if masked else None)

    def _plan(self, controls: Mapping[str, str], *, scribbled: bool, masked: bool) -> Plan:
        """The plan of a run with such controls, as :func:`ilvrctl.edit` makes it. UsageError for a grid."""
        if unknown := [name for name in controls if name not in CONTROLS]:
            raise UsageError(f"the page cannot change {unknown[0]}")
        photo = str(self.photo or "painting.png")
        other = None if self.photo is None else photo
        asked = asked_by_values("edit", {**self._values, **controls})
        pictures = (photo, other if scribbled else None, other if masked else None)
        plan = plan_edit(asked, pictures, Destination(memory=True))
        if len(plan.variants) > 1:
            raise UsageError(
                "a page makes one result at a time", hint="give one value, and change it on the page"
            )
        check_networks([plan], numbers=False)
        return make_plan(plan, overwrite=False)


def _shown(record: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the page's controls in the record of settings; ``N`` None where there is none."""
    method = record["method"]
    filters: Sequence[Mapping[str, Any]] = (method["constraint"], *method["energies"].values())
    factor = next((one["N"] for one in filters if "N" in one), None)
    return {
        "method": method["name"],
        "N": factor,
        "steps": record["steps"],
        "start": method["start"],
        "seed": record["seed"],
    }


def _address(event: StepDone) -> str:
    """The clean estimate of the sample that is wanted, as an address that holds it."""
    place = next(n for n, sample in enumerate(event.samples) if sample.key is not None)
    estimate = event.x0[place]
    kind = "png" if len(estimate) == 4 else "jpg"
    data = encode_picture(to_image(estimate, len(estimate)), kind, quality=85)
    return f"data:image/{'jpeg' if kind == 'jpg' else kind};base64,{base64.b64encode(data).decode()}"
