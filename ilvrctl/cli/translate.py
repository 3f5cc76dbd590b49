"""``ilvrctl translate``: pictures in, pictures of the target domain out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from ilvrctl.cli.options import display_of, given_of, takes
from ilvrctl.cli.output import check_stdout, command, picture_on_stdin, standard_input
from ilvrctl.errors import UsageError
from ilvrctl.plans.asked import asked_by_flags

EPILOG = """Examples:

  ilvrctl translate --examples --sheet sheet.png

  ilvrctl translate cats/ --to dog --N 32

  ilvrctl translate cats/ --to dog --method sddm --start 0.8

  ilvrctl translate a.png b.jpg --to emoji3d --N 4 -n 3 --seed 7 -o results/ --sheet sheet.png --gif

  ilvrctl translate --examples --N 2,4,8 --steps 10,100 -o grid/

  ilvrctl translate inbox/ --to dog --watch       # what comes, as it comes, until Ctrl-C

  cat cat.jpg | ilvrctl translate - --to dog -o - > dog.png

  find . -name '*.jpg' -print0 | ilvrctl translate --from-file - -0 --to dog --json | jq .
"""


@command
@takes("translate")
def translate(
    options: Mapping[str, Any],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="PICTURE|FOLDER|-", help="Pictures, folders, - for standard input."),
    ] = None,
) -> None:
    """Turn pictures into pictures of the target domain, steered by the input (ILVR, SDDM, EGSDE).

    A comma list in a setting (--N 2,4,8) makes a grid: a folder a combination, and one labelled sheet.
    """
    from ilvrctl.cli.fetching import fetching_shown
    from ilvrctl.cli.show import show_or_carry_out, show_watch
    from ilvrctl.plans.inbox import watched
    from ilvrctl.plans.outputs import Destination
    from ilvrctl.plans.request import translation

    display = display_of(options)
    asked = asked_by_flags("translate", given_of(options))
    destination = Destination.asked(options["out"])
    check_stdout(destination.stdout, options["json"])
    if options["watch"]:
        show_watch(watched(asked, inputs or [], destination), options, display)
        return
    names = _names(inputs or [], options["from_file"], options["null"])
    with fetching_shown(display, wanted=not options["dry_run"]):
        plan = translation(asked, names, destination, stdin=picture_on_stdin(inputs or []))
    show_or_carry_out(plan, options, display)


def _names(arguments: list[str], list_file: str | None, null: bool) -> list[str]:
    """Names of inputs: the arguments, then those of a list. UsageError where standard input is wanted twice."""
    from ilvrctl.plans.inputs import STDIN, read_list

    if list_file is None:
        if null:
            raise UsageError("-0 says how the names in a list end", hint="add --from-file FILE")
        return arguments
    if list_file == STDIN and STDIN in arguments:
        raise UsageError(
            "- and --from-file - both read standard input", hint="give the list as a file: --from-file FILE"
        )
    stdin = standard_input() if list_file == STDIN else None
    return [*arguments, *read_list(list_file, null=null, stdin=stdin, empty=bool(arguments))]
