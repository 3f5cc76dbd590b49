"""``ilvrctl docs``: the documentation, which ships with the package."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ilvrctl import paths
from ilvrctl.cli.options import Json
from ilvrctl.cli.output import command, data, data_json, say, terminal, use_color
from ilvrctl.errors import UsageError, did_you_mean
from ilvrctl.files import read_text

EPILOG = """Examples:

  ilvrctl docs

  ilvrctl docs methods

  ilvrctl docs commands | less
"""


def _pages() -> dict[str, Path]:
    return {page.stem: page for page in sorted(paths.docs_dir().glob("*.md"))}


@command
def docs(
    topic: Annotated[
        str | None,
        typer.Argument(
            metavar="TOPIC", help="A page; without one, the list of all.", autocompletion=lambda: [*_pages()]
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print a page of the documentation, or which there are."""
    pages = _pages()
    if topic is None:
        _list(pages, as_json=as_json)
        return
    if topic not in pages:
        known = f"known are {', '.join(pages)}"
        raise UsageError(f"no page is called {topic!r}", did_you_mean(topic, pages) or known)
    text = read_text(pages[topic])
    if as_json:
        data_json({**_about(pages[topic]), "text": text})
    elif terminal(sys.stdout):
        data(_drawn(text), styled=True)
    else:
        data(text.rstrip("\n"))


def _list(pages: dict[str, Path], *, as_json: bool) -> None:
    abouts = [_about(page) for page in pages.values()]
    if as_json:
        for about in abouts:
            data_json(about)
        return
    say("Pages (ilvrctl docs TOPIC):")
    width = max(map(len, pages), default=0)
    for about in abouts:
        data(f"{about['topic']:<{width}}  {about['summary']}")


def _about(page: Path) -> dict[str, str]:
    """A page begins with its title, an empty line, and what it is about in one line."""
    title, _, summary, *_ = [*read_text(page).splitlines(), "", "", ""]
    return {"topic": page.stem, "title": title.lstrip("# "), "summary": summary}


def _drawn(text: str) -> str:
    """For a terminal as wide as this one."""
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console(force_terminal=True, no_color=not use_color("auto"))
    with console.capture() as drawn:
        console.print(Markdown(text, hyperlinks=False))
    return drawn.get().rstrip("\n")
