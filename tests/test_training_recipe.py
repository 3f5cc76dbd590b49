"""Recipes and networks of new models: strict, and of the published architectures where these are asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import EMOJI, GOLDEN
from PIL import Image

from ilvrctl.config import Layer
from ilvrctl.errors import ConfigError, UsageError
from ilvrctl.images.tensors import to_tensor
from ilvrctl.models.adm import AdmUNet
from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.files.loading import load_classifier
from ilvrctl.presets import find_model
from ilvrctl.training.recipe import DomainRecipe, Network, Recipe, load_recipe, recipe_files

SHAPES = json.loads((GOLDEN / "state_dict_shapes.json").read_text(encoding="utf-8"))


def test_the_recipe_of_256_px_trains_the_network_of_the_published_models() -> None:
    recipe = load_recipe(Recipe, "photos256", Layer({}))
    with torch.device("meta"):
        network = AdmUNet(recipe.network.unet(recipe.size, 6))
    found = {name: list(x.shape) for name, x in network.state_dict().items()}
    published = next(v for v in SHAPES["ilvr_adm-256-L"].values() if isinstance(v, dict) and len(v) > 40)
    assert list(found.items()) == [(name, list(shape)) for name, shape in published.items()]


@pytest.mark.parametrize("name", sorted(recipe_files()))
def test_every_shipped_recipe_has_a_network(name: str) -> None:
    if name.endswith("dse"):
        domains = load_recipe(DomainRecipe, name, Layer({}))
        assert domains.network.classifier(domains.size, 2).out_channels == 2
    else:
        recipe = load_recipe(Recipe, name, Layer({}))
        assert recipe.network.unet(recipe.size, 3).downsample_factor <= recipe.size


def test_flags_win_over_the_recipe_and_a_typo_is_told(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("size: 32\nlearning_rate: 0.001\n", encoding="utf-8")
    recipe = load_recipe(Recipe, str(mine), Layer({"size": 16}))
    assert (recipe.size, recipe.learning_rate) == (16, 0.001)
    mine.write_text("lerning_rate: 0.001\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"line 1: unknown key") as caught:
        load_recipe(Recipe, str(mine), Layer({}))
    assert "learning_rate" in str(caught.value.hint)
    with pytest.raises(UsageError, match="unknown recipe 'smal64'") as unknown:
        load_recipe(Recipe, "smal64", Layer({}))
    assert "small64" in str(unknown.value.hint)


def test_sizes_that_the_architecture_cannot_have() -> None:
    with pytest.raises(UsageError, match="8 must divide its size; 60") as caught:
        Network().unet(60, 3)
    assert caught.value.hint == "--size 56 or --size 64"
    with pytest.raises(UsageError, match="40 channels cannot be normalised"):
        Network(channels=40).unet(64, 3)
    with pytest.raises(UsageError, match="attention at 12 pixels"):
        Network(attention=(12,)).unet(64, 3)
    with pytest.raises(UsageError, match="no file of such a classifier could be read") as unread:
        Network(multipliers=(1, 1), attention=()).classifier(16, 2)
    assert "resampling=convolution" in str(unread.value.hint)
    assert Network(multipliers=(1, 1), attention=(), resampling="convolution").classifier(16, 2).levels == 2
    with pytest.raises(ConfigError, match="ema must be"):
        Recipe(ema=1.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"noise_schedule": "linaer"}, "noise_schedule must be"),
        ({"teacher_below": 5}, "without a teacher does nothing"),
        ({"teacher_steps": 5}, "without a teacher does nothing"),
        ({"teacher": "emoji3d"}, "needs the level"),
        ({"teacher": "emoji3d", "teacher_below": 0}, "teacher_below must be"),
        ({"clip": 0.0}, "clip must be"),
        ({"diffusion_steps": 0}, "diffusion_steps must be"),
        ({"diffusion_steps": 10**8}, "diffusion_steps must be from 1 to 100000"),
        ({"batch_size": 10**9}, "batch_size must be"),
        ({"size": 10**6}, "size must be"),
    ],
)
def test_recipes_that_make_no_sense(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Recipe(**wrong)


def test_the_bundled_domain_classifier_is_that_of_its_recipe() -> None:
    model = find_model("emoji_dse")
    recipe = load_recipe(DomainRecipe, "emoji-dse", Layer({}))
    network = load_classifier(
        model.path(), HiddenFlags(num_head_channels=model.num_head_channels), device=torch.device("cpu")
    )
    assert network.architecture == recipe.network.classifier(recipe.size, 2)
    right = 0
    for label, style in enumerate(("flat", "3d")):
        pictures = [to_tensor(Image.open(path)) for path in sorted((EMOJI / style).glob("*.png"))]
        with torch.no_grad():
            logits = network(torch.stack(pictures), torch.zeros(len(pictures)))
        right += int((logits.argmax(1) == label).sum())
    assert right / (2 * len(pictures)) > 0.7
