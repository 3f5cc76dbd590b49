"""The page of ``ilvrctl eval --html`` in a real headless Chromium, from a file address and without a network."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from browser import chromium
from commands import ilvrctl, slowness
from conftest import EMOJI
from PIL import Image

pytestmark = pytest.mark.slow

MANY = 500


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of all emoji: a blend near the truth, and one far from it."""
    folder = tmp_path_factory.mktemp("page")
    for name, share in {"near": 0.9, "far": 0.3}.items():
        (folder / name).mkdir()
        for file in sorted((EMOJI / "flat").glob("*.png"))[:12]:
            a, b = (Image.open(EMOJI / side / file.name).convert("RGB") for side in ("flat", "3d"))
            Image.blend(a, b, share).save(folder / name / file.name)
    for side in ("flat", "3d"):
        (folder / side).mkdir()
        for file in sorted((folder / "near").glob("*.png")):
            shutil.copy(EMOJI / side / file.name, folder / side)
    path = folder / "report.html"
    words = [str(folder / name) for name in ("near", "far")]
    ran = ilvrctl("eval", *words, "--source", folder / "flat", "--truth", folder / "3d", "--html", path)
    assert ran.code == 0, ran.err
    return path


def opened(browser: Any, path: Path, **options: Any) -> Any:
    """The page, ready, in a context of its own; requests and errors are noted on it."""
    tab = browser.new_context(**options).new_page()
    tab.requests, tab.errors = [], []
    tab.on("request", lambda request: tab.requests.append(request.url))
    tab.on("pageerror", lambda error: tab.errors.append(str(error)))
    tab.on("console", lambda message: tab.errors.append(message.text) if message.type == "error" else None)
    tab.goto(path.as_uri())
    tab.wait_for_selector("html[data-ready]")
    return tab


def share(tab: Any) -> str:
    return str(
        tab.evaluate("getComputedStyle(document.getElementById('slider')).getPropertyValue('--at')")
    ).strip()


def column(tab: Any, n: int) -> list[float]:
    cells = tab.locator(f"#rows tbody td:nth-child({n})").all_inner_texts()
    return [float(cell) for cell in cells]


def test_nothing_leaves_the_page(browser: Any, page_file: Path) -> None:
    tab = opened(browser, page_file)
    tab.mouse.wheel(0, 5000)
    tab.wait_for_timeout(300)
    outside = [url for url in tab.requests if not url.startswith(("data:", page_file.as_uri()))]
    assert outside == []
    assert tab.errors == []
    assert "Realism against faithfulness" in tab.inner_text("main")
    assert tab.locator("svg.pareto circle").count() == 2


def test_the_slider_moves_with_mouse_and_keys(browser: Any, page_file: Path) -> None:
    tab = opened(browser, page_file)
    assert share(tab) == "50%"
    tab.locator("#slider").scroll_into_view_if_needed()
    box = tab.locator("#slider").bounding_box()
    tab.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 100)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + 100, steps=5)
    tab.mouse.up()
    dragged = float(share(tab).rstrip("%"))
    assert 14 <= dragged <= 26
    tab.locator("#split").focus()
    for _ in range(3):
        tab.keyboard.press("ArrowRight")
    assert float(share(tab).rstrip("%")) == dragged + 3
    tab.keyboard.press("End")
    assert share(tab) == "100%"
    clip = tab.evaluate("getComputedStyle(document.getElementById('after')).clipPath")
    assert "100%" in clip


def test_nothing_moves_when_pictures_come(browser: Any, page_file: Path) -> None:
    """They are decoded when they come near the window; what a mouse is about to press stays where it is."""
    tab = opened(browser, page_file, viewport={"width": 800, "height": 300})
    where = "[...document.querySelectorAll('section, th')].map(e => e.getBoundingClientRect().top + scrollY)"
    before = tab.evaluate(where)
    waiting = "[...document.querySelectorAll('img[data-n]')].filter(e => !e.complete || !e.src).length"
    assert tab.evaluate(waiting) > 20
    tab.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    tab.wait_for_function(f"{waiting} === 0")
    assert tab.evaluate(where) == before


def test_columns_sort_with_mouse_and_keys(browser: Any, page_file: Path) -> None:
    tab = opened(browser, page_file)
    heads = tab.locator("#rows thead th")
    heads.nth(1).locator("button").click()
    tab.wait_for_selector("#rows thead th:nth-child(2)[aria-sort=ascending]")
    values = column(tab, 2)
    assert values == sorted(values)
    assert len(set(values)) > 5
    tab.keyboard.press("Enter")  # the button that was pressed keeps the focus
    tab.wait_for_selector("#rows thead th:nth-child(2)[aria-sort=descending]")
    assert column(tab, 2) == sorted(values, reverse=True)


def test_run_partner_and_picture_are_chosen_by_keys(browser: Any, page_file: Path) -> None:
    tab = opened(browser, page_file)
    before = column(tab, 2)
    tab.locator("#run").select_option(label="far")
    assert column(tab, 2) != before
    assert tab.inner_text("#right-name") == "far"
    tab.locator("#other").select_option(label="truth")
    assert tab.inner_text("#left-name") == "truth"
    name = tab.inner_text("#name")
    tab.locator("#next").focus()
    tab.keyboard.press("Enter")
    assert tab.inner_text("#name") != name
    tab.locator("#worst button").first.focus()
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "split"
    assert tab.locator("#before").evaluate("e => e.complete && e.naturalWidth") == 64


def test_all_runs_stand_beside_each_other_and_sort(browser: Any, page_file: Path) -> None:
    tab = opened(browser, page_file)
    heads = tab.locator("#beside thead th")
    assert [text.split()[0] for text in heads.all_inner_texts()] == [
        "picture",
        "input",
        "truth",
        "near",
        "far",
    ]
    assert tab.locator("#beside tbody tr").count() == 12
    assert tab.locator("#beside tbody tr").first.locator("img").count() == 4
    tab.locator("#beside thead button").nth(2).click()  # far
    numbers = [float(text) for text in tab.locator("#beside tbody td:nth-child(5) .soft").all_inner_texts()]
    assert numbers == sorted(numbers) and numbers[0] < numbers[-1]
    assert heads.nth(4).get_attribute("aria-sort") == "ascending"
    tab.locator("#beside thead button").nth(2).click()
    numbers = [float(text) for text in tab.locator("#beside tbody td:nth-child(5) .soft").all_inner_texts()]
    assert numbers == sorted(numbers, reverse=True)
    assert tab.errors == []


def test_a_click_enlarges_without_a_loss(browser: Any, page_file: Path) -> None:
    tab = opened(browser, page_file)
    tab.locator("#beside tbody button").nth(2).click()
    image = tab.locator("#zoom img")
    assert image.get_attribute("src").startswith("data:image/png;base64,")
    native = image.evaluate("e => e.decode().then(() => e.naturalWidth)")
    assert native == Image.open(next((EMOJI / "flat").glob("*.png"))).width
    width = image.evaluate("e => e.getBoundingClientRect().width")
    tab.locator("#larger").click()
    assert image.evaluate("e => e.getBoundingClientRect().width") == 2 * width
    tab.keyboard.press("Escape")
    assert not tab.locator("#zoom").is_visible()


def test_a_printed_page_has_every_picture(browser: Any, page_file: Path) -> None:
    tab = opened(browser, page_file)
    tab.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert tab.locator("img[data-n]").count() == tab.locator("img[data-n][src]").count() > 12


def test_a_phone_and_dark_mode(browser: Any, page_file: Path) -> None:
    phone = opened(browser, page_file, viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 360
    box = phone.locator("#slider").bounding_box()
    assert box["width"] > 300
    phone.locator("#slider").scroll_into_view_if_needed()
    box = phone.locator("#slider").bounding_box()
    phone.touchscreen.tap(box["x"] + box["width"] * 0.8, box["y"] + 50)
    assert float(share(phone).rstrip("%")) > 70
    dark = opened(browser, page_file, color_scheme="dark")
    ground = dark.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, ground.removeprefix("rgb(").rstrip(")").split(","))) < 120


@pytest.mark.alone
def test_500_pictures_open_in_under_3_seconds_and_40_mb(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise, which compresses worse than any picture; measured without the features, which take no part."""
    monkeypatch.chdir(tmp_path)
    random = Random(0)
    for side in ("run", "source"):
        Path(side).mkdir()
        for n in range(MANY):
            noise = Image.frombytes("RGB", (160, 160), random.randbytes(3 * 160 * 160))
            noise.save(f"{side}/{n}.png", compress_level=0)
    ran = ilvrctl("eval", "run", "--source", "source", "--html", "report.html", "--resamples", "100")
    assert ran.code == 0, ran.err
    size = Path("report.html").stat().st_size
    assert 10e6 < size < 40e6
    start = time.perf_counter()
    tab = opened(browser, tmp_path / "report.html")
    assert tab.locator("#after").evaluate("e => e.decode().then(() => e.naturalWidth)") >= 32
    seconds = time.perf_counter() - start
    assert tab.locator("#rows tbody tr").count() == MANY
    assert seconds < 3 * slowness(), seconds
    loaded = tab.evaluate("[...document.querySelectorAll('#rows img')].filter(e => e.src).length")
    assert loaded < 60, "pictures are decoded only near the window"
