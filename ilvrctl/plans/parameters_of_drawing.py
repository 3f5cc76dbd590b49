"""Of the one table of parameters: the page that is drawn on in the browser."""

from __future__ import annotations

from functools import partial

from ilvrctl.plans.parameter import BROWSER, Command, Parameter
from ilvrctl.plans.values import picture_size, switch, whole

_EDIT = frozenset[Command]({"edit"})
_DRAW = frozenset[Command]({"draw"})

_of_page = partial(Parameter, panel=BROWSER, in_shells=True)

DRAWING: tuple[Parameter, ...] = (
    _of_page(
        "draw",
        "Scribble on the photo in the browser, and see results there (extra: draw).",
        switch,
        commands=_EDIT,
        default=False,
    ),
    _of_page("canvas", "Size of the paper.", picture_size, commands=_DRAW, shown="512"),
    _of_page(
        "host",
        "Where the page is served; anything but this machine itself wants a --password.",
        commands=_EDIT | _DRAW,
        metavar="ADDRESS",
        default="127.0.0.1",
    ),
    _of_page("port", "Of the page.", whole(0, 65535), commands=_EDIT | _DRAW, shown="a free one"),
    _of_page(
        "password",
        "What the page asks for, with any name; in the environment other users do not see it.",
        commands=_EDIT | _DRAW,
        metavar="TEXT",
        environment="ILVRCTL_PASSWORD",
    ),
    _of_page(
        "browser",
        "Open the page.",
        switch,
        commands=_EDIT | _DRAW,
        flags=("--browser/--no-browser",),
        shown="where there is a screen",
    ),
)

PAGE = frozenset(row.name for row in DRAWING)
"""What is about the page, not about what is made."""
_ONE_PNG = {"samples", "sheet", "gif", "ext", "quality", "overwrite"}  # a result at a time, a PNG when kept
_DRAWN = {"mask", "no_mask", "preview"}  # that is what the page is for
NOT_DRAWN = frozenset({*_ONE_PNG, *_DRAWN, "from_image", "dry_run", "estimate"})
"""What ``edit`` knows and ``edit --draw`` does not."""
