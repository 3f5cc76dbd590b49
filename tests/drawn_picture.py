"""Make the picture of the page in the README: ``python tests/drawn_picture.py``."""

from __future__ import annotations

import os
from pathlib import Path

from browser import chromium
from drawing import served

SHOWN = Path(__file__).parents[1] / ".github" / "readme"
STROKES = {
    "#e0245e": [
        [(0.19, 0.24), (0.11, 0.17), (0.11, 0.33), (0.19, 0.24), (0.27, 0.17), (0.27, 0.33), (0.19, 0.24)]
    ],
    "#2f6db0": [[(0.69, 0.55), (0.74, 0.6), (0.79, 0.57), (0.84, 0.6)]],
}
"""By colour; places as parts of the picture's sides."""


def main() -> None:
    """A bow for the panda and a stripe for the egg, and what comes of them."""
    os.chdir(SHOWN)  # the command shows no folders of this machine, and nothing is kept
    with (
        served(Path("photo.png"), {"to": "emoji3d"}, Path("out")) as (_, server),
        chromium() as browser,
    ):
        tab = browser.new_page(viewport={"width": 1280, "height": 760})
        tab.set_default_timeout(600_000)
        tab.goto(server.address)
        tab.wait_for_selector("html[data-ready][data-shown]")
        box = tab.locator("#sheet").bounding_box()
        for colour, lines in STROKES.items():
            tab.locator("#colour").fill(colour)
            for first, *rest in lines:
                tab.mouse.move(box["x"] + first[0] * box["width"], box["y"] + first[1] * box["height"])
                tab.mouse.down()
                for x, y in rest:
                    tab.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=10)
                tab.mouse.up()
        for seed in range(3):
            tab.locator("#seed-number").fill(str(seed))
            tab.wait_for_timeout(1000)
            tab.locator("#run").click()
            tab.wait_for_selector(f"#item-{seed + 1} img[src*=small]")
        tab.wait_for_selector("#stage.after")
        tab.locator("#split").fill("18")
        tab.wait_for_timeout(500)
        tab.screenshot(path=SHOWN / "draw.png")


if __name__ == "__main__":
    main()
