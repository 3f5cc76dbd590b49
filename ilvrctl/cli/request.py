"""From flags, the environment and lists of names to the layers and inputs of a job."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ilvrctl.cli.output import terminal
from ilvrctl.config import Layer, build, merge, nested, parse_value
from ilvrctl.errors import UsageError
from ilvrctl.presets import MethodPreset, find_method

ENVIRONMENT = {"ILVRCTL_SEED": "seed", "ILVRCTL_PRECISION": "precision"}
"""Settings that a variable of the environment can give; flags win over it."""


def flag_layer(flags: Mapping[str, tuple[str, Any]]) -> Layer:
    """The settings that flags give, ``{flag: (key, value)}``; a value of None was not given."""
    return merge(*(nested(flag, key, value) for flag, (key, value) in flags.items() if value is not None))


def environment_layer() -> Layer:
    """The settings that the environment gives."""
    given = {name: os.environ[name] for name in ENVIRONMENT if os.environ.get(name)}
    return merge(*(parse_value(name, ENVIRONMENT[name], text) for name, text in given.items()))


def preset_layer(name_or_file: str) -> Layer:
    """The settings of ``--preset``: a name, a file of settings, or a file as ``presets show`` prints it."""
    layer = find_method(name_or_file)
    if "settings" not in layer.values:
        return layer
    preset = build(MethodPreset, Layer({"name": name_or_file, **layer.values}, layer.origins))
    return Layer(preset.settings, {key[1:]: at for key, at in layer.origins.items() if key[0] == "settings"})


def only_one(first: str, a: Any, second: str, b: Any, what: str) -> None:
    """UsageError when both flags of a pair are given, of which one takes the place of the other."""
    if a is not None and b is not None:
        raise UsageError(f"{first} and {second} both say {what}", hint="give one of them")


def names_of(arguments: Sequence[str], list_file: str | None, null: bool) -> list[str]:
    """Names of inputs: the arguments, then those of a list (``-`` for standard input), one a line or ended by
    zero bytes. UsageError when the list cannot be read, or standard input is wanted twice.
    """
    if list_file is None:
        if null:
            raise UsageError("-0 says how the names in a list end", hint="add --from-file FILE")
        return list(arguments)
    if list_file == "-" and "-" in arguments:
        raise UsageError(
            "- and --from-file - both read standard input", hint="give the list as a file: --from-file FILE"
        )
    try:
        raw = standard_input() if list_file == "-" else Path(list_file).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the list {list_file}: {error.strerror or error}") from error
    entries = raw.split(b"\0") if null else [line.removesuffix(b"\r") for line in raw.split(b"\n")]
    names = [os.fsdecode(entry) for entry in entries if entry.strip()]
    if not names and not arguments:
        where = "on standard input" if list_file == "-" else list_file
        raise UsageError(f"the list {where} names no pictures")
    return [*arguments, *("./-" if name == "-" else name for name in names)]


def picture_on_stdin(arguments: Sequence[str]) -> bytes | None:
    """The bytes of standard input when ``-`` is among the arguments. UsageError when nobody pipes any."""
    if "-" not in arguments:
        return None
    if terminal(sys.stdin):
        raise UsageError(
            "- reads a picture from standard input, which is a terminal",
            hint="cat cat.jpg | ilvrctl translate - --to emoji3d -o out.png",
        )
    return standard_input()


def standard_input() -> bytes:
    """All bytes of standard input; none when it is closed."""
    return b"" if sys.stdin is None else sys.stdin.buffer.read()
