"""``ilvrctl``: the table of subcommands."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from ilvrctl import __version__
from ilvrctl.cli import doctor, download, inspect, presets, train, translate

app = typer.Typer(
    name="ilvrctl",
    help="Training-free image translation with diffusion models.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start here: [bold]ilvrctl translate --examples --sheet sheet.png[/]",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"ilvrctl {__version__}")
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    pass


app.command("translate", epilog=translate.EPILOG)(translate.translate)
app.command("train", epilog=train.EPILOG)(train.train)
app.command("download", epilog=download.EPILOG)(download.download)
app.add_typer(presets.app, name="presets")
app.command("inspect", epilog=inspect.EPILOG)(inspect.inspect)
app.command("doctor")(doctor.doctor)


def main() -> None:
    """Entry point of the console script."""
    # GNU OpenMP's threads spin at every barrier; beside another busy process that made a network call 40
    # times slower on two cores. A short spin costs nothing alone. It is read when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    app()
