"""Between bytes and [-1, 1]: exact both ways."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ilvrctl.images.tensors import to_image, to_tensor


@st.composite
def pictures(draw: st.DrawFn) -> Image.Image:
    width, height = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    size = 3 * width * height
    return Image.frombytes("RGB", (width, height), draw(st.binary(min_size=size, max_size=size)))


@given(image=pictures())
@settings(max_examples=80, deadline=None)
def test_there_and_back_gives_the_same_bytes(image: Image.Image) -> None:
    again = to_image(to_tensor(image))
    assert again.size == image.size
    assert again.tobytes() == image.tobytes()


def test_every_level_survives_in_every_float_type_that_holds_it() -> None:
    levels = Image.frombytes("RGB", (256, 1), bytes(v for v in range(256) for _ in range(3)))
    for dtype in (torch.float64, torch.float32, torch.float16):
        assert to_image(to_tensor(levels).to(dtype)).tobytes() == levels.tobytes()


def test_x_is_v_over_127_5_minus_1() -> None:
    x = to_tensor(Image.frombytes("RGB", (2, 1), bytes([0, 51, 255, 128, 1, 127])))
    assert x.dtype == torch.float32
    expected = torch.tensor([[[0, 128]], [[51, 1]], [[255, 127]]]) / 127.5 - 1
    assert torch.equal(x, expected)
    assert x.is_contiguous()


def test_the_shape_is_channels_height_width() -> None:
    assert to_tensor(Image.new("RGB", (5, 3))).shape == (3, 3, 5)
    assert to_image(torch.zeros(3, 7, 2)).size == (2, 7)


def test_values_are_clamped_and_rounded_to_the_nearest() -> None:
    x = torch.tensor([-3.0, -1.0, 0.0, 0.5, 1.0, 9.0]).view(1, 1, 6).expand(3, 1, 6)
    assert list(to_image(x).getchannel("R").tobytes()) == [0, 0, 128, 191, 255, 255]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_float_type_layout_and_gradient_is_accepted(dtype: torch.dtype) -> None:
    x = torch.linspace(-1, 1, 60, dtype=dtype).view(5, 3, 4).permute(1, 2, 0).requires_grad_()
    assert to_image(x).size == (5, 4)


def test_other_modes_come_in_as_rgb() -> None:
    assert torch.equal(to_tensor(Image.new("L", (2, 2), 255)), torch.ones(3, 2, 2))


@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (4, 4, 3), (1, 4, 4), (4, 4)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(3, H, W\)"):
        to_image(torch.zeros(shape))
