"""``ilvrctl eval``: numbers about results, with intervals, and a page that shows pictures beside them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ilvrctl.cli import options as opt
from ilvrctl.cli.output import command, data, data_json, say, stderr_console, terminal, use_color
from ilvrctl.errors import IlvrctlError, OutputError, UsageError, did_you_mean
from ilvrctl.plans.parameter import OUTPUT

if TYPE_CHECKING:
    from ilvrctl.evaluation.evaluate import Comparison
    from ilvrctl.evaluation.result import Evaluation

EPILOG = """Examples:

  ilvrctl eval out/ --source cats/ --against dogs/ --json

  ilvrctl eval grid/ --source cats/ --truth truth/ --html report.html

  ilvrctl eval runA/ runB/ --truth truth/ --csv pictures.csv

  ilvrctl eval out/ --source cats/ --against dogs/ --protocol egsde

  ilvrctl eval --against dogs/ --save-stats dogs.npz
"""
_WITH = "Compare with"
_HOW = "How"
PROTOCOLS = ("ilvrctl", "egsde")


@command
def eval(  # noqa: A001  (the name of the subcommand)
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN...", help="Folders of results; a sweep or a grid is several runs."),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--source", metavar="DIR", help="The inputs, paired by name.", rich_help_panel=_WITH),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            "--truth", metavar="DIR", help="The true results, paired by name.", rich_help_panel=_WITH
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against",
            metavar="DIR|FILE.npz",
            help="Real pictures of the target domain, or their statistics; else those of --truth.",
            rich_help_panel=_WITH,
        ),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol",
            metavar="NAME",
            help="ilvrctl, or egsde: as that paper's code.",
            rich_help_panel=_HOW,
        ),
    ] = "ilvrctl",
    extractor: Annotated[
        str,
        typer.Option(
            "--extractor",
            metavar="NAME",
            help="Features: inception (FID, KID), efficientnet-lite0 (offline; its KID is not the published "
            "one), or auto: inception where it is installed.",
            rich_help_panel=_HOW,
        ),
    ] = "auto",
    lpips: Annotated[
        bool, typer.Option("--lpips", help="LPIPS too; wants its weights.", rich_help_panel=_HOW)
    ] = False,
    factor: Annotated[
        int | None,
        typer.Option(
            "--N", "-N", min=1, help="N of phi; else the one that the results tell.", rich_help_panel=_HOW
        ),
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(
            "--fit",
            metavar="NAME",
            help="Make partners as large as results: crop, pad or stretch. Else sizes must agree.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    common: Annotated[
        bool,
        typer.Option("--common", help="Only pictures that all sides have.", rich_help_panel=_HOW),
    ] = False,
    resamples: Annotated[
        int, typer.Option("--resamples", min=100, help="Of the bootstrap.", rich_help_panel=_HOW)
    ] = 2000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the bootstrap.", rich_help_panel=_HOW)] = 0,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="A page in one file: plot, pictures, settings.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="The numbers of every picture.", rich_help_panel=OUTPUT),
    ] = None,
    save_stats: Annotated[
        Path | None,
        typer.Option(
            "--save-stats",
            metavar="FILE.npz",
            help="Write the statistics of --against, for the next time.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that exist.", rich_help_panel=OUTPUT)
    ] = False,
    device: opt.Device = "auto",
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = 0,
    color: opt.Color = "auto",
) -> None:
    """Measure results: how near the input or the truth, how real; with intervals, runs compared."""
    if protocol not in PROTOCOLS:
        hint = did_you_mean(protocol, PROTOCOLS)
        raise UsageError(f"unknown protocol {protocol!r}; known are {', '.join(PROTOCOLS)}", hint)
    _check_files([path for path in (html, csv, save_stats) if path is not None], overwrite)
    failed: list[IlvrctlError] = []
    if save_stats is not None:
        failed = _save(save_stats, against, extractor, device, quiet=quiet, color=use_color(color))
    if not runs:
        if save_stats is None:
            raise UsageError("no results are named", "ilvrctl eval out/ --source cats/ --against dogs/")
        _leave(failed)
        return
    if source is None and truth is None and against is None:
        raise UsageError(
            "nothing to compare with", "--source INPUTS, --truth TRUE_RESULTS or --against REAL_PICTURES"
        )
    from ilvrctl.evaluation.evaluate import Comparison

    order = Comparison(
        tuple(runs),
        source=source,
        truth=truth,
        against=against,
        extractor=extractor,
        egsde=protocol == "egsde",
        fit=_known_fit(fit),
        N=factor,
        lpips=lpips,
        common=common,
        resamples=resamples,
        seed=seed,
    )
    found = _measure(order, device, quiet=quiet, color=use_color(color))
    _show(found, as_json=as_json, quiet=quiet, color=color)
    _write(found, html, csv, quiet=quiet)
    if not quiet and found.failures:
        total = found.left_out + sum(len(run.rows) for run in found.runs)
        say(f"{len(found.failures)} failed: {found.left_out} of {total} results are left out")
    _leave([*failed, *found.failures])


def _leave(failed: Sequence[IlvrctlError]) -> None:
    """Exit code 1 where a picture could not be measured."""
    if failed:
        raise typer.Exit(1)


def _known_fit(fit: str | None) -> str | None:
    from ilvrctl.images.geometry import FITS

    if fit is not None and fit not in FITS:
        raise UsageError(f"unknown fit {fit!r}; known are {', '.join(FITS)}", did_you_mean(fit, FITS))
    return fit


def _check_files(files: list[Path], overwrite: bool) -> None:
    """Before anything is measured: the files to write are not there yet, and have somewhere to be."""
    for path in files:
        if path.is_dir():
            raise UsageError(f"{path} is a folder", "give the name of a file")
        if path.exists() and not overwrite:
            raise UsageError(f"{path} exists", "--overwrite replaces it")
        if not path.parent.is_dir():
            raise OutputError(f"cannot write {path}: its folder does not exist", f"mkdir -p {path.parent}")


def _save(
    path: Path, against: Path | None, extractor: str, device: str, *, quiet: bool, color: bool
) -> list[IlvrctlError]:
    """Write the statistics; what is wrong with pictures that are not in them."""
    from ilvrctl.devices import choose_device
    from ilvrctl.evaluation.evaluate import save_statistics
    from ilvrctl.evaluation.features import choose_extractor

    if against is None or not against.is_dir():
        raise UsageError("--save-stats writes the statistics of a folder", "--against DIR")
    chosen = choose_extractor(extractor)
    with _progress(quiet=quiet, color=False) as progress:
        n, failed = save_statistics(against, path, chosen, choose_device(device), progress)
    _tell(failed, color=color)
    if not quiet:
        say(f"wrote {path}: {chosen.name}, {n} pictures")
    return failed


def _tell(failed: Sequence[IlvrctlError], *, color: bool) -> None:
    """A line for every reason for which pictures could not be measured."""
    for error in failed:
        say(f"{error.message}{f' ({error.hint})' if error.hint else ''}", label="failed", color=color)


def _measure(order: Comparison, device: str, *, quiet: bool, color: bool) -> Evaluation:
    from ilvrctl.devices import choose_device
    from ilvrctl.evaluation.evaluate import evaluate

    with _progress(quiet=quiet, color=color) as progress:
        return evaluate(order, choose_device(device), progress)


@contextmanager
def _progress(*, quiet: bool, color: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each thing that is done, on a terminal; elsewhere nothing."""
    if quiet or not terminal(sys.stderr):
        yield lambda *_: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns,
        console=stderr_console(color=color),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as bars:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield show


def _show(found: Evaluation, *, as_json: bool, quiet: bool, color: str) -> None:
    if as_json:
        data_json(found.record())
    else:
        from ilvrctl.cli.tables import comparison

        for line in comparison(found, color=terminal(sys.stdout) and use_color(color)):
            data(line, styled=True)
    _tell(found.failures, color=use_color(color))
    if not quiet:
        for warning in found.warnings:
            say(warning, label="warning", color=use_color(color))


def _write(found: Evaluation, html: Path | None, csv: Path | None, *, quiet: bool) -> None:
    from ilvrctl.evaluation.report import csv_text, page
    from ilvrctl.files import write_text

    for path, text in ((csv, csv_text), (html, page)):
        if path is not None:
            write_text(path, text(found))
            if not quiet:
                say(f"wrote {path}")
