"""Everything that decides the pixels of a result, in one frozen value with a hash."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Annotated, Any, Literal

from ilvrctl.choices import FITTINGS, ClassLabel, Fit, Precision, Speed
from ilvrctl.classes import WORDS, class_number
from ilvrctl.config import Layer, build, build_named, merge, unknown_name
from ilvrctl.diffusion.samplers import DDPM, SAMPLERS, Sampler
from ilvrctl.diffusion.schedule import Schedule, Step, space_timesteps
from ilvrctl.errors import ForeignSettingError, UsageError
from ilvrctl.fields import LATER, Between, recorded
from ilvrctl.images.deep import parse_window
from ilvrctl.images.regions import Edit
from ilvrctl.methods import Method
from ilvrctl.methods.build import FIELDS, SHORT, build_method, family, name_of, written_out
from ilvrctl.sizes import LARGEST, AnySize, Size, SizeText
from ilvrctl.trust import check_trust


@dataclass(frozen=True)
class PublishedCode:
    """Published code whose behaviour differs from its paper: the settings that reproduce it.

    ``methods``: the methods that it is code of; the first is taken where no method is asked for.
    """

    methods: tuple[str, ...]
    layer: Layer


COMPAT: dict[str, PublishedCode] = {
    "ilvr_adm": PublishedCode(
        ("ilvr",), Layer.of("compat: ilvr_adm", {"method": {"constraint": {"reference_level": "t"}}})
    ),
    "sddm": PublishedCode(
        ("sddm", "sddm+egsde"),
        Layer.of("compat: sddm", {"method": {"refinement": "stale", "noise_on_manifold": False}}),
    ),
    "egsde": PublishedCode(
        ("egsde",),
        Layer.of(
            "compat: egsde",
            {
                "method": {"reference_noise": "fixed", "guide_last": True, "start": 500},
                "sampler": {"name": "ddpm", "variance": "fixed_small"},
                "steps": 1000,
                "timestep_respacing": None,
                "clip_denoised": False,
            },
        ),
    ),
}
"""``ilvr_adm``: the reference at level t. ``sddm``: plain noise at the start, the refinement's last output used
again. ``egsde``: one noise of the reference, energies at the last step too, no clipping, the learned variance left
out, and the 1000 levels one by one from 500. Each is explained with its field."""

SPEEDS: dict[str, Layer] = {
    "exact": Layer.of("speed: exact", {"precision": "fp32"}),
    "fast": Layer.of("speed: fast", {"precision": "auto"}),
    "turbo": Layer.of(
        "speed: turbo",
        {"steps": 12, "sampler": {"name": "ddim"}, "method": {"start": 0.5}, "reuse": 2, "reuse_blocks": 3},
    ),
}
"""What ``speed`` means; settings given beside it or after it win. What ``turbo`` makes of the bundled model:
tests/benchmarks/emoji_table.py WORK --row 'turbo: {method: ilvr, speed: turbo}'."""


@dataclass(frozen=True)
class Settings:
    """How a reference becomes a sample.

    ``steps`` respaced steps spread over the levels, or exactly the published ``timestep_respacing`` string
    where it is given. ``clip_denoised`` keeps the clean estimates in [-1, 1]. ``class_label`` for
    class-conditional networks, in layers also by its name of ImageNet; ``random`` draws one for every sample, from
    its own seed, and ``none`` is the network's null class. ``fit`` and ``background`` make the input
    square, or with ``native`` keep its size;
    ``edit``: in the place of ``fit``, how parts of a photo are edited. ``window``: which numbers of inputs of more
    than 8 bits are black and white, "LO:HI" or "auto". ``precision`` as asked for. ``picture_size``: at which
    the network is run, as :class:`ilvrctl.sizes.Size` reads it; None is that of its training. ``grey``: of coloured
    inputs of a network of grey pictures the luma is taken (Rec. 601); in layers also as ``fit: pad+grey``.
    ``bits`` of a grey result.

    ``speed``: what the settings began with, see :data:`SPEEDS`. ``reuse``: the deep part of the network is run at
    every so many steps, 1 at all of them; ``reuse_blocks`` blocks of the decoder are run at every step
    (:class:`ilvrctl.diffusion.reuse.Reusing`).
    """

    method: Method = field(default_factory=lambda: build_method([]))
    sampler: Sampler = field(default_factory=DDPM)
    steps: int = 100
    timestep_respacing: str | None = None
    seed: int = 0
    clip_denoised: bool = True
    class_label: ClassLabel = None
    fit: Fit = "crop"
    background: str = "white"
    precision: Precision = "auto"
    speed: Speed = "fast"
    reuse: int = 1
    reuse_blocks: int = 1
    edit: Edit | None = None
    window: str | None = field(default=None, metadata=LATER)
    picture_size: Annotated[int, Between(1, LARGEST)] | Annotated[str, SizeText()] | None = field(
        default=None, metadata=LATER
    )
    grey: bool = field(default=False, metadata=LATER)
    bits: Literal[8, 16] = field(default=8, metadata=LATER)

    def __post_init__(self) -> None:
        if isinstance(self.picture_size, str):
            object.__setattr__(self, "picture_size", Size.of(self.picture_size).plain)

    def size_for(self, trained: Size) -> Size:
        """The size at which a network is run that was ``trained`` at one."""
        return trained if self.picture_size is None else Size.of(self.picture_size)

    def chain(self, schedule: Schedule) -> list[Step]:
        """The transitions that a pass walks; UsageError for steps that the schedule cannot give.

        With an early start, ``steps`` keep their density: so many as fall below the start, the first at it. Of a
        respacing string the levels below the start are taken, as the published code does.
        """
        self.method.check_levels(schedule.T)
        count = self.method.levels(schedule.T)
        if self.timestep_respacing is not None:
            levels = space_timesteps(schedule.T, self.timestep_respacing)
        else:
            levels = schedule.spread(self.steps, count)
        below = [t for t in levels if t < count]
        self.method.check_effort(len(below))
        if not below:
            raise UsageError(
                f"no level of {self.timestep_respacing!r} lies below the start {self.method.start}",
                hint="a higher --start, or --steps in its place",
            )
        return schedule.steps(below)

    def network_calls(self, schedule: Schedule) -> int:
        """Calls of the denoising network for one sample."""
        return self.method.network_calls(self.chain(schedule), schedule.T, self.sampler)

    def check(self, schedule: Schedule, image_size: AnySize) -> list[Step]:
        """The chain, once chain and method are known to work for a model. UsageError when they cannot."""
        steps = self.chain(schedule)
        self.method.check(self.size_for(Size.of(image_size)), steps, schedule.T)
        for energy in self.method.acting.values():
            energy.check_label(self.class_label)
        if self.fit == "native" and self.picture_size is not None:
            raise UsageError(
                "--fit native keeps the size of every picture, and --size gives all of them one",
                hint="leave one of them out",
            )
        if self.edit is not None and self.bits != 8:
            raise UsageError("an edited photo keeps the depth that it has", hint="leave out bits")
        self.method.encoder.check(self.sampler)
        self._check_reuse()
        if self.window is not None:
            parse_window(self.window)
        return steps

    def _check_reuse(self) -> None:
        for name, value in (("reuse", self.reuse), ("reuse_blocks", self.reuse_blocks)):
            if value < 1:
                raise UsageError(f"{name} is a whole number from 1 up, not {value}", hint=f"--set {name}=1")
        if self.reuse > 1 and self.method.two_models:
            raise UsageError(
                f"{self.method.name} hands every step of one model on to another: deep features that are "
                "reused would break that",
                hint="--speed exact or fast, or --set reuse=1",
            )

    def record(self) -> dict[str, Any]:
        """As plain JSON values, from which :func:`build_settings` makes an equal value."""
        plain: dict[str, Any] = json.loads(json.dumps(recorded(self)))
        return plain

    def identity(self, network: Mapping[str, Any]) -> str:
        """sha256 of the settings and of what the network is (JSON values).

        Equal for equal pixels of the same input and sample number.
        """
        return identity_of(recorded(self), network)


def identity_of(record: Mapping[str, Any], network: Mapping[str, Any]) -> str:
    """:meth:`Settings.identity` of recorded settings."""
    text = json.dumps({"settings": record, "network": network}, sort_keys=True)
    return sha256(text.encode()).hexdigest()


def build_settings(*presets: Layer, overrides: Sequence[Layer] = ()) -> Settings:
    """Settings from layers, the later winning: ``presets``, then ``compat``, then ``overrides``.

    A layer that gives ``steps`` takes the place of an earlier ``timestep_respacing``, and ``method.range``
    that of an earlier ``method.range_t``. A layer that names another sampler keeps of the earlier one what the new
    one knows too; for methods see :func:`ilvrctl.methods.build.build_method`. The fields of a method may stand
    without their ``method``. ConfigError names the source of a value that cannot be used, and what a layer without
    trust may not ask for.
    """
    below = [_written_out(layer) for layer in _spelled_out(presets)]
    above = [_written_out(layer) for layer in _spelled_out(overrides)]
    layers = [*below, *_compat(below, above), *above]
    merged = merge(*layers)
    parts = ("method", "methods", "sampler", "compat")
    rest = {key: value for key, value in merged.values.items() if key not in parts}
    if isinstance(rest.get("class_label"), str) and rest["class_label"] not in WORDS:
        rest["class_label"] = class_number(rest["class_label"])
    method = build_method(layers)
    published = Layer({"sampler": method.encoder.sampler})
    sampler = build_named(
        SAMPLERS, [published, *layers], "sampler", DDPM.name, use=lambda name: f"--sampler {name}"
    )
    settings = build(Settings, Layer({**rest, "method": method}, merged.origins))
    settings = dataclasses.replace(settings, sampler=sampler)
    check_trust(settings, [*presets, *overrides])
    return settings


def method_named(layer: Layer) -> str | None:
    """The name of the method that the layer asks for, if it does."""
    method = layer.values.get("method")
    name = method.get("name") if isinstance(method, Mapping) else method
    return name if isinstance(name, str) else None


def says_how(layer: Layer) -> bool:
    """Whether the layer says how to sample: anything of a method but its start, a sampler, a published code."""
    values = merge(*map(_written_out, _spelled_out([layer]))).values
    method = values.get("method") or {}
    of_method = method.keys() - {"start"} if isinstance(method, Mapping) else True
    return bool(of_method or values.keys() & {"sampler", "compat", "reuse"})


def _spelled_out(layers: Sequence[Layer]) -> list[Layer]:
    """Before each layer that names a ``speed`` the layer of what that means."""
    found: list[Layer] = []
    for layer in layers:
        name = layer.values.get("speed")
        if name is not None:
            if not isinstance(name, str) or name not in SPEEDS:
                raise unknown_name("speed", name, SPEEDS, layer.origins.get(("speed",)))
            found.append(SPEEDS[name])
        found.append(layer)
    return found


def _written_out(layer: Layer) -> Layer:
    """Names as mappings, a method's fields under ``method``, and what a value takes the place of as null."""
    values, origins = dict(layer.values), dict(layer.origins)
    if isinstance(values.get("method"), str):
        values["method"] = {"name": values["method"]}
    lifted = {key: values.pop(key) for key in list(values) if key in FIELDS or key in SHORT}
    if lifted:
        values = dict(merge(Layer(values), Layer({"method": lifted})).values)
        origins |= {("method", *path): at for path, at in layer.origins.items() if path[0] in lifted}
    if "steps" in values:
        values.setdefault("timestep_respacing", None)
    if isinstance(fit := values.get("fit"), str) and fit in FITTINGS:
        del values["fit"]
        shape, plus, _ = fit.partition("+")
        values = {
            "grey": bool(plus) or shape == "grey",
            **({"fit": shape} if shape != "grey" else {}),
            **values,
        }
    if isinstance(values.get("method"), Mapping):
        values["method"] = written_out(values["method"])
    return Layer(values, origins)


def _compat(below: Sequence[Layer], above: Sequence[Layer]) -> list[Layer]:
    """The layer of the published code to follow, if any, with its method where none is asked for."""
    whole = merge(*below, *above)
    name, origin = whole.values.get("compat"), whole.origins.get(("compat",))
    if name is None:
        return []
    if not isinstance(name, str) or name not in COMPAT:
        raise unknown_name("compat", name, COMPAT, origin)
    published = COMPAT[name]
    chosen = name_of([*below, *above])
    if set(family(chosen)) & set(published.methods):
        return [published.layer]
    if any("name" in layer.values.get("method", {}) for layer in above):
        raise ForeignSettingError(
            "compat",
            f"{origin + ': ' if origin else ''}compat {name} is code of {' and '.join(published.methods)}, "
            f"not of {chosen}",
            hint=f"--method {published.methods[0]}",
        )
    return [Layer({"method": {"name": published.methods[0]}}), published.layer]
