"""The pages of the documentation that are made out of the program: `python tests/generated_docs.py` writes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import version

from commands import ilvrctl

from ilvrctl import paths
from ilvrctl.cli.app import SUMMARIES, build
from ilvrctl.plans.parameter import Parameter
from ilvrctl.plans.parameters import TABLE
from ilvrctl.plans.screen import SCREEN

WIDTH = 100
"""Columns of the terminal that the help is drawn for."""
DRAWN_BY = "typer " + ".".join(version("typer").split(".")[:2])


def pages() -> dict[str, str]:
    """File name to text."""
    return {"commands.md": "\n".join(_commands()), "parameters.md": "\n".join(_parameters())}


def _commands() -> Iterator[str]:
    yield "# Commands\n"
    yield f"The `--help` of every command, {WIDTH} columns wide.\n"
    yield f"Drawn by {DRAWN_BY}; other releases draw the same flags and words in other columns.\n"
    for words in ((), *_every_command()):
        yield f"## {' '.join(('ilvrctl', *words))}\n"
        yield f"```text\n{help_of(*words)}\n```\n"


def _every_command() -> Iterator[tuple[str, ...]]:
    for name in SUMMARIES:
        yield (name,)
        for group in build([name]).registered_groups:
            assert group.typer_instance is not None
            for one in group.typer_instance.registered_commands:
                yield (name, str(one.name or getattr(one.callback, "__name__", "")))


def help_of(*words: str) -> str:
    """What ``--help`` prints, without colours, spaces at the ends, and empty lines around it."""
    ran = ilvrctl(*words, "--help", COLUMNS=str(WIDTH), NO_COLOR="1", TERM="dumb")
    assert ran.code == 0, ran.err
    text = re.sub(r"\x1b\[[0-9;]*m", "", ran.out.decode())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(map(str.rstrip, text.splitlines()))).strip("\n")


def _parameters() -> Iterator[str]:
    yield "# Parameters\n"
    yield "All parameters of `translate`, `edit` and jobs files, and what other commands share of them.\n"
    yield (
        "The name is the key in a jobs file and the argument in Python (`from_` and `set_` there). A parameter with a\n"
        "*setting* can stand in a `matrix`, and `--set` reaches the setting too. *Known by* `jobs` means a job of\n"
        "`ilvrctl batch FILE`, `batch` the command's own flags.\n"
    )
    rows = [*TABLE, *SCREEN]
    for panel in dict.fromkeys(row.panel for row in rows):
        yield f"## {panel}\n"
        yield "| name | flag | value | default | known by | setting | |"
        yield "|---|---|---|---|---|---|---|"
        yield from (_line(row, everywhere=row in SCREEN) for row in rows if row.panel == panel)
        yield ""


def _line(row: Parameter, *, everywhere: bool) -> str:
    flags = ", ".join(f"`{one}`" for spelling in row.spellings for one in spelling.split("/"))
    known = "every command" if everywhere else ", ".join(sorted(row.commands))
    default = row.shown or ("" if row.default in (None, False) else str(row.default))
    plain = re.sub(r"\[/?[a-z]*\]", "", row.help)
    setting = f"`{row.key}`" if row.key else ""
    cells = (f"`{row.name}`", flags, _values(row), default, known, setting, plain)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _values(row: Parameter) -> str:
    if row.kind.choices:
        return ", ".join(f"`{choice}`" for choice in row.kind.choices)
    low, high = row.kind.low, row.kind.high
    span = "" if low is None and high is None else f", from {low}" if high is None else f", {low} to {high}"
    return f"`{row.shown_value}`{span}" if row.shown_value else "yes or no"


if __name__ == "__main__":
    for name, text in pages().items():
        (paths.docs_dir() / name).write_text(text.rstrip("\n") + "\n", encoding="utf-8")
