"""Any readable network written anew: as one safetensors file with its facts, or as a folder of diffusers."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ilvrctl.errors import UsageError, WeightsError, did_you_mean
from ilvrctl.files import make_folder, unwritable, write_text
from ilvrctl.models.architecture.blocks import ADM, DDPM
from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.files.averaged import AVERAGED, is_averaged
from ilvrctl.models.files.diffusers_config import unholdable, write_config
from ilvrctl.models.files.diffusers_folder import network_files, scheduler_config, weights_file
from ilvrctl.models.files.facts import ASSUMED, facts_of
from ilvrctl.models.files.facts_header import FACTS_OF_A_NETWORK, facts_note, header_facts
from ilvrctl.models.files.formats import GUIDED_DIFFUSION, identify
from ilvrctl.models.files.tensor_names import Dialect, names_in
from ilvrctl.models.files.verdict import verdict_on
from ilvrctl.presets import ModelPreset
from ilvrctl.sizes import Size

if TYPE_CHECKING:
    from torch import Tensor

    from ilvrctl.models.adm import AdmUNet
    from ilvrctl.models.architecture.unet import AdmArchitecture
    from ilvrctl.models.files.info import CheckpointInfo

To = Literal["safetensors", "diffusers"]
DIFFUSERS, PESSER = "diffusers", "pesser-ddim"
_WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
_OF_THE_OLD_FILE = ("weights", "unsupported", "sha256", "sha256_start", "md5")
"""Facts of a preset that a file written anew has no longer."""
_PIPELINE = {
    "_class_name": "DDPMPipeline",
    "scheduler": ["diffusers", "DDPMScheduler"],
    "unet": ["diffusers", "UNet2DModel"],
}
_WRITTEN = frozenset(
    {"model_index.json", "scheduler", "scheduler/scheduler_config.json", "unet", "unet/config.json", _WEIGHTS}
)
"""All that a folder written here holds."""


def convert(
    weights: Path,
    model: ModelPreset,
    out: Path,
    *,
    to: str = "safetensors",
    half: bool = False,
    overwrite: bool = False,
    origins: Mapping[str, str] | None = None,
) -> Path:
    """Write the network in ``weights`` to ``out``, which appears whole or not at all; returns ``out``.

    ``model``: its facts, and ``origins`` where those that are known come from: what nobody knows is not written into
    a header. ``to``: "safetensors", the file in guided-diffusion's layout where that can hold the network, else in
    its own; or "diffusers", a folder for ``DDPMPipeline``. Numbers keep their precision, unless ``half``: float16.

    Raises WeightsError for what cannot be read, or be held by what it shall become, UsageError for facts that are
    missing, and for a place that is taken.
    """
    if to not in get_args(To):
        raise UsageError(
            f"{to!r} is nothing that a network can be made",
            did_you_mean(to, get_args(To)) or "safetensors or diffusers",
        )
    _check_place(weights, out, to, overwrite=overwrite)
    info = verdict_on(weights, model, any_class=True, numbers=False).require()
    facts = _facts(info, model, origins or {}, header_facts(weights_file(weights, model.weights)))
    if to == DIFFUSERS:
        _write_folder(weights, info, model, facts, out, half=half)
        return out
    from ilvrctl.models.files.saving import save_safetensors

    tensors, told = _as_one_file(weights, info, model)
    note = _note({**facts, **told})
    save_safetensors(out, _in_precision(weights, tensors, half=half), note)
    return out


def _check_place(weights: Path, out: Path, to: str, *, overwrite: bool) -> None:
    """UsageError for a place that must not be written."""
    if to != DIFFUSERS and out.suffix.lower() != ".safetensors":
        raise UsageError(
            f"{out}: the name of the file must end in .safetensors", "or a folder: --to diffusers"
        )
    here = {
        Path(os.path.realpath(file)) for file in (weights, weights_file(weights), *network_files(weights))
    }
    place = Path(os.path.realpath(out))
    if place in here or any(place in file.parents for file in here):
        raise UsageError(
            f"{out} is what shall be converted, and inputs are never touched", "choose another name"
        )
    if not os.path.lexists(out):
        return
    if out.is_dir() and (to != DIFFUSERS or not _ours(out)):
        raise UsageError(f"{out} is a folder that was not written here", "choose another name")
    if not overwrite:
        raise UsageError(f"{out} is there already", "--overwrite, or another name")
    if to == DIFFUSERS and not out.is_dir():
        raise UsageError(f"{out} is a file, and a folder is to be written", "choose another name")


def _ours(folder: Path) -> bool:
    """Whether a folder holds nothing but what is written here: it may be replaced."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")} <= _WRITTEN


def _facts(
    info: CheckpointInfo, model: ModelPreset, origins: Mapping[str, str], header: Mapping[str, Any]
) -> dict[str, Any]:
    """What is known of the network, with what else the ``header`` of its file tells of it."""
    assumed = {fact.name for fact in facts_of(info, model, origins).facts if fact.source == ASSUMED}
    facts = {
        field.name: getattr(model, field.name)
        for field in fields(ModelPreset)
        if field.name in FACTS_OF_A_NETWORK
        and field.name not in _OF_THE_OLD_FILE
        and field.name not in assumed
        if field.name in origins or getattr(model, field.name) != field.default
    }
    more = {name: value for name, value in header.items() if name not in (*FACTS_OF_A_NETWORK, "version")}
    averaged = {"averaged": True} if is_averaged(info.weights) else {}
    return {**more, **facts, "format": info.format, "channels": info.facts.get("channels", 3), **averaged}


def _note(facts: Mapping[str, Any]) -> dict[str, str]:
    return facts_note({name: facts[name] for name in sorted(facts) if facts[name] is not None})


def _as_one_file(
    weights: Path, info: CheckpointInfo, model: ModelPreset
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of one file, and what its layout changes about the facts."""
    if info.format not in (DIFFUSERS, "rosinality"):
        return _as_stored(weights, model), {}
    network = _network(weights, model)
    conventions = network.architecture.conventions
    if replace(conventions, sine_first=False, whole_width=False) == ADM:
        heads = asdict(network.architecture.hidden)
        return _stored_as(info, _in_guided_diffusion(network)), {**heads, "format": GUIDED_DIFFUSION}
    if info.format != DIFFUSERS:
        return _as_stored(weights, model), {}
    if not _is_pessers(network.architecture):
        raise WeightsError(
            f"{weights}: no layout of a single file holds this network of diffusers, whose norm_eps, padding and "
            f"embedding only its config.json tells",
            "--to diffusers writes a folder",
        )
    from ilvrctl.models.files.readers.pesser import PESSER as DIALECT

    tensors = _renamed(network, DIALECT, dimensions=4)
    return _stored_as(info, tensors), {"format": PESSER, "num_heads": None, "num_head_channels": None}


def _in_guided_diffusion(network: AdmUNet) -> dict[str, Tensor]:
    """The network's tensors for code that puts cosines first and divides by the root of a head's channels."""
    import torch

    form, tensors = network.architecture, dict(network.state_dict())
    if form.conventions.sine_first:
        half, first = form.model_channels // 2, tensors["time_embed.0.weight"]
        parts = first[:, half : 2 * half], first[:, :half], first[:, 2 * half :]
        tensors["time_embed.0.weight"] = torch.cat(parts, dim=1)
    if form.conventions.whole_width:
        new = form.hidden.use_new_attention_order
        for name, x in [(name, x) for name, x in tensors.items() if ".qkv." in name]:
            heads = _heads(network, name, x)
            rows = [y.reshape(heads, -1, *x.shape[1:]) for y in _q_k_v(network, name, x)]
            tensors[name] = torch.cat(rows, dim=0 if new else 1).reshape(x.shape)
    return tensors


def _is_pessers(architecture: AdmArchitecture) -> bool:
    """Whether pesser's ``Model`` is such a network: Ho et al.'s."""
    return (
        architecture.conventions == DDPM
        and architecture.hidden.num_heads == 1
        and architecture.resampling == "convolution"
        and not architecture.use_scale_shift_norm
        and architecture.num_classes is None
    )


def _as_stored(weights: Path, model: ModelPreset) -> dict[str, Tensor]:
    """The network's tensors under the names and in the precision that the file has them in."""
    from ilvrctl.models.files.checkpoint import read_state_dict
    from ilvrctl.models.files.inspection import read_header

    file = weights_file(weights, model.weights)
    which = model.weights if file == weights else AVERAGED
    tensors, _ = read_header(file, which)
    row = identify(tensors)
    assert row is not None  # judged before
    left_out = row.reader.left_out(tensors)
    return read_state_dict(file, which=which, only=[name for name in tensors if name not in left_out])


def _network(weights: Path, model: ModelPreset) -> AdmUNet:
    import torch

    from ilvrctl.models.files.loading import load_unet

    return load_unet(weights, HiddenFlags.of(model), device=torch.device("cpu"), which=model.weights)


def _stored_as(info: CheckpointInfo, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``tensors`` in the one precision that they had in their file, or in float32."""
    import torch

    dtype = getattr(torch, info.dtypes[0]) if len(info.dtypes) == 1 else torch.float32
    return {name: x.to(dtype) for name, x in tensors.items()}


def _in_precision(weights: Path, tensors: dict[str, Tensor], *, half: bool) -> dict[str, Tensor]:
    """``tensors``, in float16 with ``half``. WeightsError where a number is too large for that."""
    import torch

    if not half:
        return tensors
    found = {name: x.half() if x.is_floating_point() else x for name, x in tensors.items()}
    for name, x in found.items():
        if not torch.isfinite(x).all():
            raise WeightsError(
                f"{weights}: tensor {name} holds numbers too large for fp16", "leave out --half"
            )
    return found


def _write_folder(
    weights: Path,
    info: CheckpointInfo,
    model: ModelPreset,
    facts: Mapping[str, Any],
    out: Path,
    *,
    half: bool,
) -> None:
    from ilvrctl.models.files.readers.diffusers import DIFFUSERS as DIALECT
    from ilvrctl.models.files.saving import save_safetensors

    if info.format == "lucidrains":
        raise unholdable("a Unet of lucidrains' package, which is another network than UNet2DModel")
    learned = bool(info.facts.get("learn_sigma"))
    scheduler = scheduler_config(model, learned=learned)
    network = _network(weights, model)
    config = write_config(network.architecture, Size.of(model.image_size or str(info.facts["image_size"])))
    tensors = _in_precision(weights, _stored_as(info, _renamed(network, DIALECT, dimensions=2)), half=half)
    with _replacing_folder(out) as part:
        write_text(part / "model_index.json", _json(_PIPELINE))
        write_text(part / "scheduler" / "scheduler_config.json", _json(scheduler))
        write_text(part / "unet" / "config.json", _json(config))
        heads = {"num_heads": None, "num_head_channels": config["attention_head_dim"]}
        note = _note({**facts, **heads, "format": DIFFUSERS, "use_new_attention_order": True})
        save_safetensors(part / _WEIGHTS, tensors, {"format": "pt", **note})


def _json(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, indent=2) + "\n"


def _renamed(network: AdmUNet, dialect: Dialect, *, dimensions: int) -> dict[str, Tensor]:
    """The network's tensors under the names of ``dialect``: q, k and v apart, matrices with so many ``dimensions``."""
    form = network.architecture
    names = names_in(dialect, form.num_res_blocks, form.attention, form.middle_attention)
    found = {}
    for name, x in network.state_dict().items():
        parts = _q_k_v(network, name, x) if ".qkv." in name else (x,)
        for part, y in enumerate(parts):
            matrix = ".qkv.weight" in name or ".proj_out.weight" in name
            shape = (*y.shape[:2], 1, 1)[:dimensions] if matrix else y.shape
            found[names[name, part]] = y.reshape(shape)
    return found


def _q_k_v(network: AdmUNet, name: str, x: Tensor) -> tuple[Tensor, ...]:
    """Queries, keys and values of an attention layer: rows of all heads, divided by the root of a head's channels."""
    form, heads = network.architecture, _heads(network, name, x)
    if form.hidden.use_new_attention_order:
        q, k, v = x.chunk(3)
    else:
        q, k, v = (y.reshape(-1, *x.shape[1:]) for y in x.reshape(heads, 3, -1, *x.shape[1:]).unbind(1))
    return (q * heads**-0.5 if form.conventions.whole_width and heads > 1 else q), k, v


def _heads(network: AdmUNet, name: str, qkv: Tensor) -> int:
    """Heads of the attention layer that the tensor ``name`` belongs to."""
    return network.architecture.hidden.heads(len(qkv) // 3, decoder=name.startswith("output_blocks."))


@contextmanager
def _replacing_folder(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` for the block to fill; it takes the place of ``out`` at its end, else it is removed."""
    out = Path(os.path.realpath(out))
    make_folder(out.parent)
    part = out.with_name(f"{out.name}.{os.getpid()}.part")
    old = out.with_name(f"{out.name}.{os.getpid()}.old")
    try:
        part.mkdir()
        yield part
        if out.exists():
            out.replace(old)
        part.replace(out)
    except OSError as error:
        raise unwritable(out, error) from error
    finally:
        if old.exists() and not out.exists():
            old.replace(out)
        for left in (part, old):
            shutil.rmtree(left, ignore_errors=True)
