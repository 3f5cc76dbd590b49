"""Networks that diffusers saved: a folder with the weights and what its JSON files tell. No torch here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any, get_args

from ilvrctl.diffusion.schedule import BETA_END, BETA_START, HAVE_ENDS, Schedule, Spacing, recognise
from ilvrctl.errors import WeightsError
from ilvrctl.models.files.averaged import AVERAGED, RAW, choice_note, is_averaged
from ilvrctl.models.files.diffusers_config import unholdable
from ilvrctl.models.files.stated import checked
from ilvrctl.presets import ModelPreset
from ilvrctl.sizes import LARGEST, Size

_STEM = "diffusion_pytorch_model"
_NAMES = (f"{_STEM}.safetensors", f"{_STEM}.bin", f"{_STEM}.fp16.safetensors", f"{_STEM}.fp16.bin")
_SCHEDULER = "scheduler_config.json"
_LONGEST = 1 << 20  # bytes of a JSON file
_UNBOUNDED = ("lambda_min_clipped",)  # -Infinity, as the library writes it
_MOST_LEVELS = 100_000
_USUAL_T = 1000  # the levels that the ends of "linear" are scaled from
_FETCH = "take the file from where the weights came from"
_PREDICTS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
_SCHEDULES = {
    "linear": "linear",
    "scaled_linear": "quad",
    "squaredcos_cap_v2": "cosine",
    "sigmoid": "sigmoid_beta",
}
_LEADING = ("DDPM", "DDIM", "PNDM", "LCM", "TCD")
"""What the names of schedulers begin with whose steps lead where their configuration does not say."""
_CLIPPING = ("DDPM", "DDIM", "RePaint")
"""The same of those that clip."""
_ENDING = {"DDIM": True, "PNDM": False}
"""The same of those that can end at the lowest level, and whether they end at the clean picture."""
_VARIANCES = {
    "fixed_small": "fixed_small",
    "fixed_small_log": "fixed_small",
    "fixed_large": "fixed_large",
    "fixed_large_log": "fixed_large",
}


def weights_file(path: Path, which: str = AVERAGED) -> Path:
    """The file of weights that ``path`` means: itself, or the one in a folder that diffusers saved.

    A folder may be a network, a whole pipeline or a checkpoint of training: then the network is the folder in it
    that holds one, ``unet_ema`` rather than ``unet`` unless ``which`` is "raw" or the folder's name. WeightsError
    for any other folder, and where nothing tells which of several is meant.
    """
    if not path.is_dir():
        return path
    if (own := _weights_in(path)) is not None:
        return own
    found = _networks_in(path)
    if not found:
        raise WeightsError(
            f"{path}: a folder without a diffusers network ({_NAMES[0]} or .bin) in it or in unet/",
            "give the .pt or .safetensors file inside it",
        )
    return found[_chosen(path, list(found), which)]


def folder_note(path: Path, which: str = AVERAGED) -> str | None:
    """What people should know of the network that was taken of a folder's; None where there was no choice."""
    if not path.is_dir() or _weights_in(path) is not None or len(found := _networks_in(path)) < 2:
        return None
    taken = _chosen(path, list(found), which)
    others = [name for name in found if name != taken]
    return choice_note(taken, is_averaged(taken), others)


def _networks_in(path: Path) -> dict[str, Path]:
    """The weights in the folders in ``path`` that hold one of diffusers' U-Nets, by the folder's name."""
    found = {}
    for folder in sorted(folder for folder in path.iterdir() if folder.is_dir()):
        known = folder.name == "unet" or _names_a_unet(folder / "config.json")
        if known and (file := _weights_in(folder)) is not None:
            found[folder.name] = file
    return found


def _chosen(path: Path, names: list[str], which: str) -> str:
    if which in names:
        return which
    marked = [name for name in names if is_averaged(name)]
    wanted = (marked if which == AVERAGED else [name for name in names if name not in marked]) or names
    wanted = ["unet"] if "unet" in wanted else wanted
    if which not in (AVERAGED, RAW) or len(wanted) != 1:
        raise WeightsError(
            f"{path}: holds several networks, and nothing tells which is meant: {', '.join(names)}",
            f"--set model.weights={names[0]}   (or another of them)",
        )
    return wanted[0]


def _names_a_unet(config: Path) -> bool:
    with suppress(WeightsError):
        return config.is_file() and str(_read(config).get("_class_name", "")).startswith("UNet")
    return False


def _weights_in(folder: Path) -> Path | None:
    """The weights in ``folder`` itself. WeightsError where they are in pieces."""
    for name in _NAMES:
        if (folder / name).is_file():
            return folder / name
    if any(folder.glob(f"{_STEM}*.index.json")):
        raise WeightsError(
            f"{folder}: the weights are in several pieces, which cannot be read",
            "load the network with diffusers and save it with max_shard_size='10GB'",
        )
    return None


def network_files(path: Path) -> tuple[Path, ...]:
    """The files that fix the network ``path``: the weights, and the config.json of a diffusers network.

    Of a folder with averaged and raw weights, those of both.
    """
    several = _networks_in(path) if path.is_dir() and _weights_in(path) is None else {}
    files = list(several.values()) if len(several) > 1 else [weights_file(path)]
    return tuple(
        part
        for file in files
        for part in (file, _config(file))
        if part == file or (file.name.startswith(_STEM) and part.is_file())
    )


def network_config(path: Path, which: str = AVERAGED) -> dict[str, Any]:
    """What ``config.json`` beside the weights says of the network. WeightsError when it is not there."""
    file = _config(weights_file(path, which))
    if not file.is_file():
        raise WeightsError(
            f"{path}: config.json is not beside the weights, and a diffusers network needs it: heads, padding and "
            "embedding are told nowhere else",
            "fetch it from where the weights came from, and put it into their folder",
        )
    return _read(file)


def stated_facts(path: Path, which: str = AVERAGED) -> dict[str, Any]:
    """The facts of a model preset that the JSON files of a diffusers network state; empty for other files.

    WeightsError for a schedule or a prediction that cannot be followed.
    """
    file = weights_file(path, which)
    if not _is_diffusers(file):
        return {}
    facts: dict[str, Any] = {"format": "diffusers"}
    size = _read(_config(file)).get("sample_size")
    if size is not None:
        height, width = size if isinstance(size, list) and len(size) == 2 else (size, size)
        sides = (_whole(_config(file), "sample_size", side, LARGEST) for side in (width, height))
        facts["image_size"] = Size(*sides).plain
    scheduler = scheduler_file(file)
    return facts | (_scheduler_facts(scheduler) if scheduler else {})


def scheduler_file(weights: Path) -> Path | None:
    """The scheduler's settings of a network: beside it, or beside its folder, the pipeline's or the training's.

    A checkpoint of training (``checkpoint-N/unet``) has its scheduler in the folder of the training.
    """
    place = weights.resolve().parent
    above = [place, place.parent]
    above += [folder.parent for folder in above if folder.name.startswith("checkpoint")]
    for folder in above:
        for file in (folder / _SCHEDULER, folder / "scheduler" / _SCHEDULER):
            if file.is_file():
                return file
    return None


def _scheduler_facts(file: Path) -> dict[str, Any]:
    """What a scheduler's configuration says of the levels, of the prediction, and of the clean estimates."""
    config = _read(file)
    facts = _levels(file, config)
    facts["predicts"] = _translated(file, config, "prediction_type", _PREDICTS, "epsilon")
    if config.get("rescale_betas_zero_snr"):
        if facts["predicts"] == "eps":
            raise _refused(file, "rescale_betas_zero_snr", True, "noise alone tells nothing of the picture")
        facts["zero_snr"] = True
    variance = config.get("variance_type")
    if variance == "learned":
        raise _refused(file, "variance_type", variance, "a learned variance is read as learned_range")
    if variance in _VARIANCES:
        facts["variance"] = _VARIANCES[variance]
    if not _clips(file, config):
        facts["clip_sample"] = False
    usual = "leading" if _kind(config).startswith(_LEADING) else "linspace"
    spacing = config.get("timestep_spacing", usual)
    if spacing not in get_args(Spacing):
        raise _refused(file, "timestep_spacing", spacing)
    facts["timestep_spacing"] = spacing
    if spacing == "leading" and config.get("steps_offset", 0):
        facts["steps_offset"] = config["steps_offset"]
    for kind, usual_end in _ENDING.items():
        if _kind(config).startswith(kind):
            facts |= {} if config.get("set_alpha_to_one", usual_end) else {"set_alpha_to_one": False}
    return checked(file, facts)


def _kind(config: Mapping[str, Any]) -> str:
    """The class of a scheduler; that of ``DDPMPipeline`` where it is not said."""
    return str(config.get("_class_name", "DDPMScheduler"))


def scheduler_config(model: ModelPreset, *, learned: bool) -> dict[str, Any]:
    """The ``DDPMScheduler`` of a network with these facts, as :func:`stated_facts` reads them; ``learned``: it has
    learned its variance. WeightsError that names what no such scheduler has.
    """
    names = {here: there for there, here in _PREDICTS.items()}
    if model.predicts not in names or model.noise_schedule == "karras":
        raise unholdable(f"a network driven by the noises of EDM (predicts {model.predicts})")
    if model.rescale_timesteps and model.diffusion_steps != _USUAL_T:
        raise unholdable(f"rescale_timesteps with {model.diffusion_steps} levels")
    T = model.diffusion_steps
    config: dict[str, Any] = {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": T,
        "prediction_type": names[model.predicts],
        "variance_type": "learned_range" if learned else model.variance,
        "clip_sample": model.clip_sample,
        "timestep_spacing": model.timestep_spacing,
        "steps_offset": model.steps_offset,
        "rescale_betas_zero_snr": model.zero_snr,
    }
    schedule = next((there for there, here in _SCHEDULES.items() if here == model.noise_schedule), None)
    if schedule is None:
        abar = Schedule.of(replace(model, zero_snr=False)).alphas_cumprod
        betas = [1 - after / before for before, after in zip((1.0, *abar), abar, strict=False)]
        betas = list(model.betas) if model.noise_schedule == "betas" else betas
        return config | {"num_train_timesteps": len(betas), "beta_schedule": "linear", "trained_betas": betas}
    scale = _USUAL_T / T if model.noise_schedule == "linear" else 1.0
    first = BETA_START * scale if model.beta_start is None else model.beta_start
    last = BETA_END * scale if model.beta_end is None else model.beta_end
    return config | {"beta_schedule": schedule, "beta_start": first, "beta_end": last}


def _levels(file: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    betas = config.get("trained_betas")
    if betas is not None:
        if not isinstance(betas, list) or not betas or None in betas:
            raise _refused(file, "trained_betas", betas)
        return recognise(checked(file, {"betas": tuple(betas)})["betas"])
    if config.get("beta_schedule") is None:
        raise _refused(file, "beta_schedule", None)
    name = _translated(file, config, "beta_schedule", _SCHEDULES, "linear")
    T = _whole(file, "num_train_timesteps", config.get("num_train_timesteps", 1000), _MOST_LEVELS)
    facts = checked(file, {"diffusion_steps": T, "noise_schedule": name})
    scale = _USUAL_T / T if name == "linear" else 1.0
    for key, usual in (("beta_start", BETA_START), ("beta_end", BETA_END)):
        value = config.get(key, usual)
        if name in HAVE_ENDS and value != usual * scale:
            facts |= checked(file, {key: value})
    return facts


def _clips(file: Path, config: Mapping[str, Any]) -> bool:
    """Whether clean estimates are kept in [-1, 1]."""
    if config.get("thresholding"):
        if config.get("sample_max_value", 1.0) != 1.0:
            raise _refused(file, "sample_max_value", config["sample_max_value"], "dynamic thresholding")
        return True
    usual = _kind(config).startswith(_CLIPPING)
    if config.get("clip_sample", usual) and config.get("clip_sample_range", 1.0) != 1.0:
        raise _refused(file, "clip_sample_range", config["clip_sample_range"])
    return bool(config.get("clip_sample", usual))


def _whole(file: Path, name: str, value: object, most: int) -> int:
    if type(value) is not int or not 1 <= value <= most:
        raise WeightsError(
            f"{file}: {name} is {json.dumps(value)[:40]}, not a whole number from 1 to {most:,}",
            _FETCH,
        )
    return value


def _translated(
    file: Path, config: Mapping[str, Any], name: str, table: Mapping[str, str], default: str
) -> str:
    value = config.get(name, default)
    if not isinstance(value, str) or value not in table:
        raise _refused(file, name, value)
    return table[value]


def _refused(file: Path, name: str, value: object, why: str = "") -> WeightsError:
    shown = json.dumps(value) if len(json.dumps(value)) < 40 else "a long list"
    return WeightsError(
        f"{file}: {name} is {shown}, which is not supported here" + (f" ({why})" if why else ""),
        "what works: linear, scaled_linear, squaredcos_cap_v2, sigmoid and trained betas; networks that predict "
        "noise, picture or v; clipping to [-1, 1]",
    )


def _config(weights: Path) -> Path:
    return weights.parent / "config.json"


def _is_diffusers(weights: Path) -> bool:
    """Whether a config.json of diffusers is beside the weights, whatever these are called."""
    config = _config(weights)
    return config.is_file() and (weights.name.startswith(_STEM) or _names_a_unet(config))


def _read(file: Path) -> dict[str, Any]:
    """The settings in a small JSON file, each given once and all of them numbers that JSON has."""
    try:
        if not file.is_file() or file.stat().st_size > _LONGEST:
            raise WeightsError(f"{file}: no small file of settings", _FETCH)
        content = json.loads(file.read_text(encoding="utf-8-sig"), object_pairs_hook=_once)
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(
            f"{file}: not a JSON file that can be read ({str(error)[:100]})", _FETCH
        ) from error
    if not isinstance(content, dict):
        raise WeightsError(f"{file}: holds no settings of a network", _FETCH)
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is given twice")
    for name, value in pairs:
        numbers = value if isinstance(value, list) else [value]
        if name not in _UNBOUNDED and not all(isfinite(x) for x in numbers if isinstance(x, float)):
            raise ValueError(f"{name} is no number that JSON has")
    return found
