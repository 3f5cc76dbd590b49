"""An architecture is read from names and shapes alone, and told from everything that is not one."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import architecture_of, hidden_of

from ilvrctl.errors import ConfigError, WeightsError
from ilvrctl.models.adm import AdmUNet
from ilvrctl.models.architecture.unet import AdmArchitecture, HiddenFlags, infer_architecture

PUBLISHED: dict[str, Any] = json.loads((Path(__file__).parent / "golden/state_dict_shapes.json").read_text())
SMALL = AdmArchitecture(
    in_channels=3,
    out_channels=6,
    model_channels=32,
    widths=(32, 64),
    num_res_blocks=1,
    attention=(False, True),
    resampling="residual",
    hidden=HiddenFlags(num_heads=2),
)


def shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    return {key: tuple(shape) for key, shape in PUBLISHED[name]["state_dict"].items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_are_rebuilt_tensor_by_tensor(name: str) -> None:
    flags, expected = PUBLISHED[name]["flags"], shapes_of(name)
    architecture = infer_architecture(expected, hidden_of(flags))
    assert architecture == architecture_of(flags)
    assert architecture.parameter_shapes() == expected
    with torch.device("meta"):
        network = AdmUNet(architecture)
    assert {key: tuple(x.shape) for key, x in network.state_dict().items()} == expected
    assert sum(p.numel() for p in network.parameters()) == PUBLISHED[name]["params"]


def test_the_names_come_in_the_published_order() -> None:
    for name in PUBLISHED:
        expected = shapes_of(name)
        architecture = infer_architecture(expected, hidden_of(PUBLISHED[name]["flags"]))
        assert list(architecture.parameter_shapes()) == list(expected)


def test_facts_of_the_512_pixel_network() -> None:
    architecture = infer_architecture(shapes_of("openai-512-uncond"), HiddenFlags(num_head_channels=64))
    assert architecture.channel_mult == (0.5, 1, 1, 2, 2, 4, 4)
    assert architecture.attention_factors == (16, 32, 64)
    assert architecture.downsample_factor == 64
    assert architecture.num_res_blocks == 2
    assert architecture.resampling == "residual"
    assert architecture.use_scale_shift_norm
    assert architecture.num_classes is None
    assert architecture.learns_variance


def test_head_channels_win_over_heads_as_in_the_published_code() -> None:
    assert HiddenFlags(num_heads=4, num_head_channels=64).heads(512) == 8
    assert HiddenFlags(num_heads=4, num_head_channels=-1).heads(512) == 4
    assert HiddenFlags(num_heads=4, num_heads_upsample=2).heads(512, decoder=True) == 2
    assert HiddenFlags(num_heads=4, num_heads_upsample=-1).heads(512, decoder=True) == 4
    assert HiddenFlags(num_heads=4, num_heads_upsample=2).heads(512) == 4


def test_unknown_heads_name_the_flags_to_give() -> None:
    with pytest.raises(WeightsError, match="how many attention heads") as error:
        infer_architecture(SMALL.parameter_shapes(), HiddenFlags())
    assert error.value.hint is not None
    assert "num_head_channels" in error.value.hint


@pytest.mark.parametrize("hidden", [HiddenFlags(num_heads=5), HiddenFlags(num_head_channels=48)])
def test_heads_that_do_not_divide_the_channels(hidden: HiddenFlags) -> None:
    with pytest.raises(WeightsError, match="does not divide the 64 channels"):
        infer_architecture(SMALL.parameter_shapes(), hidden)


def test_a_number_of_heads_below_one_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="num_heads is 0"):
        HiddenFlags(num_heads=0)


@pytest.mark.parametrize("name", sorted(SMALL.parameter_shapes()))
def test_any_tensor_missing_or_of_another_shape_is_named(name: str) -> None:
    hidden = HiddenFlags(num_heads=1)
    shapes = SMALL.parameter_shapes()
    with pytest.raises(WeightsError, match=r"tensor \S+ (is missing|does not fit)"):
        infer_architecture({k: v for k, v in shapes.items() if k != name}, hidden)
    longer = (*shapes[name][:-1], shapes[name][-1] + 1)
    with pytest.raises(WeightsError, match=r"tensor \S+ (is missing|does not fit)"):
        infer_architecture({**shapes, name: longer}, hidden)


def test_the_first_tensor_that_does_not_fit_is_the_one_named() -> None:
    shapes = SMALL.parameter_shapes()
    shapes["input_blocks.1.0.out_layers.3.weight"] = (32, 31, 3, 3)
    with pytest.raises(WeightsError, match=r"input_blocks\.1\.0\.out_layers\.3\.weight .*32x31x3x3"):
        infer_architecture(shapes, SMALL.hidden)


@pytest.mark.parametrize("name", ["extra.weight", "input_blocks.x.0.weight", "output_blocks.99999.0.weight"])
def test_tensors_without_a_place_are_named(name: str) -> None:
    with pytest.raises(WeightsError, match=name.replace(".", r"\.")):
        infer_architecture({**SMALL.parameter_shapes(), name: (3,)}, SMALL.hidden)


def test_widths_that_the_normalisation_cannot_group() -> None:
    odd = AdmArchitecture(3, 3, 20, (20,), 1, (False,), hidden=HiddenFlags(num_heads=1))
    with pytest.raises(WeightsError, match="20 channels"):
        infer_architecture(odd.parameter_shapes(), odd.hidden)


def test_scalars_and_empty_shapes_do_not_crash_it() -> None:
    for shape in ((), (0,), (0, 0, 0, 0)):
        with pytest.raises(WeightsError, match="does not fit"):
            infer_architecture(dict.fromkeys(SMALL.parameter_shapes(), shape), SMALL.hidden)
    with pytest.raises(WeightsError, match="missing"):
        infer_architecture({}, SMALL.hidden)


def test_reading_an_architecture_needs_no_torch() -> None:
    rooms = {"architecture": "unet, classifier, hidden_flags, blocks", "files": "formats, container"}
    imports = "; ".join(f"from ilvrctl.models.{room} import {names}" for room, names in rooms.items())
    code = f"import sys; {imports}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_parameter_count_by_hand() -> None:
    # one level, one residual block per level, no attention but the middle's
    tiny = AdmArchitecture(3, 3, 32, (32,), 1, (False,), "convolution", False, hidden=HiddenFlags(1))
    conv, norm = 32 * 32 * 9 + 32, 64
    res = 2 * conv + 2 * norm + 128 * 32 + 32
    wide = res + 32 * 32 * 9 + 64 + 64 * 32 + 32  # 64 channels in, and a 1x1 skip connection
    attention = norm + 96 * 32 + 96 + 32 * 32 + 32
    embedding = 32 * 128 + 128 + 128 * 128 + 128
    stem, out = 3 * 32 * 9 + 32, norm + 32 * 3 * 9 + 3
    expected = embedding + stem + 3 * res + attention + 2 * wide + out
    assert sum(map(math.prod, tiny.parameter_shapes().values())) == expected
