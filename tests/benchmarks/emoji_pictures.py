"""Training pictures of the bundled model and of its domain classifier: PNG files out of an archive or a folder.

    python tests/benchmarks/emoji_pictures.py train64.npz glossy/ [--array glossy]
    python tests/benchmarks/emoji_pictures.py assets/ glossy/ --style 3D

The first takes an archive with the arrays ``keys`` (code points) and ``glossy`` or ``flat`` (N, 64, 64, 3); the
second the folder ``assets`` of Microsoft's Fluent Emoji (the public repository, or the npm package
fluentui-emoji), whose ``metadata.json`` files tell the code points. Only the characters in
``emoji_characters.txt`` are taken: the others, and those of ``tests/emoji``, are for evaluation.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent


def trained_on() -> set[str]:
    """Code points of the characters that may be trained on."""
    evaluated = {path.stem.partition("_")[0] for path in (HERE.parent / "emoji" / "3d").glob("*.png")}
    return {*(HERE / "emoji_characters.txt").read_text(encoding="utf-8").split()} - evaluated


def from_archive(archive: Path, array: str) -> Iterator[tuple[str, Image.Image]]:
    """Code points and pictures of one array."""
    import numpy as np

    with np.load(archive) as arrays:
        for key, pixels in zip(arrays["keys"], arrays[array], strict=True):
            yield str(key), Image.fromarray(pixels)


def from_assets(folder: Path, style: str) -> Iterator[tuple[str, Image.Image]]:
    """Code points and pictures of every character that has the style, on white, 64 px."""
    for metadata in sorted(folder.rglob("metadata.json")):
        key = json.loads(metadata.read_text(encoding="utf-8"))["unicode"].replace(" ", "-")
        pictures = sorted((metadata.parent / style).glob("*.png"))
        pictures = pictures or sorted((metadata.parent / "Default" / style).glob("*.png"))
        for path in pictures[:1]:
            with Image.open(path) as image:
                drawn = image.convert("RGBA").resize((64, 64), Image.Resampling.LANCZOS)
            square = Image.new("RGB", drawn.size, "white")
            square.paste(drawn, mask=drawn.getchannel("A"))
            yield key, square


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--array", default="glossy", help="of an archive: glossy or flat")
    parser.add_argument("--style", default="3D", help="of a folder: 3D")
    args = parser.parse_args()
    source = (
        from_assets(args.source, args.style)
        if args.source.is_dir()
        else from_archive(args.source, args.array)
    )
    args.out.mkdir(parents=True, exist_ok=True)
    wanted, count = trained_on(), 0
    for key, picture in source:
        if key in wanted:
            picture.save(args.out / f"{key}.png")
            count += 1
    print(f"{count} pictures in {args.out}")


if __name__ == "__main__":
    main()
