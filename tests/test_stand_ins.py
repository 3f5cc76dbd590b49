"""The fixture ``stand_ins``: what tests of commands run in the place of the models that come with the package."""

from __future__ import annotations

import pytest

from ilvrctl import paths
from ilvrctl.presets import find_model

pytestmark = pytest.mark.usefixtures("stand_ins")
NAMES = ("emoji3d-64", "emoji-flat-64")


def test_two_small_networks_that_differ_stand_in() -> None:
    models = [find_model(name) for name in NAMES]
    assert [(model.image_size, model.bundled, model.predicts) for model in models] == 2 * [(32, False, "v")]
    first, second = (model.path().read_bytes() for model in models)
    assert len(first) == len(second) < 2_000_000 and first != second


@pytest.mark.shipped
def test_a_test_can_have_the_real_ones() -> None:
    for name in NAMES:
        assert find_model(name).path().parent == paths.DATA
