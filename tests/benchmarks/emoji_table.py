"""The whole table of quality from the weights that ship, in one command: translation between flat and 3D emoji.

    python tests/benchmarks/emoji_table.py WORK                            all rows; the same command goes on
    python tests/benchmarks/emoji_table.py WORK --only '^(default|ilvr)'   rows whose name fits, and the input
    python tests/benchmarks/emoji_table.py WORK --shard 2/4                makes every fourth picture, measures nothing
    python tests/benchmarks/emoji_table.py WORK --characters train --pictures train64.npz --number 200
    python tests/benchmarks/emoji_table.py WORK --only '^N=2' --row 'N=2, late: {N: 2, range: [1.0, 0.02], steps: 20}'

Rows: the input itself, the target's default, `--as-published` where that is another, every method with 10 and 20 calls
of the network a picture (the most steps that need no more), and unconditional samples; flat to 3D, and where the target
`emoji-flat` is here also 3D to flat, with the methods of two models. `--to` names other targets, for instance presets
of one's own, and `--row` other rows, as jobs of `ilvrctl batch` write them.

`shown` are the 65 characters of tests/emoji. `train` are pictures of both styles out of `--pictures`, an archive with
`keys`, `flat` and `glossy`, or a folder with the folders `flat` and `3d`, whose files begin with the code points; shown
characters are left out, and `--number` takes so many, the same ones each time. Settings are searched with these alone.

PSNR and SSIM are means with bootstrap intervals, characters drawn with replacement; KID x1000 is that of EfficientNet-
Lite0's features with the jackknife over characters (a bootstrap draws a character twice, which KID's unbiased estimate
cannot have). Pictures are kept in WORK by the digest of the weights; what was made by other settings is made again.
It writes table.md, sheet.png, and for each target quality-TARGET.yaml, the `quality:` of its preset.
"""

from __future__ import annotations

import argparse
import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml
from emoji_pictures import from_archive
from PIL import Image

import ilvrctl
from ilvrctl.errors import IlvrctlError, UsageError
from ilvrctl.evaluation.result import RunResult
from ilvrctl.images.io import save_picture
from ilvrctl.images.sheets import SheetRow, contact_sheet
from ilvrctl.metrics.intervals import Estimate
from ilvrctl.plans.asked import asked_by_values
from ilvrctl.plans.digest import weights_sha256
from ilvrctl.plans.find_networks import FoundNetworks, NetworksAsked, find_networks
from ilvrctl.plans.plan import schedule_of
from ilvrctl.presets import ModelPreset, load_targets
from ilvrctl.yaml_core import dump_yaml

SHOWN = Path(__file__).parents[1] / "emoji"
METHODS = ("ilvr", "sddm", "egsde", "sddm+egsde", "sdedit")
TWO_MODELS = ("cyclediffusion", "ddib")
CALLS = (10, 20)
SAMPLES, SAMPLE_STEPS = 64, 100
Row = dict[str, Any]


@dataclass(frozen=True)
class Direction:
    """A target, the folders of inputs and truth, and the target of the inputs' own kind, if there is one."""

    to: str
    source: str
    truth: str
    back: str | None = None

    @property
    def model(self) -> ModelPreset:
        return find_networks(NetworksAsked(to=self.to)).target.model

    @property
    def digests(self) -> list[str]:
        return [weights_sha256(part.path()) for part in self.model.parts]


def code_point(name: str) -> str:
    return name.partition("_")[0].lower()


def styles_of(folder: Path) -> Iterator[tuple[str, str, Image.Image]]:
    """Style, code point and picture of everything in an archive, or in the folders flat and 3d."""
    if folder.is_file():
        for style, array in (("flat", "flat"), ("3d", "glossy")):
            yield from ((style, key.lower(), image) for key, image in from_archive(folder, array))
        return
    for style in ("flat", "3d"):
        for path in sorted((folder / style).glob("*.png")):
            with Image.open(path) as image:
                yield style, code_point(path.stem), image.convert("RGB")


def put_pictures(work: Path, source: Path, number: int | None, *, without: set[str]) -> int:
    """The characters that both styles have, as work/flat/CODE.png and work/3d/CODE.png; how many."""
    pictures: dict[str, dict[str, Image.Image]] = {"flat": {}, "3d": {}}
    for style, key, image in styles_of(source):
        pictures[style][key] = image
    both = sorted((pictures["flat"].keys() & pictures["3d"].keys()) - without)
    chosen = sorted(sorted(both, key=lambda key: sha256(key.encode()).hexdigest())[:number])
    for style, images in pictures.items():
        (work / style).mkdir(parents=True, exist_ok=True)
        for old in (work / style).glob("*.png"):
            if old.stem not in chosen:
                old.unlink()
        for key in chosen:
            if not (work / style / f"{key}.png").exists():
                images[key].save(work / style / f"{key}.png")
    if not chosen:
        raise SystemExit(f"no character of {source} has both styles")
    return len(chosen)


def directions(named: list[str] | None) -> list[Direction]:
    """Flat to 3D and back; the targets that are named are all 3D."""
    if named:
        return [Direction(to, "flat", "3d") for to in named]
    flat = load_targets().get("emoji-flat")
    if flat is None:
        return [Direction("emoji3d", "flat", "3d")]
    return [
        Direction("emoji3d", "flat", "3d", "emoji-flat"),
        Direction("emoji-flat", "3d", "flat", "emoji3d"),
    ]


def rows_of(way: Direction) -> Iterator[tuple[str, Row, int | None]]:
    """Name, what a job says, and the calls of the network that it may use."""
    yield "default", {}, None
    if (target := load_targets().get(way.to)) is None or target.published:  # else it is the same as no method
        yield "--as-published", {"as_published": True}, None
    for calls in CALLS:
        for method in METHODS:
            yield f"{method}, {calls} calls", {"method": method}, calls
        for method in TWO_MODELS if way.back else ():
            yield f"{method}, {calls} calls", {"method": method, "from": way.back}, calls


def calls_of(networks: FoundNetworks, row: Row) -> int:
    """Network calls of a picture. UsageError or WeightsError for a row that cannot be made."""
    values = {key: value for key, value in row.items() if key != "from"}
    [variant] = asked_by_values("translate", values).variants(networks)
    variant.settings.method.weights()
    model = networks.target.model
    variant.settings.check(schedule_of(model), model.image_size or 64)
    return variant.settings.network_calls(schedule_of(model))


def with_calls(networks: FoundNetworks, row: Row, calls: int | None) -> tuple[Row, int]:
    """The row with the most steps that need no more calls, and how many it needs."""
    if calls is None:
        return row, calls_of(networks, row)

    def too_many(steps: int) -> bool:
        try:
            return calls_of(networks, {**row, "steps": steps}) > calls
        except UsageError:  # so few steps that none is conditioned
            return False

    steps = bisect_left(range(1, 4 * calls + 1), x=True, key=too_many)
    if steps == 0:
        raise UsageError(f"no number of steps needs {calls} calls or fewer")
    chosen = {**row, "steps": steps}
    return chosen, calls_of(networks, chosen)


def make(work: Path, folder: Path, way: Direction, row: Row, shard: tuple[int, int]) -> None:
    """The pictures of a row, those that are missing."""
    job = {"name": "row", "folder": ".", "inputs": str((work / way.source).resolve()), "to": way.to, **row}
    results = ilvrctl.batch({"jobs": [job]}, out=folder, overwrite=True, retry_failed=True, shard=shard)
    for result in results:
        if result.error is not None:
            raise result.error


def samples(folder: Path, way: Direction) -> None:
    """Unconditional samples, if they are not there."""
    names = [folder / f"sample-{n:03}.png" for n in range(SAMPLES)]
    if all(path.is_file() for path in names):
        return
    folder.mkdir(parents=True, exist_ok=True)
    with ilvrctl.load(way.to) as model:
        for path, image in zip(names, model.sample(SAMPLES, steps=SAMPLE_STEPS), strict=True):
            image.save(path)


def figure(found: RunResult, key: str, scale: float = 1.0) -> list[float] | None:
    estimate: Estimate | None = found.metrics.get(key)
    if estimate is None:
        return None
    ends = (estimate.value if end is None else end for end in (estimate.value, estimate.low, estimate.high))
    return [round(scale * end, 4) for end in ends]


def measured(name: str, calls: int, found: RunResult, extractor: str, *, paired: bool) -> Row:
    """A row of the `quality:` of a preset."""
    kid = "kid" if extractor == "inception" else f"kid_{extractor.replace('-', '_')}"
    keys = {"psnr": ("psnr_truth", 1.0), "ssim": ("ssim_truth", 1.0)} if paired else {}
    figures = {k: figure(found, *how) for k, how in {**keys, "kid": (kid, 1000.0)}.items()}
    return {"name": name, "calls": calls, **{k: v for k, v in figures.items() if v is not None}}


def markdown(title: str, rows: list[Row]) -> Iterator[str]:
    """The table for RESULTS.md."""
    yield f"| {title} | calls | PSNR | SSIM | KID |"
    yield "|---|---|---|---|---|"
    for row in rows:
        cells = []
        for key, digits in (("psnr", 2), ("ssim", 3), ("kid", 0)):
            texts = [f"{x:.{digits}f}" for x in row.get(key, ())]
            cells.append(f"{texts[0]} [{texts[1]}, {texts[2]}]" if texts else "-")
        yield f"| {row['name']} | {row['calls']} | {' | '.join(cells)} |"


def sheet(path: Path, columns: Mapping[str, Path], most: int = 16) -> None:
    """Characters evenly out of all, a column a row of the table."""
    names = sorted(file.name for file in next(iter(columns.values())).glob("*.png"))
    names = names[:: max(1, -(-len(names) // most))]
    rows = []
    for name in names:
        images = []
        for folder in columns.values():
            with Image.open(folder / name) as image:
                images.append(image.convert("RGB"))
        rows.append(SheetRow(name.removesuffix(".png"), tuple(images)))
    save_picture(contact_sheet(rows, list(columns), "seed 0", cell=96), path)


def made(args: argparse.Namespace, way: Direction, kept: Path) -> dict[str, tuple[int, Path]]:
    """Makes the rows of a direction that are asked for: their calls and their folders."""
    found: dict[str, tuple[int, Path]] = {}
    extra = [(name, row, None) for text in args.row for name, row in yaml.safe_load(text).items()]
    for name, row, calls in (*rows_of(way), *extra):
        if not re.search(args.only, name):
            continue
        try:
            networks = find_networks(NetworksAsked(to=way.to, from_=row.get("from")))
            row, needed = with_calls(networks, row, calls)
            folder = kept / re.sub(r"[^\w.=-]+", "_", name)
            make(args.work, folder, way, row, args.shard)
        except IlvrctlError as error:
            print(f"{way.to}: {name} is left out: {error.message}", flush=True)
            continue
        print(f"{way.to}: {name} is made, {needed} calls", flush=True)
        found[name] = needed, folder
    return found


def measure(args: argparse.Namespace, way: Direction, n: int, kept: Path) -> list[str]:
    """The table of a direction as Markdown; its sheet and its `quality:` are written."""
    rows = made(args, way, kept)
    unconditional = bool(re.search(args.only, "unconditional")) and args.shard == (1, 1)
    if unconditional:
        samples(kept / "unconditional", way)
    if args.shard != (1, 1):
        return []
    source, truth = args.work / way.source, args.work / way.truth
    folders = [source, *(folder for _, folder in rows.values())]
    how: dict[str, Any] = {"extractor": args.extractor}
    runs = ilvrctl.evaluate(*folders, source=source, truth=truth, **how).runs
    named = [("the input itself", 0), *((name, calls) for name, (calls, _) in rows.items())]
    table = [measured(*one, run, args.extractor, paired=True) for one, run in zip(named, runs, strict=True)]
    if unconditional:
        [run] = ilvrctl.evaluate(kept / "unconditional", against=truth, **how).runs
        table.append(
            measured(f"{SAMPLES} unconditional samples", SAMPLE_STEPS, run, args.extractor, paired=False)
        )
    columns = {"input": source, "truth": truth, **{name: folder for name, (_, folder) in rows.items()}}
    sheet(args.work / f"sheet-{way.to}.png", columns)
    what = (
        f"{n} {'shown' if args.characters == 'shown' else 'training'} characters, {way.source} to {way.truth}"
    )
    command = f"python tests/benchmarks/emoji_table.py WORK --characters {args.characters}"
    quality = {"set": what, "n": n, "weights": way.digests, "command": command, "features": args.extractor}
    text = dump_yaml({"quality": {**quality, "rows": table}})
    (args.work / f"quality-{way.to}.yaml").write_text(text, encoding="utf-8")
    return [*markdown(f"{way.to}, {what}", table), ""]


def shard_of(text: str) -> tuple[int, int]:
    part, count = map(int, text.split("/"))
    return part, count


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--only", default="", metavar="REGEX", help="only the rows whose name it is found in")
    parser.add_argument("--row", action="append", default=[], metavar="YAML", help="another row")
    parser.add_argument("--to", action="append", metavar="TARGET", help="other targets, from flat emoji")
    parser.add_argument("--characters", choices=("shown", "train"), default="shown")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER|NPZ", help="where those for train are")
    parser.add_argument("--number", type=int, help="so many characters")
    parser.add_argument("--shard", type=shard_of, default=(1, 1), metavar="I/N")
    parser.add_argument("--extractor", default="efficientnet-lite0")
    args = parser.parse_args(words)
    if (args.characters == "train") != (args.pictures is not None):
        parser.error("--characters train and --pictures go together")
    return args


def main(words: list[str] | None = None) -> None:
    args = arguments(words)
    args.work = args.work / args.characters
    shown = {code_point(path.stem) for path in (SHOWN / "3d").glob("*.png")}
    without = shown if args.characters == "train" else set[str]()
    n = put_pictures(args.work, args.pictures or SHOWN, args.number, without=without)
    lines = []
    for way in directions(args.to):
        key = sha256("".join(way.digests).encode()).hexdigest()[:12]
        lines += measure(args, way, n, args.work / f"{way.to}-{key}")
    if lines:
        (args.work / "table.md").write_text("\n".join(lines), encoding="utf-8")
        print("\n".join(lines))


if __name__ == "__main__":
    main()
