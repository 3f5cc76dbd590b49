"""What a checkpoint holds, remembered while it does not change: who asks again needs neither torch nor time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ilvrctl.files import Remembered
from ilvrctl.models.files.averaged import AVERAGED
from ilvrctl.models.files.container import sniff
from ilvrctl.models.files.diffusers_folder import network_files, weights_file
from ilvrctl.models.files.info import CheckpointInfo
from ilvrctl.models.files.whole import plainly_whole

_KNOWN = Remembered("checkpoints-2")


def contents_of(path: Path, which: str = AVERAGED, *, numbers: bool = True) -> CheckpointInfo:
    """What the file or folder ``path`` holds, as :func:`~ilvrctl.models.files.inspection.inspect_file` tells it.

    With ``numbers`` every number of the network was read too: it is there as it was written, and finite. That takes
    as long as loading, once; the answer is remembered. WeightsError for a file that is not sound.
    """
    file = weights_file(path, which)
    sniff(file)
    files = tuple(dict.fromkeys((file, *network_files(path))))
    known = _KNOWN.get(*files)
    if isinstance(known, dict) and which in known and (known[which]["numbers"] or not numbers):
        return _restored(known[which]["info"])
    from ilvrctl.models.files.inspection import inspect_file

    info = inspect_file(path, which)
    if numbers and info.readable and not plainly_whole(path, which):
        from ilvrctl.models.files.loading import check_file

        check_file(path, which)
    before = known if isinstance(known, dict) else {}
    _KNOWN.put({**before, which: {"numbers": numbers, "info": asdict(info)}}, *files)
    return info


def _restored(plain: Mapping[str, Any]) -> CheckpointInfo:
    names = {f.name for f in fields(CheckpointInfo)}
    values = {name: _tuples(value) for name, value in plain.items() if name in names}
    return CheckpointInfo(**values)


def _tuples(value: Any) -> Any:
    """JSON knows no tuples: every list was one."""
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
