"""Networks that diffusers saved: a folder with the weights and what its JSON files tell. No torch here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ilvrctl.errors import WeightsError

_STEM = "diffusion_pytorch_model"
_NAMES = (f"{_STEM}.safetensors", f"{_STEM}.bin", f"{_STEM}.fp16.safetensors", f"{_STEM}.fp16.bin")
_PREDICTS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
_SCHEDULES = {"linear": "linear", "squaredcos_cap_v2": "cosine"}
_VARIANCES = {
    "fixed_small": "fixed_small",
    "fixed_small_log": "fixed_small",
    "fixed_large": "fixed_large",
    "fixed_large_log": "fixed_large",
}


def weights_file(path: Path) -> Path:
    """The file of weights that ``path`` means: itself, or the one in a folder that diffusers saved.

    A folder may be a network or a whole pipeline with ``unet/``. WeightsError for any other folder.
    """
    if not path.is_dir():
        return path
    for folder in (path, path / "unet"):
        for name in _NAMES:
            if (folder / name).is_file():
                return folder / name
        if any(folder.glob(f"{_STEM}*.index.json")):
            raise WeightsError(
                f"{path}: the weights are in several pieces, which cannot be read",
                "load the network with diffusers and save it with max_shard_size='10GB'",
            )
    raise WeightsError(
        f"{path}: a folder without a diffusers network ({_NAMES[0]} or .bin) in it or in unet/",
        "give the .pt or .safetensors file inside it",
    )


def network_files(path: Path) -> tuple[Path, ...]:
    """The files that fix the network ``path``: the weights, and the config.json of a diffusers network."""
    file = weights_file(path)
    config = _config(file)
    return (file, config) if _is_diffusers(file) and config.is_file() else (file,)


def network_config(path: Path) -> dict[str, Any]:
    """What ``config.json`` beside the weights says of the network. WeightsError when it is not there."""
    file = _config(weights_file(path))
    if not file.is_file():
        raise WeightsError(
            f"{path}: config.json is not beside the weights, and a diffusers network needs it: heads, padding and "
            "embedding are told nowhere else",
            "fetch it from where the weights came from, and put it into their folder",
        )
    return _read(file)


def stated_facts(path: Path) -> dict[str, Any]:
    """The facts of a model preset that the JSON files of a diffusers network state; empty for other files.

    WeightsError for a schedule or a prediction that cannot be followed.
    """
    file = weights_file(path)
    if not _is_diffusers(file) or not _config(file).is_file():
        return {}
    facts: dict[str, Any] = {"format": "diffusers"}
    size = _read(_config(file)).get("sample_size")
    size = size[0] if isinstance(size, list) and len(set(size)) == 1 else size
    if isinstance(size, int):
        facts["image_size"] = size
    folders = (file.parent, file.parent / "scheduler", file.parent.parent / "scheduler")
    scheduler = next((f for f in (d / "scheduler_config.json" for d in folders) if f.is_file()), None)
    return facts | (_scheduler_facts(scheduler) if scheduler else {})


def _scheduler_facts(file: Path) -> dict[str, Any]:
    config = _read(file)
    if config.get("beta_schedule") is None or config.get("trained_betas") is not None:
        name = "trained_betas" if config.get("beta_schedule") else "beta_schedule"
        raise _refused(file, name, config.get(name))
    if config.get("rescale_betas_zero_snr"):
        raise _refused(file, "rescale_betas_zero_snr", True)
    T = int(config.get("num_train_timesteps", 1000))
    facts: dict[str, Any] = {
        "diffusion_steps": T,
        "noise_schedule": _translated(file, config, "beta_schedule", _SCHEDULES, "linear"),
        "predicts": _translated(file, config, "prediction_type", _PREDICTS, "epsilon"),
    }
    if facts["noise_schedule"] == "linear":
        for name, usual in (
            ("beta_start", 0.1 / T),
            ("beta_end", 20 / T),
        ):  # ADM's scale of Ho et al.'s betas
            if abs(config.get(name, usual) - usual) > 1e-6 * usual:
                raise _refused(file, name, config[name])
    if config.get("variance_type") in _VARIANCES:
        facts["variance"] = _VARIANCES[config["variance_type"]]
    return facts


def _translated(
    file: Path, config: Mapping[str, Any], name: str, table: Mapping[str, str], default: str
) -> str:
    value = config.get(name, default)
    if value not in table:
        raise _refused(file, name, value)
    return table[value]


def _refused(file: Path, name: str, value: object) -> WeightsError:
    return WeightsError(
        f"{file}: {name} is {json.dumps(value)}, which is not supported here",
        "what works: linear (Ho et al.'s betas) and cosine schedules; networks that predict noise, picture or v",
    )


def _config(weights: Path) -> Path:
    return weights.parent / "config.json"


def _is_diffusers(weights: Path) -> bool:
    return weights.name.startswith(_STEM)


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{file}: not a JSON file that can be read ({error})") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{file}: holds no settings of a network")
    return content
