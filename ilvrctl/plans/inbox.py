"""Folders that pictures come into: which of them are whole, and plans of those as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ilvrctl.errors import InputError, UsageError
from ilvrctl.events import PassedBy
from ilvrctl.images.io import read_picture
from ilvrctl.memory import remembering
from ilvrctl.plans.asked import Asked
from ilvrctl.plans.check import check_networks, make_plan
from ilvrctl.plans.inputs import FRAMES, Item, collect
from ilvrctl.plans.outputs import Destination
from ilvrctl.plans.places import is_folder
from ilvrctl.plans.plan import Plan
from ilvrctl.plans.request import translator

SETTLED = 1.0
"""Seconds that a file must not have changed, to be taken for whole."""
PATIENCE = 10.0
"""Seconds after which one that still cannot be decoded is taken for damaged, and what is no picture is told."""
_APART = {
    "dry_run": "a dry run tells what is there now",
    "estimate": "a dry run tells what is there now",
    "sheet": "a contact sheet is of results that are all there",
    "from_file": "a list names what is there now",
    "examples": "the examples are all there",
}
"""Parameters that do not go with waiting, and why."""


@dataclass
class Inbox:
    """The pictures that come into ``folders``: each is told once it is whole, and again when it has changed.

    ``outputs``: what is made, and never taken for an input.
    """

    folders: Sequence[Path]
    recursive: bool = False
    outputs: Sequence[Path] = ()
    frames: str = FRAMES[0]
    clock: Callable[[], float] = time.time
    _first: bool = True
    _told: dict[str, object] = field(default_factory=dict)
    _seen: dict[object, tuple[object, float]] = field(default_factory=dict)
    _passed: set[PassedBy] = field(default_factory=set)
    _waiting: list[Item] = field(default_factory=list)

    def ready(self) -> tuple[list[Item], list[PassedBy]]:
        """What has come and is whole, and what is no picture; each is told once. UsageError for a lost folder."""
        names = [str(folder) for folder in self.folders]
        found = collect(
            names,
            recursive=self.recursive,
            stdin=None,
            outputs=self.outputs,
            frames=self.frames,
            needed=False,
        )
        new = [item for item in found.items if self._told.get(item.key) != item.state()]
        whole = [item for item in new if self._is_whole(item)]
        self._waiting = [item for item in new if item not in whole]
        self._told |= {item.key: item.state() for item in whole}
        passed = [p for p in found.passed_by if p not in self._passed and self._age(p, None) >= PATIENCE]
        self._passed.update(passed)
        self._first = False
        return whole, passed

    def unfinished(self) -> list[PassedBy]:
        """What has begun to come, and was not whole when it was looked at last."""
        return [PassedBy("unfinished files", item.name) for item in self._waiting]

    def _is_whole(self, item: Item) -> bool:
        """Whether it has not changed for a while and can be decoded, or has not changed for long."""
        state = item.state()
        changed = None if state is None else state[1] / 1e9
        age = self._age(item.key, state)
        if self._first and changed is not None:  # it was there before anybody looked
            age = max(age, self.clock() - changed)
        return age >= PATIENCE or (age >= SETTLED and _decodes(item))

    def _age(self, key: object, state: object) -> float:
        """Seconds since it was first seen in this state."""
        now = self.clock()
        if self._seen.get(key, (None, 0.0))[0] != state or key not in self._seen:
            self._seen[key] = state, now
        return now - self._seen[key][1]


def _decodes(item: Item) -> bool:
    try:
        read_picture(item.read(), item.name, frame=item.frame)
    except (InputError, OSError):
        return False
    return True


@dataclass(frozen=True)
class Watched:
    """What ``translate --watch`` does: plans of what has come into the ``inbox``, by ``plan_of``."""

    inbox: Inbox
    plan_of: Callable[[Sequence[Item]], Plan]

    def plans(self, items: Sequence[Item]) -> Iterator[Plan | tuple[Item, UsageError]]:
        """A plan of them together; where that cannot be, of each by itself, or why not."""
        try:
            yield self.plan_of(items)
        except UsageError as error:
            if len(items) == 1:
                yield items[0], error
                return
            for item in items:
                yield from self.plans([item])


@remembering()
def watched(asked: Asked, names: Sequence[str], destination: Destination) -> Watched:
    """What is asked for, checked as far as it can be before anything has come.

    UsageError for what does not go with waiting, for what is no folder, and for settings that cannot work;
    WeightsError for weights that are not here.
    """
    for name, why in _APART.items():
        if asked.values.get(name):
            raise UsageError(
                f"--{name.replace('_', '-')} does not go with --watch: {why}", hint="leave out one of them"
            )
    if destination.folder is None and not destination.memory:
        raise UsageError("--watch makes many results, which do not fit into one output", hint="-o FOLDER")
    if not names:
        raise UsageError(
            "--watch needs a folder to wait for", hint="ilvrctl translate inbox/ --to emoji3d --watch"
        )
    for name in names:
        if not is_folder(Path(name)):
            raise UsageError(
                f"--watch waits for pictures in folders, and {name} is none",
                hint=f"mkdir {name}, or leave out --watch",
            )
    value, plan_of = asked.values.get, translator(asked, destination)
    outputs = [destination.folder] if destination.folder is not None else []
    inbox = Inbox([*map(Path, names)], bool(value("recursive")), outputs, value("frames") or FRAMES[0])
    overwrite = bool(value("overwrite"))
    check_networks([plan_of([])], numbers=False)
    make_plan(plan_of([]), overwrite=overwrite)
    return Watched(inbox, lambda items: make_plan(plan_of(items), overwrite=overwrite))
