"""``ilvrctl``: the table of subcommands. Only the one that a command line names is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ilvrctl import __version__
from ilvrctl.cli import signals
from ilvrctl.cli.lean import prepare_help
from ilvrctl.cli.output import finished, open_streams
from ilvrctl.cli.summaries import SUMMARIES


class Commands(TyperGroup):
    """The group of subcommands, whose every end is an exit code and at most a word."""

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **more: Any
    ) -> None:
        """Carry out a command line and leave with its exit code."""
        words = sys.argv[1:] if args is None else list(args)
        run = super().main
        with signals.listening():
            code = finished(lambda: run(words, prog_name, **{**more, "standalone_mode": False}), words)
        sys.exit(code)


def build(words: Sequence[str]) -> typer.Typer:
    """The application for a command line of these ``words``.

    The subcommand that is named first is whole; the others are names with a summary. Where a shell asks for
    completions its words count, and where it does not tell them all are whole.
    """
    app = typer.Typer(
        name="ilvrctl",
        cls=Commands,
        help="Training-free image translation with diffusion models.",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog="Start here: [bold]ilvrctl translate --examples --sheet sheet.png[/]",
    )
    app.callback()(_options)
    completing, typed = any(name.endswith("_COMPLETE") for name in os.environ), _typed_in_a_shell()
    named = next((word for word in typed or words if not word.startswith("-")), None)
    for name, summary in SUMMARIES.items():
        if name == named or (completing and typed is None):
            _add(app, name)
        else:
            app.command(name, help=summary)(_unnamed)
    return app


def _typed_in_a_shell() -> list[str] | None:
    """The words behind ``ilvrctl`` that a shell wants to have completed; None where it does not tell them."""
    names = ("COMP_WORDS", "_TYPER_COMPLETE_ARGS")
    line = next((os.environ[name] for name in names if name in os.environ), None)
    return None if line is None else line.split()[1:]


def _add(app: typer.Typer, name: str) -> None:
    """The whole subcommand: its module has a function of its name, or an application of its own."""
    module = import_module(f"ilvrctl.cli.{name}")
    if hasattr(module, "app"):
        app.add_typer(module.app, name=name)
    else:
        app.command(name, epilog=getattr(module, "EPILOG", None))(getattr(module, name))


def _unnamed() -> None:
    """Stands for a subcommand that the command line does not name, and so is never called."""


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"ilvrctl {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """What the console script runs once signals are heeded."""
    # GNU OpenMP's threads spin at every barrier; beside another busy process that made a network call 40
    # times slower on two cores. A short spin costs nothing alone. It is read when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    signals.listen()
    open_streams()
    words = sys.argv[1:]
    prepare_help(words)
    sys.exit(finished(lambda: build(words)(), words))
