"""What to type instead of a command line that cannot be understood."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Sequence
from difflib import get_close_matches

from ilvrctl.cli import published_flags


def instead(message: str, path: str, words: Sequence[str], commands: Collection[str]) -> str:
    """The hint for what is said about ``words``: a flag of the published scripts, the line with its command spelled
    right, put first or not forgotten, or the help. ``path``: the command that was understood; ``commands``: those
    that may follow, where none did.
    """
    known = published_flags.here(message)
    if known is not None:
        return known
    named = re.match(r"no such (command|option):? '?([^' ]+)", message)
    rest = list(words)
    if named and commands and any(named[2] == word.partition("=")[0] for word in rest):
        if named[1] == "command" and (close := get_close_matches(named[2], commands, n=1, cutoff=0.6)):
            rest[rest.index(named[2])] = close[0]
            return shlex.join([*path.split(), *rest])
        if command := next((word for word in rest if word in commands), _command_of(rest)):
            rest = [command, *(word for word in rest if word != command)]
            return shlex.join([*path.split(), *rest])
    return f"{path} --help"


def _command_of(words: Sequence[str]) -> str | None:
    """The command that words without any belong to: by their first flag that one knows, or as they name a file."""
    from ilvrctl.plans.parameters import TABLE

    if words[0].lower().endswith((".yaml", ".yml")):
        return "batch"
    owners = {spelling: row for row in TABLE for whole in row.spellings for spelling in whole.split("/")}
    for word in words:
        row = owners.get(word.partition("=")[0])
        if row is not None:
            return next((one for one in ("translate", "edit", "batch", "train") if one in row.commands), None)
    return (
        "translate"
        if any(re.search(r"[./\\]", word) and not word.startswith("-") for word in words)
        else None
    )
