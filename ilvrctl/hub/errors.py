"""What can go wrong between a name and a file on disk."""

from __future__ import annotations

from ilvrctl.errors import IlvrctlError, WeightsError


class DownloadError(IlvrctlError):
    """No source delivered, or there is no room for the file. Exit code 1."""


class SourceError(DownloadError):
    """This source cannot deliver (gone, forbidden, over its quota): the next one is asked."""


class BrokenOffError(SourceError):
    """The transfer broke off and is worth another try from where it stopped.

    ``wait``: seconds that the server asked for. ``hopeful``: False when one more try is enough, as where not even
    a connection was made.
    """

    def __init__(
        self, message: str, hint: str | None = None, *, wait: float = 0.0, hopeful: bool = True
    ) -> None:
        super().__init__(message, hint)
        self.wait = wait
        self.hopeful = hopeful


class ContentError(WeightsError):
    """What arrived is not the file that was asked for. Exit code 3."""
