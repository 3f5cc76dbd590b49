"""What a downloaded file must turn out to be, before it gets its name."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path, PurePosixPath

from ilvrctl.errors import WeightsError

_ELSEWHERE = "another source: `ilvrctl download NAME --url URL`; a file that is here: --file FILE"


def check(name: str, kind: str, path: Path) -> None:
    """Open the file at ``path`` as what is announced: the file ``name`` of a model in the format ``kind``.

    WeightsError that says what it is instead.
    """
    from ilvrctl.models.files.container import sniff

    if PurePosixPath(name).suffix == ".json":
        _check_json(kind, path)
    elif kind == "statistics":
        if not zipfile.is_zipfile(path):
            raise WeightsError(f"{path}: no archive of arrays (.npz), or a part of one", _ELSEWHERE)
    else:
        sniff(path)
        _check_network(kind, path)


def check_network(path: Path) -> None:
    """Open a file or folder as a network of any kind that can be read. WeightsError that says what it is instead."""
    from ilvrctl.models.files.contents import contents_of
    from ilvrctl.models.files.formats import readable_hint

    found = contents_of(path, numbers=False)
    if not found.readable:
        raise WeightsError(f"{path}: this is {found.what}", found.instead or readable_hint())


def _check_json(expected: str, path: Path) -> None:
    """A JSON file, and of a diffusers network its flags must be supported."""
    from ilvrctl.models.files.diffusers_config import read_config

    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{path}: not a JSON file ({error})", _ELSEWHERE) from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: holds no settings of a network", _ELSEWHERE)
    if expected == "diffusers":
        try:
            read_config(content)
        except WeightsError as error:
            raise WeightsError(f"{path}: {error.message}", error.hint) from error


def _check_network(expected: str, path: Path) -> None:
    """Names and shapes must be readable, and be those of the announced kind of network."""
    from ilvrctl.models.files.formats import FORMATS, identify
    from ilvrctl.models.files.inspection import read_header

    names = read_header(path)[0]
    if not any(row.name == expected and row.readable for row in FORMATS):
        return
    found = identify(names)
    if found is None or found.name != expected:
        what = found.what if found is not None else "a file of tensors, but of no network that is known here"
        raise WeightsError(f"{path}: {what}; it should be of the kind {expected}", _ELSEWHERE)
