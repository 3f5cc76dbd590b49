"""The page's own requests: what there is, what the controls come to, results that are asked for, and what happens."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ilvrctl.draw.session import Session
from ilvrctl.errors import IlvrctlError, UsageError
from ilvrctl.images.drawing import Layer, for_screen, open_layer, thumbnail
from ilvrctl.images.io import open_picture, read_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

PAGE = Path(__file__).parent / "page"
KINDS = {"": "index.html", "page.css": "page.css", "page.js": "page.js", "canvas.js": "canvas.js"}
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
PULSE = 15.0
"""Seconds after which a silent connection is told that somebody is there."""


class Pages:
    """The answers to the page's requests, for one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._photo: tuple[bytes, str] | None = None
        self._ends: set[Callable[[], object]] = set()

    def end(self) -> None:
        """Let every stream of events end, from any thread: an open page would hold the server up."""
        for end in list(self._ends):
            end()

    def application(self) -> Starlette:
        """All routes; errors that a person can act on are told as such."""
        get = ("GET",), ("POST",)
        routes = [
            *(Route(f"/{name}", self._static, methods=get[0]) for name in KINDS),
            Route("/about", self._about, methods=get[0]),
            Route("/photo", self._shown_photo, methods=get[0]),
            Route("/events", self._events, methods=get[0]),
            Route("/results/{number:int}", self._result, methods=get[0]),
            Route("/results/{number:int}/given", self._given, methods=get[0]),
            Route("/results/{number:int}/small", self._small, methods=get[0]),
            Route("/check", self._check, methods=get[1]),
            Route("/run", self._run, methods=get[1]),
            Route("/results/{number:int}/cancel", self._cancel, methods=get[1]),
            Route("/results/{number:int}/keep", self._keep, methods=get[1]),
        ]
        return Starlette(routes=routes, exception_handlers={IlvrctlError: _refused})

    async def _static(self, request: Request) -> Response:
        file = PAGE / KINDS[request.url.path.rpartition("/")[2]]
        return Response(file.read_bytes(), media_type=f"{TYPES[file.suffix]}; charset=utf-8")

    def _about(self, request: Request) -> Response:
        runs = [run.view() for run in self._session.runs.values()]
        return JSONResponse({**self._session.about(), "runs": runs})

    def _shown_photo(self, request: Request) -> Response:
        if self._photo is None:
            self._photo = for_screen(self._session.picture)
        self._session.opened.set()
        return Response(self._photo[0], media_type=self._photo[1])

    def _result(self, request: Request) -> Response:
        data, kind = for_screen(self._picture(request))
        return Response(data, media_type=kind)

    def _given(self, request: Request) -> Response:
        run = self._session.run(request.path_params["number"])
        data, kind = for_screen(self._session.given(run))
        return Response(data, media_type=kind)

    def _small(self, request: Request) -> Response:
        return Response(thumbnail(self._picture(request)), media_type="image/png")

    def _picture(self, request: Request) -> Image:
        run = self._session.run(request.path_params["number"])
        if run.state != "done":
            raise UsageError("there is no result yet")
        return open_picture(read_bytes(run.files.result), run.files.result.name)

    async def _check(self, request: Request) -> Response:
        asked = await _asked(request)
        controls, masked = _controls(asked), bool(asked.get("masked"))
        return JSONResponse(await run_in_threadpool(self._session.checked, controls, masked=masked))

    async def _run(self, request: Request) -> Response:
        asked = await _asked(request)

        def ask() -> Mapping[str, Any]:
            layers = (_layer(asked.get(name), self._session.picture.size) for name in ("paint", "mask"))
            return self._session.ask(_controls(asked), *layers).view()

        return JSONResponse(await run_in_threadpool(ask))

    def _cancel(self, request: Request) -> Response:
        self._session.cancel(request.path_params["number"])
        return JSONResponse({})

    def _keep(self, request: Request) -> Response:
        return JSONResponse(self._session.keep(request.path_params["number"]).view())

    async def _events(self, request: Request) -> Response:
        loop, told = asyncio.get_running_loop(), asyncio.Queue[Mapping[str, Any] | None]()

        def listen(event: Mapping[str, Any] | None = None) -> None:
            loop.call_soon_threadsafe(told.put_nowait, event)

        return StreamingResponse(self._stream(told, listen), media_type="text/event-stream")

    async def _stream(
        self, told: asyncio.Queue[Mapping[str, Any] | None], listen: Callable[..., None]
    ) -> AsyncIterator[str]:
        """What happens, from now on; first how everything stands, as something may have happened since it was asked.
        None ends it.
        """
        self._session.listeners.append(listen)
        self._ends.add(listen)
        try:
            for run in list(self._session.runs.values()):
                yield _line(run.view())
                for part, preview in list(run.previews.items()):
                    yield _line({**run.view(), "part": part, "preview": preview})
            yield ": here\n\n"
            while True:
                try:
                    event = await asyncio.wait_for(told.get(), PULSE)
                except asyncio.TimeoutError:
                    yield ": here\n\n"
                    continue
                if event is None:
                    return
                yield _line(event)
        finally:
            self._ends.remove(listen)
            self._session.listeners.remove(listen)


def _line(event: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(event)}\n\n"


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, IlvrctlError)
    return JSONResponse({"message": error.message, "hint": error.hint}, status_code=400)


async def _asked(request: Request) -> dict[str, Any]:
    try:
        found = json.loads(await request.body())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UsageError("the page's request cannot be read")
    return found


def _controls(asked: Mapping[str, Any]) -> dict[str, str]:
    """The parameters that the page gives, as texts, like flags."""
    found = asked.get("controls")
    if not isinstance(found, dict) or not all(
        isinstance(one, str) and len(one) < 64 for one in found.values()
    ):
        raise UsageError("the page's controls cannot be read")
    return found


def _layer(given: object, size: tuple[int, int]) -> Layer | None:
    """A part of the drawing, by the decoders of all pictures. UsageError, or InputError for what is no picture."""
    if given is None:
        return None
    found = given if isinstance(given, dict) else {}
    try:
        corner = int(found["x"]), int(found["y"])
        data = base64.b64decode(found["data"], validate=True)
    except (KeyError, TypeError, ValueError):
        raise UsageError("the drawing cannot be read") from None
    layer = open_layer(data, corner, size)
    return None if layer.cover.getbbox() is None else layer
