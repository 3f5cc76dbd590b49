"""Parameters as the words of a command line that gives them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from ilvrctl.plans.parameter import Command
from ilvrctl.plans.parameters import parameters_of
from ilvrctl.plans.values import switch


def command_line(command: Command, arguments: list[str], values: Mapping[str, Any]) -> str:
    """What a person types for ``ilvrctl COMMAND ARGUMENTS`` with the parameters ``values``, texts or of their type.

    In the order of the table. A parameter that the command does not have is a KeyError.
    """
    rows = parameters_of(command)
    words = [word if not word.startswith("-") else f"./{word}" for word in arguments]
    for name in sorted(values, key=list(rows).index):
        row, value = rows[name], values[name]
        if row.kind is switch:
            words.append(row.spellings[-1].split("/")[0 if value else -1])
        else:
            for one in value if isinstance(value, list) else [value]:
                words += [row.flag, str(one)]
    return shlex.join(["ilvrctl", command, *words])
