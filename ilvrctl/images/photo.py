"""A photo with all that must survive an edit: its size, its transparency, its EXIF tags and colour profile."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from ilvrctl.images.decode import MAX_PIXELS, decoding, open_header
from ilvrctl.images.flatten import is_negative, to_rgb, upright
from ilvrctl.images.metadata import Kept

_ORIENTATION = 0x0112
_EXIF_IFD = 0x8769
_WIDTH, _HEIGHT = 0xA002, 0xA003
_ICC_COLOURS = slice(16, 20)


@dataclass(frozen=True)
class Photo:
    """Upright RGB pixels as they are stored, ``alpha`` (mode L) if they have it, and what goes with them."""

    rgb: Image.Image
    alpha: Image.Image | None
    kept: Kept

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, upright."""
        return self.rgb.size

    def flat(self, background: tuple[int, int, int]) -> Image.Image:
        """As it is seen: its transparency on ``background``. Not a copy where there is none."""
        if self.alpha is None:
            return self.rgb
        flat = Image.new("RGB", self.size, background)
        flat.paste(self.rgb, mask=self.alpha)
        return flat


def open_photo(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> Photo:
    """Decode ``data``, upright; ``name`` is for messages.

    EXIF tags are kept but for the orientation, which is applied, and the thumbnail, which would show the unedited
    picture; of profiles those of RGB pictures that stay RGB. Raises InputError as
    :func:`~ilvrctl.images.io.open_picture` does.
    """
    with decoding(data, name):
        image = open_header(data, name, max_pixels)
        image.load()
        profile = image.info.get("icc_profile") or b""
        rgb_profile = profile[_ICC_COLOURS] == b"RGB " and image.mode in ("RGB", "RGBA", "P", "PA")
        negative, turned = is_negative(image), upright(image)
        kept = Kept(_tags(image, turned), profile if rgb_profile else b"")
        if not turned.has_transparency_data or turned.mode.startswith(("I", "F")):
            return Photo(to_rgb(turned, (255, 255, 255), negative=negative), None, kept)
        rgba = turned.convert("RGBA")
        alpha = rgba.getchannel("A")
        rgb = rgba.convert("RGB")
        rgb.info = {}
        return Photo(rgb, alpha, kept)


def _tags(image: Image.Image, turned: Image.Image) -> bytes:
    """The EXIF block of the upright picture; none where there was none, or one that cannot be read."""
    try:
        exif = image.getexif()
        if not exif:
            return b""
        if _ORIENTATION in exif:
            exif[_ORIENTATION] = 1
        inner = exif.get_ifd(_EXIF_IFD)
        for tag, length in ((_WIDTH, turned.width), (_HEIGHT, turned.height)):
            if tag in inner:
                inner[tag] = length
        return exif.tobytes()
    except Exception:  # a picture that shows well must not fail over a bad tag
        return b""
