"""Contact sheets: inputs, what steered the sampling, and results side by side."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

_PAPER = (246, 246, 244)
_INK = (38, 38, 42)
_GREY_INK = (112, 112, 118)
_RULE = (218, 218, 214)
_EMPTY = (232, 232, 229)

_MARGIN = 18
_GAP = 6
_GROUP_GAP = 30
_LINE = 16
_FONT_SIZE = 12
_LABEL_WIDTH = 116
_LABEL_LINES = 3
_TITLE_LINES = 6
_TITLE_AIR = 10
_ROWS_IN_ONE_GROUP = 8
_SAME_IN_ASCII = str.maketrans({"×": "x", "−": "-", "–": "-", "—": "-", "→": "->"})
_DRAWN_BEYOND_ASCII = "·±°"

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class SheetRow:
    """One input: its ``label`` (a file name, say) and a picture, or None for none, for each column."""

    label: str
    pictures: tuple[Image.Image | None, ...]


@dataclass(frozen=True)
class _Layout:
    """Where things stand, in pixels. A group is a run of rows with its own labels and column titles."""

    columns: int
    cell: int
    label_width: int
    header: int
    rows: int
    groups: int

    @property
    def group_width(self) -> int:
        return self.label_width + self.columns * self.cell + (self.columns - 1) * _GAP

    @property
    def width(self) -> int:
        return 2 * _MARGIN + self.groups * self.group_width + (self.groups - 1) * _GROUP_GAP

    @property
    def body_bottom(self) -> int:
        return _MARGIN + self.header + self.rows * (self.cell + _GAP) - _GAP

    def group_left(self, group: int) -> int:
        """Left edge of the labels of ``group``."""
        return _MARGIN + group * (self.group_width + _GROUP_GAP)

    def cell_left(self, group: int, column: int) -> int:
        """Left edge of the pictures of ``column`` in ``group``."""
        return self.group_left(group) + self.label_width + column * (self.cell + _GAP)

    def row_top(self, row: int) -> int:
        """Upper edge of the pictures of ``row``, counted within its group."""
        return _MARGIN + self.header + row * (self.cell + _GAP)


def contact_sheet(
    rows: Sequence[SheetRow], columns: Sequence[str], caption: str, cell: int = 128
) -> Image.Image:
    """RGB sheet: the titles ``columns``, a line of pictures for each of ``rows``, ``caption`` at the bottom.

    Pictures are scaled into squares of ``cell`` pixels, keeping their shape; None, or a picture too few, is
    an empty square. More than 8 rows stand in several groups side by side where one would be tall and narrow.
    Letters that the font lacks lose their accent or become "?".
    Raises ValueError when there are no columns or a row has more pictures than columns.
    """
    if not columns or any(len(row.pictures) > len(columns) for row in rows):
        raise ValueError("a sheet needs a column for every picture of a row")
    font = ImageFont.load_default(_FONT_SIZE)
    titles = [_label_lines(title, font, cell - _TITLE_AIR, _TITLE_LINES) for title in columns]
    layout = _laid_out(rows, titles, cell, font)
    notes = [
        line
        for paragraph in caption.splitlines()
        for line in _wrapped(_plain(paragraph), font, layout.width - 2 * _MARGIN, 8)
    ]
    footer = 12 + len(notes) * _LINE + 2 if notes else 0
    sheet = Image.new("RGB", (layout.width, layout.body_bottom + footer + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for group in range(layout.groups):
        _draw_titles(draw, titles, layout, group, font)
        for row, content in enumerate(rows[group * layout.rows : (group + 1) * layout.rows]):
            _draw_row(sheet, content, layout, group, row, font)
    _draw_notes(draw, notes, layout, font)
    return sheet


def _laid_out(rows: Sequence[SheetRow], titles: list[list[str]], cell: int, font: _Font) -> _Layout:
    """One group up to 8 rows, then as few groups as make the sheet no more than a third taller than wide."""
    longest = max((font.getlength(_plain(row.label)) for row in rows), default=0.0)
    label_width = min(_LABEL_WIDTH, int(longest) + 13) if longest else 0
    header = max(len(lines) for lines in titles) * _LINE + 4

    def layout(groups: int) -> _Layout:
        in_group = max(1, -(-len(rows) // groups))
        filled = max(1, -(-len(rows) // in_group))
        return _Layout(len(titles), cell, label_width, header, in_group, filled)

    groups = 1
    while len(rows) > _ROWS_IN_ONE_GROUP and layout(groups).body_bottom * 3 > layout(groups).width * 4:
        groups += 1
    return layout(groups)


def _draw_titles(
    draw: ImageDraw.ImageDraw, titles: list[list[str]], layout: _Layout, group: int, font: _Font
) -> None:
    """Column titles, centred, standing on the pictures."""
    for column, lines in enumerate(titles):
        middle = layout.cell_left(group, column) + layout.cell / 2
        bottom = layout.row_top(0) - 7
        for above, line in enumerate(reversed(lines)):
            draw.text((middle, bottom - above * _LINE), line, _INK, font, anchor="ms")


def _draw_row(
    sheet: Image.Image, row: SheetRow, layout: _Layout, group: int, index: int, font: _Font
) -> None:
    """The label, then a square per column."""
    draw = ImageDraw.Draw(sheet)
    top, cell = layout.row_top(index), layout.cell
    if layout.label_width:
        most = max(1, min(cell // _LINE, _LABEL_LINES))
        lines = _label_lines(row.label, font, layout.label_width - 12, most)
        first = top + cell / 2 - (len(lines) - 1) * _LINE / 2
        for below, line in enumerate(lines):
            draw.text((layout.group_left(group), first + below * _LINE), line, _GREY_INK, font, anchor="lm")
    for column in range(layout.columns):
        left = layout.cell_left(group, column)
        picture = row.pictures[column] if column < len(row.pictures) else None
        if picture is None:
            draw.rectangle((left, top, left + cell - 1, top + cell - 1), _EMPTY)
            draw.line((left + cell / 2 - 6, top + cell / 2, left + cell / 2 + 6, top + cell / 2), _GREY_INK)
        else:
            shown = _scaled(picture, cell)
            sheet.paste(shown, (left + (cell - shown.width) // 2, top + (cell - shown.height) // 2))


def _draw_notes(draw: ImageDraw.ImageDraw, notes: list[str], layout: _Layout, font: _Font) -> None:
    """The caption under a thin rule."""
    if not notes:
        return
    top = layout.body_bottom + 12
    draw.line((_MARGIN, top, layout.width - _MARGIN - 1, top), _RULE)
    for below, line in enumerate(notes):
        draw.text((_MARGIN, top + 8 + (below + 0.5) * _LINE), line, _GREY_INK, font, anchor="lm")


def _scaled(picture: Image.Image, cell: int) -> Image.Image:
    """``picture`` in RGB with its longer side at ``cell`` pixels."""
    scale = cell / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def _plain(text: str) -> str:
    """``text`` in the characters that Pillow's own font has: accents dropped, one line, "?" for the rest."""
    spaced = " ".join(text.translate(_SAME_IN_ASCII).split())
    letters = (c for c in unicodedata.normalize("NFKD", spaced) if not unicodedata.combining(c))
    return "".join(c if " " <= c <= "~" or c in _DRAWN_BEYOND_ASCII else "?" for c in letters)


def _label_lines(label: str, font: _Font, width: int, most: int) -> list[str]:
    """``label`` in at most so many lines; from a longer one the middle goes, as names differ at their ends."""
    text = _plain(label)
    kept = min(len(text), 120)
    lines = _wrapped(_without_middle(text, kept), font, width, kept + 4)
    while len(lines) > most and kept > 0:
        kept -= 1
        lines = _wrapped(_without_middle(text, kept), font, width, kept + 4)
    return lines


def _without_middle(text: str, kept: int) -> str:
    """The first and last characters of ``text``, ``kept`` in all, with an ellipsis between."""
    if kept >= len(text):
        return text
    return f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"


def _wrapped(text: str, font: _Font, width: float, most: int) -> list[str]:
    """``text`` in lines of ``width`` pixels, broken at spaces where possible; "…" ends what is cut."""
    lines: list[str] = []
    rest = text
    while rest and len(lines) < most:
        length = _fitting(rest, font, width)
        if length < len(rest):
            length = _break(rest, length)
        lines.append(rest[:length])
        rest = rest[length:].lstrip()
    if rest:
        last = lines[-1]
        while last and font.getlength(last + "…") > width:
            last = last[:-1]
        lines[-1] = last + "…"
    return lines


def _break(text: str, length: int) -> int:
    """Where to end a line of at most ``length`` characters: at a space, else at a joint of a file name."""
    space = text.rfind(" ", 1, length + 1)
    if space > 0:
        return space
    joint = max(
        text.rfind("_", 0, length) + 1, text.rfind("-", 0, length) + 1, text.rfind(".", 1, length + 1)
    )
    return joint if joint >= length // 3 and joint > 0 else length


def _fitting(text: str, font: _Font, width: float) -> int:
    """How many characters from the start of ``text`` fit into ``width`` pixels; at least one."""
    length = 1
    while length < len(text) and font.getlength(text[: length + 1]) <= width:
        length += 1
    return length
