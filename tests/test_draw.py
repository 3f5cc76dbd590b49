"""The page that is drawn on, without a browser: who gets in, what is made, and that it equals the command's."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from commands import PATIENCE, command, environment, ilvrctl
from drawing import at_work
from PIL import Image, ImageDraw

from ilvrctl import paths
from ilvrctl.cli import draw as cli
from ilvrctl.draw.guard import Access, Guard
from ilvrctl.draw.server import Server
from ilvrctl.draw.session import MOST_WAITING, Session
from ilvrctl.errors import InputError, OutputError, UsageError
from ilvrctl.images.drawing import Layer, open_layer
from ilvrctl.plans.command_line import command_line

pytestmark = pytest.mark.usefixtures("stand_ins")

CAT = paths.PHOTOS / "cat.jpg"
FAST = {"to": "emoji3d", "precision": "fp32", "steps": "2"}


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cat.jpg").write_bytes(CAT.read_bytes())
    with Session("cat.jpg", Path("out"), FAST) as made:
        yield made


@pytest.fixture
def server(session: Session) -> Iterator[Server]:
    with Server(session, Access()) as served:
        yield served


def ask(
    server: Server,
    path: str,
    body: Any = None,
    *,
    method: str | None = None,
    token: str | None = None,
    **headers: str,
) -> tuple[int, bytes, Mapping[str, str]]:
    """A request as the page makes it, but for what is said otherwise."""
    own = server.address.split("/")[3]
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    data = None if body is None else json.dumps(body).encode()
    host = headers.pop("Host", f"127.0.0.1:{server.port}")
    known = {"Host": host} | ({"Origin": f"http://127.0.0.1:{server.port}"} if data is not None else {})
    how = method or ("GET" if data is None else "POST")
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(how, f"/{own if token is None else token}/{path}", data, {**known, **given})
    answer = connection.getresponse()
    found = answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
    connection.close()
    return found


def stroke(colour: str = "red", size: tuple[int, int] = (40, 30)) -> bytes:
    picture = Image.new("RGBA", size, (0, 0, 0, 0))
    ImageDraw.Draw(picture).ellipse((2, 2, size[0] - 3, size[1] - 3), fill=colour)
    content = BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def drawn(x: int = 100, y: int = 120, data: bytes | None = None) -> dict[str, Any]:
    return {"x": x, "y": y, "data": base64.b64encode(stroke() if data is None else data).decode()}


def layer(session: Session) -> Layer:
    return open_layer(stroke(), (100, 120), session.picture.size)


def until(session: Session, number: int, *states: str) -> None:
    end = time.monotonic() + PATIENCE
    while session.runs[number].state not in states:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_page_and_nothing_else_is_served(server: Server) -> None:
    status, page, headers = ask(server, "")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b"https://" not in page and b"<script>" not in page
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer" and headers["cache-control"] == "no-store"
    assert ask(server, "about")[0] == 200
    status, photo, headers = ask(server, "photo")
    with Image.open(BytesIO(photo)) as shown, Image.open(CAT) as photo_file:
        assert (headers["content-type"], shown.size) == ("image/png", photo_file.size)
        assert shown.convert("RGB").tobytes() == photo_file.convert("RGB").tobytes()
    for path in ("cat.jpg", "app.py", "../app.py", "..%2fapp.py", "/etc/passwd", "page/index.html", "run"):
        assert ask(server, path)[0] in (404, 405), path
    assert ask(server, "results/1")[0] == 400


@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost:8000", "[::1]:8000", "LOCALHOST"])
def test_a_forwarded_port_has_another_number(server: Server, host: str) -> None:
    assert ask(server, "about", Host=host)[0] == 200


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"token": "x" * 43}, 404),
        ({"token": ""}, 404),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example:80"}, 403),
        ({"Host": "192.0.2.7"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Content_Length": str(65 << 20)}, 413),
    ],
    ids=str,
)
def test_nobody_else_gets_in(server: Server, change: dict[str, str], status: int) -> None:
    assert ask(server, "check", {"controls": {}}, **change)[0] == status
    assert ask(server, "check", {"controls": {}})[0] == 200


def test_what_changes_something_needs_an_origin(server: Server) -> None:
    assert ask(server, "results/1/cancel", method="POST")[0] == 403


def answered(guard: Guard, token: str, chunks: list[bytes]) -> int:
    """The status that a guard answers to a body without a length."""
    statuses: list[int] = []
    waiting = iter(chunks)

    async def receive() -> dict[str, Any]:
        chunk = next(waiting, None)
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "method": "POST",
        "path": f"/{token}/x",
        "headers": [(b"host", b"localhost"), (b"origin", b"http://localhost")],
    }
    asyncio.run(guard(scope, receive, send))
    return statuses[0]


def test_a_body_that_does_not_tell_its_length_is_counted() -> None:
    async def reads_all(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})

    access = Access()
    guard = Guard(reads_all, access, largest=100)
    assert answered(guard, access.token, [b"x" * 50, b"x" * 50]) == 200
    assert answered(guard, access.token, [b"x" * 50, b"x" * 51]) == 413


def test_others_on_the_network_need_a_password(session: Session) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.7", "example.org"):
        with pytest.raises(UsageError, match="--password"):
            Access(host)
    with pytest.raises(UsageError, match="8 letters"):
        Access("0.0.0.0", "short")
    assert Access().token != Access().token
    with Server(session, Access("0.0.0.0", "correct horse")) as server:

        def status(word: str | None, kind: str = "Basic") -> int:
            given = {} if word is None else {"Authorization": f"{kind} {word}"}
            return ask(server, "about", **given)[0]

        assert status(None) == 401 and status("!") == 401 and status("abc", "Bearer") == 401
        assert status(base64.b64encode(b"me:wrong horse").decode()) == 401
        assert status(base64.b64encode(b"me:correct horse").decode()) == 200
        assert ask(server, "about", Host="evil.example")[0] == 403


@pytest.mark.parametrize(
    ("paint", "said"),
    [
        ({"x": 0, "y": 0, "data": "AAAA"}, "not a picture"),
        (drawn(250, 0), "reaches to"),
        (drawn(-1, 0), "reaches to"),
        (drawn(0, 0, stroke(size=(300, 300))), "too large"),
        ({"x": 0, "y": 0, "data": "not base64!"}, "cannot be read"),
        ({"x": 0}, "cannot be read"),
        ("text", "cannot be read"),
    ],
    ids=["no picture", "outside", "before", "larger", "no base64", "no data", "text"],
)
def test_a_drawing_that_is_none_is_refused(server: Server, paint: Any, said: str) -> None:
    status, answer, _ = ask(server, "run", {"controls": {}, "paint": paint})
    assert status == 400 and said in json.loads(answer)["message"]


@pytest.mark.parametrize(
    ("controls", "said"),
    [
        ({"N": "7"}, "7"),
        ({"N": "2,4"}, "one result at a time"),
        ({"steps": "0"}, "--steps"),
        ({"out": "/tmp/x"}, "cannot change"),
        ({"method": "nonsense"}, "nonsense"),
        ({"seed": 1}, "cannot be read"),
    ],
    ids=str,
)
def test_controls_are_read_as_flags_are(server: Server, controls: Any, said: str) -> None:
    status, answer, _ = ask(server, "check", {"controls": controls})
    assert status == 400 and said in json.loads(answer)["message"]
    assert ask(server, "check", [])[0] == 400


@pytest.mark.shipped
def test_controls_stand_where_the_command_would(server: Server) -> None:
    found = json.loads(ask(server, "check", {"controls": {"method": "sddm", "start": "0.7"}})[1])
    assert found["values"] == {"method": "sddm", "N": None, "steps": 2, "start": 0.7, "seed": 0}
    assert found["N"] == [] and "network calls" in found["words"]
    assert json.loads(ask(server, "about")[1])["N"] == [1, 2, 4, 8, 16, 32, 64]


@pytest.mark.parametrize("masked", [False, True], ids=["scribble", "mask"])
def test_what_is_kept_is_what_the_shown_command_makes(session: Session, server: Server, masked: bool) -> None:
    asked = {"controls": {"seed": "5"}, "paint": drawn(), "mask": drawn(60, 100) if masked else None}
    with at_work(session):
        run = json.loads(ask(server, "run", asked)[1])
        assert run["state"] == "waiting" and not Path("out").exists()
        until(session, run["id"], "done", "failed")
    shown = json.loads(ask(server, f"results/{run['id']}/keep", {})[1])
    assert shown["kept"] and shown["error"] is None
    kept = session.news.get()
    names = ["cat-1-scribble.png", *(["cat-1-mask.png"] if masked else []), "cat-1.png"]
    assert [file.name for file in kept.files] == names
    assert sorted(names) == sorted(path.name for path in Path("out").iterdir())
    words = shlex.split(shown["command"])
    assert words[:2] == ["ilvrctl", "edit"] and ("--mask" in words) is masked
    words[words.index("--out") + 1] = "again.png"
    ran = ilvrctl(*words[1:])
    assert ran.code == 0, ran.err
    assert Path("again.png").read_bytes() == Path("out/cat-1.png").read_bytes()
    with Image.open("out/cat-1-scribble.png") as scribble, Image.open(CAT) as photo:
        assert scribble.getpixel((120, 135)) == (255, 0, 0)
        assert scribble.getpixel((10, 10)) == photo.convert("RGB").getpixel((10, 10))
    if masked:
        with Image.open("out/cat-1-mask.png") as mask:
            assert [mask.getpixel(at) for at in ((80, 115), (120, 135), (10, 10))] == [255, 255, 0]
    small = Image.open(BytesIO(ask(server, f"results/{run['id']}/small")[1]))
    assert max(small.size) == 160
    given = Image.open(BytesIO(ask(server, f"results/{run['id']}/given")[1]))
    assert given.getpixel((120, 135))[:3] == (255, 0, 0)


def test_a_painting_is_kept_with_the_command_that_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Session(None, Path("out"), FAST, (96, 80)) as session, at_work(session):
        assert session.picture.size == (96, 80)
        run = session.ask({}, open_layer(stroke(), (10, 10), (96, 80)), None)
        until(session, run.number, "done", "failed")
        session.keep(run.number)
        words = shlex.split(run.command)
    assert words[2] == "out/painting-1.png" and "paint" in words
    words[words.index("--out") + 1] = "again.png"
    assert ilvrctl(*words[1:]).code == 0
    assert Path("again.png").read_bytes() == Path("out/painting-1-result.png").read_bytes()


@pytest.mark.shipped
def test_results_wait_for_each_other_and_can_be_cancelled(session: Session) -> None:
    told: list[Mapping[str, Any]] = []
    session.listeners.append(told.append)
    first = session.ask({"steps": "200"}, layer(session), None)
    others = [session.ask({}, layer(session), None) for _ in range(MOST_WAITING - 1)]
    with pytest.raises(UsageError, match="wait already"):
        session.ask({}, layer(session), None)
    for run in others[1:]:
        session.cancel(run.number)
    with at_work(session):
        until(session, first.number, "running")
        end = time.monotonic() + PATIENCE
        while first.step < 2 and time.monotonic() < end:
            time.sleep(0.01)
        assert first.boxes and others[0].state == "waiting"
        session.cancel(first.number)
        until(session, first.number, "cancelled")
        until(session, others[0].number, "done")
    assert first.step < 200 and first.error is None and not first.files.result.exists()
    assert {run.state for run in others[1:]} == {"cancelled"}
    with pytest.raises(UsageError, match="no result to keep"):
        session.keep(first.number)
    previews = [event["preview"] for event in told if event["id"] == first.number and "preview" in event]
    assert previews and all(one.startswith("data:image/jpeg;base64,") for one in previews)
    _, _, data = previews[0].partition(",")
    assert Image.open(BytesIO(base64.b64decode(data))).size == (64, 64)


def test_a_result_that_fails_says_why_and_the_next_is_made(session: Session) -> None:
    with at_work(session):
        faint = open_layer(stroke("#00000003"), (100, 120), session.picture.size)
        bad = session.ask({}, faint, None)
        good = session.ask({}, layer(session), None)
        until(session, good.number, "done", "failed")
    assert (bad.state, good.state) == ("failed", "done")
    assert bad.error is not None and "no scribble" in bad.error.message


def test_nothing_is_overwritten_and_names_are_free_ones(session: Session) -> None:
    Path("out").mkdir()
    Path("out/cat-1-mask.png").touch()
    with at_work(session):
        run = session.ask({}, layer(session), None)
        until(session, run.number, "done", "failed")
    assert run.kept_as.result == Path("out/cat-2.png")
    Path("out/cat-2.png").write_text("mine")
    with pytest.raises(OutputError, match="is there already"):
        session.keep(run.number)
    assert Path("out/cat-2.png").read_text() == "mine" and not Path("out/cat-2-scribble.png").exists()


def test_what_happens_is_told_and_first_how_it_stands(session: Session, server: Server) -> None:
    session.ask({}, layer(session), None)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.request("GET", f"/{server.address.split('/')[3]}/events")
    answer = connection.getresponse()
    first = json.loads(answer.readline().removeprefix(b"data: "))
    assert (first["id"], first["state"]) == (1, "waiting")
    with at_work(session):
        states = [first["state"]]
        while states[-1] not in ("done", "failed"):
            if (line := answer.readline()).startswith(b"data: "):
                states.append(json.loads(line.removeprefix(b"data: "))["state"])
    assert list(dict.fromkeys(states)) == ["waiting", "running", "done"]
    connection.close()


def test_an_open_page_does_not_hold_the_end_up(session: Session) -> None:
    """Its stream of events comes to an end: it is not cut off when the time for that is over."""
    with Server(session, Access()) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        connection.request("GET", f"/{server.address.split('/')[3]}/events")
        answer = connection.getresponse()
        assert answer.readline() == b": here\n"
    assert answer.read() == b"\n"
    connection.close()
    assert session.listeners == []


def test_a_photo_that_is_none_and_weights_that_are_not_here_are_told_before_anything_is_served(
    tmp_path: Path,
) -> None:
    with pytest.raises(InputError, match="does not exist"):
        Session(str(tmp_path / "none.png"), tmp_path, FAST)
    with pytest.raises(UsageError, match="one result at a time"):
        Session(str(CAT), tmp_path, {**FAST, "N": "2,4"})
    ran = ilvrctl("edit", CAT, "--draw", "--to", "dog", "--no-browser")
    assert ran.code == 3 and "ilvrctl download dog" in ran.err


def test_without_the_extra_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    for words in (("edit", CAT, "--draw"), ("draw",)):
        ran = ilvrctl(*words, "--to", "emoji3d")
        assert ran.code == 3 and ran.out == b""
        assert "pip install 'ilvrctl[draw]'" in ran.err and len(ran.err.splitlines()) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--draw", "--mask", CAT), "--mask"),
        (("--draw", "--samples", "2"), "--samples"),
        (("--draw", "--dry-run"), "--dry-run"),
        (("--draw", "-o", "a.png"), "-o FOLDER"),
        (("--draw", "--host", "0.0.0.0"), "--password"),
        (("--draw", "--host", "203.0.113.9", "--password", "correct horse"), "cannot be served"),
        ((CAT, "--draw"), "makes the scribbled copy itself"),
    ],
    ids=str,
)
def test_what_has_no_meaning_with_a_page_is_refused(words: tuple[Any, ...], said: str) -> None:
    ran = ilvrctl("edit", CAT, *words, "--to", "emoji3d", "--no-browser")
    assert ran.code == 2 and said in ran.err, ran.err


@pytest.mark.parametrize("words", [("edit", CAT, "--draw"), ("draw", "--canvas", "64")], ids=lambda w: w[0])
def test_it_ends_with_ctrl_c_and_that_is_a_good_end(words: tuple[Any, ...], tmp_path: Path) -> None:
    began = time.monotonic()
    started = subprocess.Popen(
        command(*words, "--to", "emoji3d", "--no-browser", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=environment(TMPDIR=str(tmp_path), SSH_CONNECTION="192.0.2.1 5 192.0.2.7 2222"),
        text=True,
    )
    assert started.stdout is not None
    served = json.loads(started.stdout.readline())
    assert served["event"] == "serving" and time.monotonic() - began < PATIENCE
    host, port = served["address"].split("/")[2].split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
    connection.request("GET", f"/{served['address'].split('/')[3]}/about")
    assert json.loads(connection.getresponse().read())["target"] == "emoji3d"
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=PATIENCE)
    assert started.returncode == 0, err
    assert f"-L {port}:127.0.0.1:{port} -p 2222" in err and "@192.0.2.7" in err
    assert "0 of 0 results were kept" in err
    assert list(tmp_path.iterdir()) == []


def test_a_browser_is_opened_only_where_it_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSH_CONNECTION", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert not cli.has_screen()
    monkeypatch.setenv("DISPLAY", ":0")
    assert cli.has_screen()
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.1 5 192.0.2.7 22")
    assert not cli.has_screen()


def test_the_command_line_of_parameters_is_read_back_as_them() -> None:
    values = {"to": "a b", "N": "4", "whole": True, "compile": False, "set": ["a=1", "b=[1, 2]"], "seed": 7}
    line = command_line("edit", ["-photo.png", "it's.png"], values)
    assert shlex.split(line) == [
        *("ilvrctl", "edit", "./-photo.png", "it's.png", "--to", "a b", "--N", "4"),
        *("--set", "a=1", "--set", "b=[1, 2]", "--seed", "7", "--whole", "--no-compile"),
    ]


def test_other_commands_do_not_import_the_server(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom ilvrctl.cli.app import main\ntry:\n    main()\nfinally:\n"
        "    print(sorted({'starlette', 'uvicorn', 'anyio', 'webbrowser'} & set(sys.modules)), file=sys.stderr)"
    )
    for words in (
        ("edit", "--help"),
        ("edit", str(CAT), "--to", "emoji3d", "--dry-run", "-o", "a.png"),
        ("--help",),
    ):
        ran = subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0 and ran.stderr.splitlines()[-1] == "[]", ran.stderr
    assert not any(tmp_path.iterdir())
