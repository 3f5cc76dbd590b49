"""What a shell that completes a command line is offered: commands, and flags and values as the table of parameters has
them. Answered without the library that reads command lines, which takes longer than a person waits.

All else, as arguments of commands, that library answers.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ilvrctl.cli.summaries import SUMMARIES

if TYPE_CHECKING:
    from ilvrctl.plans.parameter import Parameter

Offer = tuple[str, str]
"""A word, and what it means."""


def answer(environment: Mapping[str, str] = os.environ) -> str | None:
    """What the shell that asks in ``_ILVRCTL_COMPLETE`` is told; None where it does not ask, or others know."""
    asked = environment.get("_ILVRCTL_COMPLETE", "")
    if asked not in ("complete_bash", "complete_zsh", "complete_fish"):
        return None
    words, last = _in_bash(environment) if asked.endswith("bash") else _in_others(environment)
    found = offers(words, last)
    if found is None:
        return None
    if asked.endswith("bash"):
        return "\n".join(word for word, _ in found)
    if asked.endswith("fish"):
        return "\n".join(f"{word}\t{meaning}" if meaning else word for word, meaning in found)
    if not found:
        return "_files"
    rows = "\n".join(
        f'"{_zsh(word)}"' + (f':"{_zsh(meaning)}"' if meaning else "") for word, meaning in found
    )
    return f"_arguments '*: :(({rows}))'"


def _in_bash(environment: Mapping[str, str]) -> tuple[list[str], str]:
    """The words before the one at the cursor, and that; bash cuts ``--to=dog`` into three."""
    words, at = environment.get("COMP_WORDS", "").split(), int(environment.get("COMP_CWORD") or 0)
    before, last = [word for word in words[1:at] if word != "="], "".join(words[at : at + 1])
    return before, "" if last == "=" else last


def _in_others(environment: Mapping[str, str]) -> tuple[list[str], str]:
    line = environment.get("_TYPER_COMPLETE_ARGS", "")
    words = line.split()[1:]
    return (words, "") if not words or line.endswith(" ") else (words[:-1], words[-1])


def _zsh(text: str) -> str:
    """Text between quotes within what zsh evaluates."""
    for letter, instead in {'"': '""', "'": "''", "$": "\\$", "`": "\\`", ":": r"\\:"}.items():
        text = text.replace(letter, instead)
    return text


def offers(words: Sequence[str], last: str) -> list[Offer] | None:
    """What ``last``, behind ``words``, can become; None where the table does not know."""
    command = next((word for word in words if not word.startswith("-")), None)
    if command is None:
        return None if last.startswith("-") else _begun(SUMMARIES.items(), last)
    from ilvrctl.plans.parameters import TABLE
    from ilvrctl.plans.screen import SCREEN
    from ilvrctl.plans.values import count, switch

    rows = [row for row in TABLE if command in row.commands]
    known: dict[str, Parameter] = {flag: row for row in (*rows, *SCREEN) for flag in row.spellings}
    flag, equals, begun = last.partition("=")
    row = known.get(flag if equals else words[-1])
    if row is not None and row.kind not in (switch, count):
        return _values(row, begun if equals else last, f"{flag}=" if equals else "")
    if last.startswith("-"):
        if command not in ("translate", "edit"):
            return _begun(_flags(command), last)
        single = {part: _plain(row.help) for flag, row in known.items() for part in flag.split("/")}
        return _begun([*single.items(), ("--help", "Show this message and exit.")], last)
    names = _arguments(command, words)
    return None if names is None else _begun(((name, "") for name in names), last)


def _arguments(command: str, words: Sequence[str]) -> list[str] | None:
    """The names that an argument of a command, or a flag of its own, can have; None where it has no such."""
    from ilvrctl.plans import offers as known

    if command == "download":
        return known.downloads()
    if command == "presets" and "show" in words:
        return known.shown()
    if command == "batch" and words[-1] == "--job":
        return known.jobs([word for word in words if word.lower().endswith((".yaml", ".yml"))])
    return [] if command in ("translate", "edit", "batch") else None


def _flags(command: str) -> list[Offer]:
    """The flags of a command that has some of its own."""
    import typer.main

    from ilvrctl.cli.app import build

    group: Any = typer.main.get_command(build([command]))
    found = group.commands.get(command)
    return [
        (flag, _plain(getattr(one, "help", None) or ""))
        for one in (() if found is None else found.params)
        for flag in (*one.opts, *one.secondary_opts)
        if flag.startswith("-")
    ]


def _values(row: Parameter, begun: str, before: str) -> list[Offer]:
    """The words that a row offers; behind the last comma where it may be a list."""
    first, comma, last = begun.rpartition(",") if row.listed else ("", "", begun)
    return [(f"{before}{first}{comma}{word}", "") for word in row.offered if word.startswith(last)]


def _begun(found: Iterable[Offer], last: str) -> list[Offer]:
    return [(word, meaning) for word, meaning in found if word.startswith(last)]


def _plain(text: str) -> str:
    """A help text without rich's markup."""
    return text.replace("[bold]", "").replace("[/]", "")
