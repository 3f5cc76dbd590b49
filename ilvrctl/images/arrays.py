"""Pictures as Python programs have them, as the bytes of a PNG."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from PIL import Image

from ilvrctl.errors import InputError
from ilvrctl.images.tensors import to_image


def png_bytes(picture: Any) -> bytes:
    """A lossless PNG of a picture in memory.

    PIL; torch (C, H, W) in [-1, 1]; or an array such as numpy's, (H, W) or (H, W, C) with C = 1, 3 or 4, of uint8 or
    of floats from 0 to 1. InputError for anything else.
    """
    image = picture if isinstance(picture, Image.Image) else _of_array(picture)
    stream = BytesIO()
    image.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def _of_array(picture: Any) -> Image.Image:
    if type(picture).__module__.partition(".")[0] == "torch":
        x = picture.expand(3, -1, -1) if picture.ndim == 3 and picture.shape[0] == 1 else picture
        try:
            return to_image(x)
        except ValueError as error:
            raise InputError(f"no picture: {error}") from None
    try:
        kind, shape = str(picture.dtype), tuple(picture.shape)
    except AttributeError:
        raise InputError(
            f"no picture: {type(picture).__name__}", hint="a path, bytes, PIL, numpy or torch"
        ) from None
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3, 4)):
        raise InputError(f"a picture is an array (H, W) or (H, W, C), not {shape}")
    if kind.startswith("float"):
        if not (picture.min() >= 0 and picture.max() <= 1):
            raise InputError("a picture of floats has values from 0 to 1")
        picture = (picture * 255).round().astype("uint8")
    elif kind != "uint8":
        raise InputError(f"a picture is an array of uint8, or of floats from 0 to 1, not of {kind}")
    modes = {1: "L", 3: "RGB", 4: "RGBA"}
    channels = shape[2] if len(shape) == 3 else 1
    return Image.frombytes(modes[channels], (shape[1], shape[0]), picture.tobytes())
