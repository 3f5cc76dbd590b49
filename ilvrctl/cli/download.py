"""``ilvrctl download``: the weights of published models, and of your own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ilvrctl.cli import options as opt
from ilvrctl.cli import signals
from ilvrctl.cli.display import Display, amount
from ilvrctl.cli.output import command, data_json, interrupted, say
from ilvrctl.errors import ConfigError, UsageError
from ilvrctl.hub.address import Address, is_address
from ilvrctl.plans import offers
from ilvrctl.presets import (
    ModelPreset,
    broken_presets,
    load_models,
    require_single,
    resolve_model,
    single_models,
)

if TYPE_CHECKING:
    from ilvrctl.hub.events import HubEvent
    from ilvrctl.hub.fetch import Order

EPILOG = """Examples:

  ilvrctl download --list

  ilvrctl download ffhq dog

  ilvrctl download hf:google/ddpm-cat-256

  ilvrctl download my-model --url https://example.org/model.pt --sha256 HEX

  ilvrctl download dog --file ~/Downloads/afhq_dog_4m.pt

  ilvrctl download --verify

Proxies are taken from HTTP_PROXY, HTTPS_PROXY and NO_PROXY.
"""
_OWN = "Another place for one model"
_CARE = "Care"


@command
def download(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME...",
            help="Models or targets, as --list names them; or hf:user/repo@revision/file.",
            autocompletion=offers.downloads,
        ),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", "-l", help="What there is, and what is here.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read what is here again and compare; all models unless named.")
    ] = False,
    url: Annotated[
        str | None,
        typer.Option(
            "--url", metavar="URL", help="https://..., or a link to Google Drive.", rich_help_panel=_OWN
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", metavar="PATH", help="A file that you have; it is copied.", rich_help_panel=_OWN
        ),
    ] = None,
    move: Annotated[bool, typer.Option("--move", help="Move the --file.", rich_help_panel=_OWN)] = False,
    sha256: Annotated[
        str | None,
        typer.Option(
            "--sha256", metavar="HEX", help="What it must be; replaces other hashes.", rich_help_panel=_OWN
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Fetch what is here again.", rich_help_panel=_CARE)
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Use no network.", rich_help_panel=_CARE)
    ] = False,
    cookies: Annotated[
        Path | None,
        typer.Option(
            "--cookies", metavar="FILE", help="Cookies of a browser (cookies.txt).", rich_help_panel=_CARE
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout", min=0.1, help="Seconds of silence before another try.", rich_help_panel=_CARE
        ),
    ] = 30.0,
    retries: Annotated[
        int, typer.Option("--retries", min=0, help="Tries again at each source.", rich_help_panel=_CARE)
    ] = 4,
    dry_run: opt.DryRun = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = 0,
    color: opt.Color = "auto",
) -> None:
    """Fetch weights, go on where a transfer was cut, and prove what arrived."""
    if list_:
        from ilvrctl.cli.catalogue import show_list

        if names:
            show_list([resolve_model(name) for name in names], as_json=as_json)
        else:
            show_list(load_models().values(), broken_presets("models"), as_json=as_json)
        return
    hubs = [Address.parse(name) for name in names or () if is_address(name)]
    if hubs and (url or file or sha256 or cookies):
        raise UsageError(
            f"--url, --file, --sha256 and --cookies are not for {hubs[0]}", hint=f"ilvrctl download {hubs[0]}"
        )
    models = []
    if not hubs or len(hubs) < len(names or ()):
        names = [name for name in names or () if not is_address(name)]
        models = _models(names, url=url, file=file, move=move, sha256=sha256, verify=verify)
    if dry_run:
        from ilvrctl.cli.catalogue import show_plan

        show_plan(models, hubs, as_json=as_json)
        return
    order = _order(timeout, retries, cookies, overwrite, offline)
    events = _events(models, hubs, order, verify=verify, file=file, move=move)
    if not (verify or quiet):
        _show_licences(models, as_json=as_json)
    code = _carry_out(events, models, Display.of(as_json, quiet, verbose, color))
    if code:
        raise typer.Exit(code)
    if (url or file) and not verify:
        _keep_own(models[0], quiet=quiet)


def _models(
    names: Sequence[str] | None,
    *,
    url: str | None,
    file: Path | None,
    move: bool,
    sha256: str | None,
    verify: bool,
) -> list[ModelPreset]:
    """The models that are meant, each once; one of an own name when a place for it is given."""
    from ilvrctl.hub.registry import own_model, with_facts

    if url and file:
        raise UsageError("--url and --file both say where the weights are; give one of them")
    if move and not file:
        raise UsageError("--move belongs to --file")
    if verify and not names:
        by_file = {model.file: model for model in reversed(single_models())}
        return [model for model in by_file.values() if model.installed() and model.downloaded]
    if not names:
        raise UsageError("no model is named", hint="ilvrctl download --list")
    if not (url or file or sha256):
        return list({model.name: model for model in map(resolve_model, names)}.values())
    if len(names) != 1:
        raise UsageError("--url, --file and --sha256 speak about one model; name one")
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise UsageError(f"--sha256 {sha256!r} is not a sha256: that has 64 hexadecimal digits")
    try:
        model = resolve_model(names[0])
    except UsageError:
        if not (url or file):
            raise
        model = own_model(names[0], url=url, file=file)
    require_single(model)
    if model.bundled:
        raise UsageError(f"{model.name} ships with ilvrctl; give yours another name")
    return [with_facts(model, url=url, sha256=sha256.lower() if sha256 else None)]


def _order(timeout: float, retries: int, cookies: Path | None, overwrite: bool, offline: bool) -> Order:
    from ilvrctl.hub.fetch import Order
    from ilvrctl.hub.limits import Limits
    from ilvrctl.hub.web import load_cookies
    from ilvrctl.models.files.announced import check

    if cookies is not None:
        load_cookies(cookies)
    return Order(
        lambda item, path: check(item.key, item.model.format, path),
        Limits(timeout, retries, cookies),
        overwrite,
        offline,
    )


def _events(
    models: Sequence[ModelPreset],
    hubs: Sequence[Address],
    order: Order,
    *,
    verify: bool,
    file: Path | None,
    move: bool,
) -> Iterator[HubEvent]:
    from ilvrctl.hub import hugging_face
    from ilvrctl.hub.fetch import fetch
    from ilvrctl.hub.local import bring
    from ilvrctl.hub.verify import verify_all
    from ilvrctl.models.files.announced import check_network

    if file is not None and not verify:
        yield from bring(models[0], file, order, move=move)
        return
    yield from verify_all(models, order.check) if verify else fetch(models, order)
    for hub in hubs:
        if verify:
            yield from hugging_face.verify(hub, check_network)
        else:
            how = {"overwrite": order.overwrite, "offline": order.offline}
            yield from hugging_face.fetch(hub, check_network, order.limits, **how)


def _show_licences(models: Iterable[ModelPreset], *, as_json: bool) -> None:
    """Once for a model, before its first download: what the licences do not allow."""
    from ilvrctl.hub.pins import load_pins

    pins = load_pins()
    told: dict[str, list[str]] = {}
    for model in models:
        seen = model.bundled or any(key == model.file or key.startswith(f"{model.file}/") for key in pins)
        if not seen and model.use != "any" and (model.licence or model.use != "unstated"):
            told.setdefault(f"{_use(model)}: {model.licence}", []).append(model.name)
    for text, names in told.items():
        if as_json:
            data_json({"event": "licence", "names": names, "licence": text})
        say(f"licence of {', '.join(names)}: {text}")


def _use(model: ModelPreset) -> str:
    return {
        "any": "free to use",
        "non-commercial": "non-commercial use only",
        "research": "for research only",
        "unstated": "no licence is stated",
    }[model.use]


def _carry_out(events: Iterator[HubEvent], models: Sequence[ModelPreset], display: Display) -> int:
    """Show the events; the exit code."""
    from ilvrctl.cli.screen import Screen
    from ilvrctl.cli.transfer_views import Transfers
    from ilvrctl.hub.events import Failed, Fetched

    transfers, codes = Transfers(), set[int]()
    uses: dict[str, None] = {}
    try:
        with Screen(display) as screen, closing(events):  # type: ignore[type-var]
            for event in events:
                screen.show(transfers.view(event))
                signals.check()
                if isinstance(event, Failed):
                    codes.add(event.error.exit_code)
                if isinstance(event, Fetched) and event.use:
                    uses[event.use] = None
    except KeyboardInterrupt:
        interrupted(_kept(models))
    for use in uses if not (display.quiet or display.as_json) else ():
        say(f"use it: {use}")
    return next((code for code in (3, 1, 2) if code in codes), 0)


def _kept(models: Iterable[ModelPreset]) -> str:
    from ilvrctl.cli.catalogue import items
    from ilvrctl.hub.partial import unfinished

    parts: list[tuple[str, int]] = []
    for model in models:
        with suppress(ConfigError):
            parts += [(item.name, unfinished(item)) for item in items([model])]
    kept = ", ".join(f"{amount(size)} of {name}" for name, size in parts if size)
    return f"interrupted: {kept or 'nothing'} is kept; the same command goes on from there"


def _keep_own(model: ModelPreset, *, quiet: bool) -> None:
    """An own model becomes known to every command."""
    from ilvrctl.hub.registry import save_own

    if model.name not in load_models():
        path = save_own(model)
        if not quiet:
            say(f"{model.name} is known from now on, by {path}; use it with --weights {model.name}")
