"""ilvrctl from Python: what the commands do, as functions, and a model in memory.

Names and values of parameters are those of the command line's options (:mod:`ilvrctl.plans.parameters`), and so are
the errors, as exceptions: :class:`~ilvrctl.errors.IlvrctlError` and its kinds. Nothing here prints, exits, reads the
terminal or handles signals. torch is imported by the first call that needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilvrctl import paths
from ilvrctl.config import Layer
from ilvrctl.events import JobEvent, Note
from ilvrctl.hub.address import is_address
from ilvrctl.model import Model, Picture, Progress, input_of, inputs_of
from ilvrctl.plans.asked import Asked, asked_by_values
from ilvrctl.plans.check import check_networks, make_plan, networks_of
from ilvrctl.plans.conversion import convert_asked
from ilvrctl.plans.find_networks import NetworksAsked, find_networks
from ilvrctl.plans.jobs import plans_of
from ilvrctl.plans.named_weights import fetching, is_name
from ilvrctl.plans.outputs import Destination
from ilvrctl.plans.plan import Plan
from ilvrctl.plans.request import edit as plan_edit
from ilvrctl.plans.request import translation
from ilvrctl.presets import resolve_model
from ilvrctl.work.machine import Machine, Tell, carry_out, share_of
from ilvrctl.work.result import Result, Results

if TYPE_CHECKING:
    from ilvrctl.evaluation.result import Evaluation
    from ilvrctl.hub.events import HubEvent
    from ilvrctl.training.events import TrainingEvent

__all__ = [
    "Model",
    "Result",
    "batch",
    "convert",
    "download",
    "edit",
    "evaluate",
    "examples",
    "load",
    "train",
    "translate",
]


def translate(
    inputs: str | Path | Picture | Sequence[Any] = (),
    *,
    to: str | None = None,
    weights: str | Path | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
    **parameters: Any,
) -> Results:
    """Pictures in, pictures of the target domain out, as ``ilvrctl translate`` does.

    ``inputs``: pictures (:data:`Picture`), folders, or a sequence of both; none with ``from_noise``. With ``out``, a
    folder or a file, results are files, and what is there already is not made again; without, they are pictures only.
    ``parameters``: those of the command, with text or values (``N=4``, ``N=[2, 4]`` for a grid, ``range=(1.0, 0.2)``,
    ``device="cpu"``). Everything is checked by the call itself; the results come as they are made, and closing the
    iterator stops. With ``watch=True`` it goes on with what comes into the folders until ``stop()``, asked twice a
    second, is true.

    Raises UsageError for what cannot be meant, WeightsError for weights that are not here. An input that cannot be
    read is a failed result; what in a folder is no picture stands in the iterator's ``passed_by``, each with its
    ``reason`` and ``name``.

    >>> import ilvrctl
    >>> for result in ilvrctl.translate("cats/", to="emoji3d", N=4, out="out/"):  # doctest: +SKIP
    ...     print(result.path, result.seconds)
    """
    asked = asked_by_values("translate", {"to": to, "weights": weights, **parameters})
    with fetching(progress if callable(progress) else _silent):
        if asked.values.get("watch"):
            return _watching(inputs, asked, _destination(out), stop, progress)
        plan = translation(asked, inputs_of(inputs), _destination(out))
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
    machine: Machine | None = None,
    **parameters: Any,
) -> Results:
    """Edit a photo at its own size, as ``ilvrctl edit`` does: where ``scribbled`` differs, or ``mask`` is white.

    Pictures and parameters as for :func:`translate`; ``mode`` is ``scribble`` or ``paint``. ``machine``, in
    the place of ``device``, ``batch_size`` and ``compile``: a :class:`ilvrctl.work.machine.Keeping` keeps its networks
    in memory from one call to the next.

    Raises UsageError for pictures of different sizes and for what cannot be meant, WeightsError for weights that are
    not here.
    """
    asked = asked_by_values("edit", {"to": to, "weights": weights, **parameters})
    first, *others = (
        None if one is None else input_of(one, n) for n, one in enumerate((photo, scribbled, mask))
    )
    assert first is not None
    with fetching(progress if callable(progress) else _silent):
        plan = plan_edit(asked, (first, others[0], others[1]), _destination(out))
    return _results(plan, asked, progress, machine)


def batch(
    jobs: str | Path | Mapping[str, Any],
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    retry_failed: bool = False,
    max_failures: int | None = None,
    shard: tuple[int, int] = (1, 1),
    only: Sequence[str] = (),
    progress: Progress | None = None,
    **machine: Any,
) -> Results:
    """Carry out the jobs of a file, or of a mapping with the same keys, as ``ilvrctl batch`` does.

    ``shard``: (3, 16) makes the third of sixteen parts; ``only``: the names of the jobs to make;
    ``machine``: fields of :class:`Machine`.

    Raises UsageError for the first mistake, with its line.
    """
    with fetching(progress if callable(progress) else _silent):
        plans, past = plans_of(
            jobs if isinstance(jobs, Mapping) else Path(jobs),
            None if out is None else Path(out),
            overwrite=overwrite,
            retry=retry_failed,
            only=only,
        )

    chosen = Machine(**machine)
    parts, shard = share_of(plans, shard)

    def begin(aside: Tell) -> Generator[JobEvent, None, None]:
        return carry_out(parts, chosen, past=past, shard=shard, max_failures=max_failures, aside=aside)

    count = sum(len(plan.outputs) for plan in parts)
    return Results(begin, progress, count, (one for plan in plans for one in plan.passed_by))


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

    ``how``: the other fields of :class:`ilvrctl.evaluation.evaluate.Comparison`. ``progress`` is told what is
    done, how much of it, of how much. The result has ``.table``, ``.record()``, and ``.save("page.html")``.

    Raises UsageError for folders that do not go together, MissingExtraError for features that are not installed.
    """
    from ilvrctl.devices import choose_device
    from ilvrctl.evaluation.evaluate import Comparison
    from ilvrctl.evaluation.evaluate import evaluate as measure

    sides = {"source": source, "truth": truth, "against": against}
    places: dict[str, Any] = {name: Path(side) for name, side in sides.items() if side is not None}
    asked = Comparison(tuple(map(Path, results)), **places, **how)
    return measure(asked, choose_device(device), progress)


def download(
    name: str, *, overwrite: bool = False, progress: Callable[[HubEvent], object] = lambda event: None
) -> Path:
    """Have the weights of a model or target, or of ``hf:user/repo``, here, as ``ilvrctl download`` does; their place.

    ``progress`` is told of everything that happens. Raises UsageError for an unknown name, and the error of the last
    source where none has it.
    """
    from ilvrctl.hub.address import Address
    from ilvrctl.hub.events import Failed, Fetched, Present
    from ilvrctl.hub.fetch import Order, fetch
    from ilvrctl.hub.hugging_face import fetch as fetch_from_the_hub
    from ilvrctl.models.files.announced import check, check_network

    if is_address(name):
        events = fetch_from_the_hub(Address.parse(name), check_network, overwrite=overwrite)
        place = None
    else:
        model = resolve_model(name)
        order = Order(lambda item, path: check(item.key, item.model.format, path), overwrite=overwrite)
        events, place = fetch([model], order), model.path()
    for event in events:
        progress(event)
        if isinstance(event, Failed):
            raise event.error
        if place is None and isinstance(event, (Fetched, Present)):
            place = event.path
    assert place is not None
    return place


def convert(
    source: str | Path,
    out: str | Path,
    *,
    to: str = "safetensors",
    half: bool = False,
    overwrite: bool = False,
    progress: Callable[[Note], object] = lambda note: None,
    **facts: Any,
) -> Path:
    """Write a checkpoint anew, as ``ilvrctl convert`` does: all that is known of it is inside; returns ``out``.

    ``to``: "safetensors", or "diffusers", a folder that its ``DDPMPipeline`` loads. ``half`` stores float16.
    ``facts`` as for :func:`load`; ``progress`` is told what people should know of them.

    Raises WeightsError for what cannot be read, or not be held by what it shall become, UsageError for a place that
    is taken and for facts that are missing.
    """
    return convert_asked(
        NetworksAsked(weights=Path(source), facts=_facts(facts)), Path(out), progress, to, half, overwrite
    )


def train(
    *folders: str | Path,
    name: str,
    recipe: str | None = None,
    overwrite: bool = False,
    stop: Callable[[], bool] = lambda: False,
    **parameters: Any,
) -> Iterator[TrainingEvent]:
    """Train a model of a folder of pictures, or a domain classifier of two folders, as ``ilvrctl train`` does.

    ``parameters``: those of the command (``size=64``, ``images=1000``, ``for_="8h"``, ``out=...``) and any part of the
    recipe. Tells what happens; ``stop`` is asked at every step, and the training ends saved when it says so. The same
    call goes on, unless ``overwrite``.

    Raises UsageError for what cannot be meant and for a run of other settings.
    """
    from ilvrctl.training.asked import job_asked
    from ilvrctl.training.run import run

    given = {key.rstrip("_"): value for key, value in parameters.items() if value is not None}
    names = (
        "for",
        "decay",
        "save_every",
        "out",
        "held_out",
        "references",
        "sheet_every",
        "device",
        "precision",
    )
    others = {key: given.pop(key) for key in (*names, "compile") if key in given}
    if "schedule" in given:
        given["noise_schedule"] = given.pop("schedule")
    if given.pop("half", False):
        given["store"] = "fp16"
    job = job_asked(tuple(map(Path, folders)), name, Layer.of("train()", given), recipe, others)
    return run(job, stop, overwrite=overwrite)


def load(
    name_or_file: str | Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | None = None,
    **facts: Any,
) -> Model:
    """A model in memory: a target or model by its name, or a checkpoint file (or ``hf:user/repo``) with ``facts`` that
    it does not tell.

    Raises UsageError for an unknown name, WeightsError for weights that are not here or broken, DeviceError for a
    device that is not there.

    >>> import ilvrctl
    >>> emoji = ilvrctl.load("emoji3d", device="cpu")
    >>> [picture] = emoji.translate([ilvrctl.examples()[0]], steps=2, seed=7)
    >>> picture.size
    (64, 64)
    """
    given = _facts(facts)
    if isinstance(name_or_file, str) and is_name(name_or_file):
        asked = NetworksAsked(name_or_file, facts=given)
    else:
        asked = NetworksAsked(weights=Path(name_or_file), facts=given)
    with fetching(_silent):
        networks = find_networks(asked)
    engine = networks_of(networks, precision).load(device=device, batch_size=batch_size)
    return Model(networks, engine, precision)


def examples() -> list[Path]:
    """The example pictures that ship with ilvrctl."""
    return sorted(paths.EXAMPLES.glob("*.png"))


def _silent(event: object) -> None:
    """Tell nobody."""


def _facts(facts: Mapping[str, Any]) -> Layer:
    return Layer.of("the call", {"model": facts}) if facts else Layer({})


def _results(plan: Plan, asked: Asked, progress: Progress | None, machine: Machine | None = None) -> Results:
    check_networks([plan], numbers=False)
    plan = make_plan(plan, overwrite=bool(asked.values.get("overwrite")))
    chosen, count = machine or _machine(asked), len(plan.outputs)
    return Results(lambda aside: carry_out([plan], chosen, aside=aside), progress, count, plan.passed_by)


def _machine(asked: Asked) -> Machine:
    names = ("device", "batch_size", "compile")
    return Machine(**{key: asked.values[key] for key in names if key in asked.values})


def _watching(
    folders: Any, asked: Asked, destination: Destination, stop: Callable[[], bool], progress: Progress | None
) -> Results:
    from ilvrctl.plans.inbox import watched
    from ilvrctl.work.watch import carry_out_watch

    found = watched(asked, [str(one) for one in inputs_of(folders)], destination)
    machine = _machine(asked)
    return Results(lambda aside: carry_out_watch(found, machine, stop=stop, aside=aside), progress, 0)


def _destination(out: str | Path | None) -> Destination:
    return Destination(memory=True) if out is None else Destination.parse(str(out))
