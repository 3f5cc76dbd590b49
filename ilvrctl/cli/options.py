"""Options of the command line, made of the rows of the table of parameters: one flag means the same everywhere."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any

import typer

from ilvrctl.cli.display import Display
from ilvrctl.plans.parameter import Command, Parameter
from ilvrctl.plans.parameters import TABLE, parameters_of
from ilvrctl.plans.screen import SCREEN
from ilvrctl.plans.values import count

_ROWS = {row.name: row for row in (*TABLE, *SCREEN)}


def option(row: Parameter) -> Any:
    """What typer needs to know of a row."""
    bounds: dict[str, Any] = {} if row.listed else {"min": row.kind.low, "max": row.kind.high}
    return typer.Option(
        *row.spellings,
        help=row.help,
        metavar=row.shown_value or None,
        rich_help_panel=row.panel,
        envvar=row.environment if row.environment and not row.key else None,
        show_default=row.shown or row.default is not None,
        count=row.kind is count,
        autocompletion=_completion(row),
        **{key: value for key, value in bounds.items() if value is not None},
    )


def _completion(row: Parameter) -> Callable[[str], list[str]] | None:
    """What a shell offers for a row's value; the last of a comma list where it may be one."""
    if not (row.kind.choices or row.choices):
        return None

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",") if row.listed else ("", "", incomplete)
        return [f"{before}{comma}{word}" for word in row.offered if word.startswith(last)]

    return complete


def annotation(row: Parameter) -> Any:
    """The type of a row's values on the command line: text where it may be a list, None where it is not given."""
    kind: Any = str if row.listed else row.kind.type
    return Annotated[kind if row.default is not None else kind | None, option(row)]


def takes(command: Command) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The decorator of a command that has all options of its rows, and gets them in one mapping, by name.

    The function's first parameter is that mapping, the others are arguments of its own.
    """
    rows = [*parameters_of(command).values(), *SCREEN]

    def made(function: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]

        @functools.wraps(function)
        def run(**values: Any) -> None:
            given = {row.name: values.pop(_identifier(row)) for row in rows}
            function(given, **values)

        options = [
            inspect.Parameter(
                _identifier(row),
                inspect.Parameter.KEYWORD_ONLY,
                default=row.default,
                annotation=annotation(row),
            )
            for row in rows
        ]
        every = [*(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own), *options]
        run.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in every}
        return run

    return made


def _identifier(row: Parameter) -> str:
    return f"{row.name}_" if row.name in ("from", "set") else row.name


def display_of(options: Mapping[str, Any]) -> Display:
    """How a command is shown."""
    return Display.of(*(options[row.name] for row in SCREEN))


def given_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that were given: their values differ from the rows' own."""
    return {name: value for name, value in values.items() if value not in (None, _ROWS[name].default)}


To = Annotated[str | None, option(_ROWS["to"])]
Speed = Annotated[str | None, option(_ROWS["speed"])]
Set = Annotated[list[str] | None, option(_ROWS["set"])]
Device = Annotated[str, option(_ROWS["device"])]
Precision = Annotated[str | None, option(_ROWS["precision"])]
BatchSize = Annotated[str | None, option(_ROWS["batch_size"])]
Compile = Annotated[bool | None, option(_ROWS["compile"])]
CompileAsked = Annotated[
    bool, option(replace(_ROWS["compile"], help="torch.compile: pays for long jobs.", shown=""))
]
Overwrite = Annotated[bool, option(_ROWS["overwrite"])]
DryRun = Annotated[bool, option(_ROWS["dry_run"])]
Json = Annotated[bool, option(_ROWS["json"])]
Quiet = Annotated[bool, option(_ROWS["quiet"])]
Verbose = Annotated[int, option(_ROWS["verbose"])]
Color = Annotated[str, option(_ROWS["color"])]
