"""``ilvrctl cache``: what lies where, how large it is, and its removal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ilvrctl import paths
from ilvrctl.cli.display import amount
from ilvrctl.cli.options import DryRun, Json, Quiet
from ilvrctl.cli.output import command, data, data_json, say, terminal
from ilvrctl.errors import IlvrctlError, UsageError
from ilvrctl.text import visible

if TYPE_CHECKING:
    from ilvrctl.work.storage import Stored

app = typer.Typer(help="List what lies where: weights, what is remembered, leftovers; and remove it.")

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
_NAME = 30


@app.callback(invoke_without_command=True)
def _list(context: typer.Context, as_json: Json = False) -> None:
    if context.invoked_subcommand is None:
        list_(as_json=as_json)


@app.command("list")
@command
def list_(as_json: Json = False) -> None:
    """Everything that lies in the folders of weights and of the cache, with its size."""
    from ilvrctl.work.storage import free_room, leftovers, stored

    everything = stored()
    for one in everything:
        _show(one, as_json=as_json)
    if as_json:
        return
    total, left = sum(one.size for one in everything), sum(one.size for one in leftovers())
    say(f"{amount(total)} in {paths.weights_dir()} and {paths.cache_dir()}; {amount(free_room())} are free")
    if left:
        say(f"{amount(left)} were left by what was interrupted: ilvrctl cache prune")


@app.command("rm")
@command
def rm(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="As ilvrctl cache names them.")],
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Remove weights, or a part of the cache, by name."""
    from ilvrctl.work.storage import called

    found = list({one.name: one for one in map(called, names)}.values())
    _remove(found, yes=yes, dry_run=dry_run, as_json=as_json, quiet=quiet)


@app.command("prune")
@command
def prune(yes: Yes = False, dry_run: DryRun = False, as_json: Json = False, quiet: Quiet = False) -> None:
    """Remove what was left by kills: unfinished downloads, parts of files, facts of what is gone."""
    from ilvrctl.work.storage import forget_gone, leftovers

    _remove(leftovers(), yes=yes, dry_run=dry_run, as_json=as_json, quiet=quiet)
    if not dry_run and (gone := forget_gone()) and not quiet:
        say(f"forgot {gone} facts of files that are gone")


def _remove(found: Sequence[Stored], *, yes: bool, dry_run: bool, as_json: bool, quiet: bool) -> None:
    """Ask, and remove; what another process works on is told, and makes the exit code 1."""
    from ilvrctl.work.storage import remove

    if dry_run or not found:
        for one in found:
            _show(one, as_json=as_json)
        if not quiet:
            say(f"{amount(sum(one.size for one in found))} would be freed" if found else "nothing to remove")
        return
    if not (yes or _agreed(found)):
        say("nothing is removed")
        return
    freed, failed = 0, 0
    for one in found:
        try:
            size = remove(one)
        except IlvrctlError as error:
            say(error.message, label="failed")
            failed = max(failed, error.exit_code)
            continue
        freed += size
        if as_json:
            data_json({"event": "removed", "name": one.name, "bytes": size})
        elif not quiet:
            say(f"removed {one.name}, {amount(size)}")
    if not (quiet or as_json):
        say(f"{amount(freed)} are free again")
    if failed:
        raise typer.Exit(failed)


def _agreed(found: Sequence[Stored]) -> bool:
    """What a person at the terminal says. UsageError where there is none."""
    if not (terminal(sys.stdin) and terminal(sys.stderr)):
        raise UsageError(
            "nobody is here to be asked whether to remove it", hint="--yes removes without asking"
        )
    for one in found:
        say(f"{one.name}, {amount(one.size)}: {one.what}")
    return bool(typer.confirm("remove?", err=True))


def _show(one: Stored, *, as_json: bool) -> None:
    if as_json:
        files = [str(path) for path in one.files]
        data_json({"name": one.name, "kind": one.kind, "what": one.what, "bytes": one.size, "files": files})
        return
    start = f"{visible(one.name):<{_NAME}} {amount(one.size):>9}  "
    room = max(80 - len(start), 8)
    what = visible(one.what)
    data(start + (what if len(what) <= room else f"{what[: room - 1]}…"))
