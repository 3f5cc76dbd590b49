"""What a run writes into the manifest: a line for every result that is made, was found, or failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ilvrctl.errors import may_pass
from ilvrctl.plans.manifest import Entry, JobHead, ManifestWriter
from ilvrctl.plans.past import Past, relative

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ilvrctl.errors import IlvrctlError
    from ilvrctl.plans.outputs import Output
    from ilvrctl.plans.plan import Plan


@dataclass(frozen=True)
class Seen:
    """An input as it was read: sha256 of its bytes, and size and time of change of the file."""

    digest: str = ""
    state: tuple[int, int] | None = None


class Ledger:
    """Keeps the manifest of a folder. ``past``: what it told before this run."""

    def __init__(self, manifest: ManifestWriter, past: Past) -> None:
        self._manifest, self._past = manifest, past

    def begin(self, plans: Sequence[Plan]) -> None:
        """Tell what the run is about, and what it found done that the manifest did not know."""
        self._manifest.begin({plan.name: job_head(plan) for plan in plans})
        for plan in plans:
            self._manifest.add(
                self._entry(plan, output, Seen(output.digest, output.item.state()))
                for output in plan.outputs
                if output.status == "done" and self._unknown(plan, output)
            )

    def done(self, plan: Plan, output: Output, seen: Seen, seconds: float) -> None:
        """A result is on disk."""
        self._manifest.add([self._entry(plan, output, seen, seconds=round(seconds, 3))])

    def failed(self, plan: Plan, outputs: Iterable[Output], seen: Seen, error: IlvrctlError) -> None:
        """Results that cannot be made."""
        self._manifest.add(self._entry(plan, output, seen, error=error) for output in outputs)

    def _unknown(self, plan: Plan, output: Output) -> bool:
        entry = self._past.entry(output)
        identity = plan.identities[output.variant]
        return entry is None or (entry.status, entry.config_sha256) != ("done", identity)

    def _entry(
        self,
        plan: Plan,
        output: Output,
        seen: Seen,
        *,
        seconds: float | None = None,
        error: IlvrctlError | None = None,
    ) -> Entry:
        size, changed = seen.state or (None, None)
        return Entry(
            job=plan.name,
            input=output.item.short,
            sample=output.sample,
            output=relative(output.path, self._past.root) if output.path is not None else "-",
            status="done" if error is None else "failed",
            config_sha256=plan.identities[output.variant],
            input_sha256=seen.digest,
            input_size=size,
            input_mtime_ns=changed,
            settings=plan.changes(output),
            seconds=seconds,
            error=None if error is None else error.message,
            hint=None if error is None else error.hint,
            again=True if error is not None and may_pass(error) else None,
        )


def job_head(plan: Plan) -> JobHead:
    """What the manifest tells of a job as a whole."""
    columns: tuple[Mapping[str, object], ...] = tuple(variant.changes for variant in plan.variants)
    return JobHead(len(plan.outputs), plan.target or plan.model.name, columns)
