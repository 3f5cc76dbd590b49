"""Text of strangers (names of files, records, what servers say) as a person may see it."""

from __future__ import annotations

import unicodedata

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories that are not drawn but act: control characters, marks that turn the direction of writing,
halves of surrogate pairs (which stand for bytes of a file name that are no text), line breaks."""
_JOINERS = frozenset("\u200c\u200d")
"""Letters of Persian and many emoji are written with these, and they act on nothing else."""


def visible(text: str) -> str:
    r"""``text`` in one line; what acts in it and is not seen stands there as an escape (``\x1b``, ``\u202e``).

    Nothing in the result moves a cursor, sets a colour or a title, breaks a line, or turns the direction of
    writing. Ordinary text of any language stays as it is, and so does what has been through here before.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_shown, text))


def _shown(letter: str) -> str:
    if letter in _JOINERS or unicodedata.category(letter) not in _HIDDEN:
        return letter
    return letter.encode("unicode_escape", "backslashreplace").decode("ascii")
