"""Pictures that cannot be measured: each is named once, and the others are measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ilvrctl.errors import IlvrctlError, InputError, UsageError, is_shared, stage


class Failures:
    """What went wrong with single pictures, in the order in which it was found."""

    def __init__(self) -> None:
        self._found: dict[str, IlvrctlError] = {}

    @property
    def all(self) -> list[IlvrctlError]:
        """Each reason once, however many results it costs."""
        return list(self._found.values())

    def add(self, error: IlvrctlError) -> None:
        """Note what is about one picture; what is about all of them, or was asked wrongly, is raised."""
        if isinstance(error, UsageError) or is_shared(error):
            raise error
        self._found.setdefault(error.message, error)

    def none(self) -> InputError:
        """The error of having nothing that can be measured."""
        more = f", and {len(self._found) - 1} more" if len(self._found) > 1 else ""
        return InputError(f"no picture can be measured: {next(iter(self._found), 'there is none')}{more}")

    @contextmanager
    def noted(self, what: str, name: object) -> Iterator[None]:
        """Of the picture ``name``: the block, in which ``what`` is being done, ends where it fails."""
        try:
            with stage(what, str(name)):
                yield
        except IlvrctlError as error:
            self.add(error)
