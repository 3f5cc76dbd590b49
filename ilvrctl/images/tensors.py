"""Between pictures and tensors in [-1, 1]: grey ones in mode F of 0 to 255, others of 8 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def to_tensor(image: Image.Image) -> Tensor:
    """``image`` as a float32 tensor (3, H, W) on the CPU: x = v / 127.5 - 1, from 0..255 to [-1, 1].

    (1, H, W), clamped, of mode F, and (4, H, W) of RGBA.
    """
    import torch

    if image.mode not in ("F", "RGBA"):
        image = image.convert("RGB")
    dtype = torch.float32 if image.mode == "F" else torch.uint8
    # frombuffer shares memory with its buffer, and bytes may not be written to: hence the bytearray.
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=dtype)
    planes = pixels.view(image.height, image.width, len(image.getbands())).permute(2, 0, 1)
    x = planes.contiguous().to(torch.float32) / 127.5 - 1.0
    return x.clamp_(-1.0, 1.0) if image.mode == "F" else x


def to_image(x: Tensor, channels: int = 3, bits: int = 8) -> Image.Image:
    """Picture of ``x`` (channels, H, W), any float type and device: v = round((x + 1) 127.5) in L, RGB or RGBA.

    ``x`` is clamped to [-1, 1] first; :func:`to_tensor` and back gives the same bytes. ``bits`` 16: a grey one in mode
    I;16, of 0 to 65535. Raises ValueError for another shape.
    """
    import torch

    if x.ndim != 3 or x.shape[0] != channels:
        raise ValueError(f"a picture is a tensor ({channels}, H, W), not {tuple(x.shape)}")
    height, width = x.shape[1:]
    unit = (x.detach().to("cpu", torch.float32).clamp(-1.0, 1.0) + 1.0).permute(1, 2, 0)
    if bits == 16 and channels == 1:
        whole = unit.mul(32767.5).round().to(torch.int32).contiguous()
        return Image.frombytes("I", (width, height), _bytes_of(whole)).convert("I;16")
    levels = unit.mul(127.5).round().to(torch.uint8).contiguous()
    return Image.frombytes(_MODES[channels], (width, height), _bytes_of(levels))


def in_colours(x: Tensor) -> Tensor:
    """The colours of pictures (B, C, H, W) as (B, 3, H, W): grey three times, an opacity left out."""
    return x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x[:, :3]


def _bytes_of(x: Tensor) -> bytes:
    """The numbers of a contiguous tensor on the CPU."""
    import torch

    content = bytearray(x.numel() * x.element_size())
    torch.frombuffer(content, dtype=x.dtype).copy_(x.flatten())
    return bytes(content)
