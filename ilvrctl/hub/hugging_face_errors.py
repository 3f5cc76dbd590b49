"""The errors of huggingface_hub, and of the network below it, in our terms."""

from __future__ import annotations

import errno
from typing import Any

from ilvrctl.errors import IlvrctlError
from ilvrctl.hub.address import Address
from ilvrctl.hub.errors import BrokenOffError, DownloadError, SourceError
from ilvrctl.text import visible

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def translated(error: Exception, address: Address) -> IlvrctlError:
    """The error as one of a download: BrokenOffError where another try may help."""
    from huggingface_hub import constants, errors

    inner = _cause(error)
    page = f"{constants.ENDPOINT}/{address.repo}"
    whole = f"ilvrctl download hf:{address.repo}"
    code = getattr(getattr(inner, "response", None), "status_code", None)
    if isinstance(inner, errors.GatedRepoError):
        return SourceError(
            f"{address} is given only to those who have accepted its terms",
            hint=f"accept them at {page}, and say who you are: HF_TOKEN=..., or hf auth login",
        )
    if isinstance(inner, errors.RepositoryNotFoundError):
        return SourceError(
            f"there is no {address.repo} on Hugging Face, or it is private",
            hint="is the name right? for a private one say who you are: HF_TOKEN=..., or hf auth login",
        )
    if isinstance(inner, errors.RevisionNotFoundError):
        return SourceError(f"{address.repo} has no revision {address.revision}", hint=whole)
    if isinstance(inner, errors.EntryNotFoundError) and code is not None:
        return SourceError(f"{address.repo} has no such file (any more)", hint=whole)
    if isinstance(inner, errors.OfflineModeIsEnabled):
        return DownloadError(
            f"{address} is not here, and HF_HUB_OFFLINE forbids to fetch it", hint="unset it"
        )
    if code in (401, 403):
        return SourceError(f"{address}: who asks may not have it (HTTP {code})", hint="is HF_TOKEN right?")
    if code is not None and (code in (408, 425, 429) or code >= 500):
        return BrokenOffError(f"Hugging Face is busy (HTTP {code})", wait=_retry_after(inner))
    if code is not None:
        return SourceError(f"{address}: Hugging Face does not give it (HTTP {code})")
    return _of_the_machine(inner, address)


def _of_the_machine(error: BaseException, address: Address) -> IlvrctlError:
    """Errors of the disk and of the connection."""
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return DownloadError(
            f"{address}: cannot write {error.filename}: {error.strerror}",
            hint="make room or give permission there, or name another folder in HF_HOME",
        )
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return DownloadError(
            f"{address}: {error.strerror}", hint="make room, or name another folder in HF_HOME"
        )
    kind = type(error)
    reason = visible(" ".join(str(error).split()))[:160] or kind.__name__
    if isinstance(error, (OSError, TimeoutError)) or kind.__module__.startswith(("httpx", "httpcore")):
        return BrokenOffError(f"cannot reach Hugging Face: {reason}", hopeful="Connect" not in kind.__name__)
    return SourceError(f"{address}: {reason}")


def _cause(error: BaseException) -> BaseException:
    """What stands behind the library's word that a file is not in its cache either."""
    while type(error).__name__ == "LocalEntryNotFoundError" and error.__cause__ is not None:
        error = error.__cause__
    return error


def _retry_after(error: Any) -> float:
    value = error.response.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else 0.0
