"""A photo with all that must survive an edit: its size, depth, colours and transparency, and what is told
about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from PIL import Image

from ilvrctl.images.colour import UnusableProfileError
from ilvrctl.images.decode import MAX_PIXELS, decoding
from ilvrctl.images.deep import Deep
from ilvrctl.images.flatten import Seen, see
from ilvrctl.images.kinds import install
from ilvrctl.images.load import Loaded, load
from ilvrctl.images.metadata import Kept, keep
from ilvrctl.images.own import Own
from ilvrctl.images.regions import Region
from ilvrctl.images.tiff import can_read_all


@dataclass(frozen=True)
class Photo:
    """Upright pixels, as they are seen in sRGB (``rgb``), ``alpha`` (mode L) if they have it, and what goes
    with them.

    ``kept.own``: the pixels as they are stored, where these are others. ``notes``: what people should know.
    ``read``: how they were read, see :class:`~ilvrctl.images.flatten.Seen`.
    """

    rgb: Image.Image
    alpha: Image.Image | None
    kept: Kept
    notes: tuple[str, ...] = ()
    read: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, upright."""
        return self.rgb.size

    def flat(self, background: tuple[int, int, int]) -> Image.Image:
        """As it is seen: its transparency on ``background``. Not a copy where there is none."""
        return Seen(self.rgb, self.alpha, self.rgb, None).flat(background)

    def put(self, region: Region, edited: Image.Image) -> None:
        """Blend what a model made of the region into it; where the mask is 0 no pixel changes."""
        own = self.kept.own
        if own is not None and own.pixels.mode == "L":
            edited = edited.convert("L").convert("RGB")
        if (part := region.part(edited)) is not None:
            self.rgb.paste(*part)
            if own is not None:
                own.paste(*part)


def open_photo(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS, window: str | None = None) -> Photo:
    """Decode ``data``, upright; ``name`` is for messages, ``window`` as in
    :func:`~ilvrctl.images.io.read_picture`, which also tells the errors.

    EXIF tags are kept but for the orientation, which is applied, the thumbnail, which would show the unedited
    picture, and those of the file's layout.
    """
    with decoding(data, name):
        loaded = load(data, name, max_pixels=max_pixels)
        seen = see(loaded, window)
        kept = keep(loaded, data)
        own, notes = _own(loaded, seen)
        plain = own is None and seen.profile is None and loaded.icc[16:20] == b"RGB "
        kept = replace(kept, own=own, profile=loaded.icc if plain else b"")
        return Photo(seen.rgb, seen.alpha, kept, seen.notes + notes, seen.read)


def _own(loaded: Loaded, seen: Seen) -> tuple[Own | None, tuple[str, ...]]:
    """The pixels as they are stored, None where ``seen.rgb`` is all that is known of them; and why that is so."""
    pixels, profile = loaded.pixels, seen.profile
    if not isinstance(pixels, Deep):
        if profile is None:
            return None, ()
        pixels = seen.own
    elif can_read_all():
        pixels = pixels.paintable()
    else:
        return None, (f"{loaded.name} is {pixels}: the result has 8 bits; {install('tiff')} keeps more",)
    if profile is not None:
        try:
            profile.from_srgb(Image.new("RGB", (1, 1)))
        except UnusableProfileError:
            note = f"{loaded.name}: its colour profile has no way back from sRGB: the result is in sRGB"
            return None, (note,)
    own = Own(
        pixels if isinstance(pixels, Deep) else seen.own, profile, seen.alpha, seen.levels or (0.0, 255.0)
    )
    grey = own.pixels.mode == "L"
    return own, (
        (f"{loaded.name} is grey and stays so: what is painted into it becomes grey",) if grey else ()
    )
