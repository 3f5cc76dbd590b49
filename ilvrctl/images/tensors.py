"""Between 8-bit pictures and tensors in [-1, 1]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor


def to_tensor(image: Image.Image) -> Tensor:
    """``image`` as a float32 tensor (3, H, W) on the CPU: x = v / 127.5 - 1, from 0..255 to [-1, 1]."""
    import torch

    # frombuffer shares memory with its buffer, and bytes may not be written to: hence the bytearray.
    pixels = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
    planes = pixels.view(image.height, image.width, 3).permute(2, 0, 1)
    return planes.contiguous().to(torch.float32) / 127.5 - 1.0


def to_image(x: Tensor) -> Image.Image:
    """8-bit RGB picture of ``x`` (3, H, W), any float type and device: v = round((x + 1) 127.5).

    ``x`` is clamped to [-1, 1] first; :func:`to_tensor` and back gives the same bytes.
    Raises ValueError for another shape.
    """
    import torch

    if x.ndim != 3 or x.shape[0] != 3:
        raise ValueError(f"a picture is a tensor (3, H, W), not {tuple(x.shape)}")
    levels = (x.detach().to(torch.float32).clamp(-1.0, 1.0) + 1.0).mul(127.5).round().to(torch.uint8)
    height, width = x.shape[1:]
    pixels = bytearray(3 * height * width)
    torch.frombuffer(pixels, dtype=torch.uint8).view(height, width, 3).copy_(levels.permute(1, 2, 0))
    return Image.frombytes("RGB", (width, height), bytes(pixels))
