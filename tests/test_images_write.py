"""Writing: all or nothing, in the format that the name asks for, with nothing in it that nobody asked for."""

from __future__ import annotations

import errno
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageFilter, ImageStat

from ilvrctl.errors import OutputError, UsageError
from ilvrctl.images.io import PICTURE_SUFFIXES, encode_picture, open_picture, save_gif, save_picture


def shades(side: int = 48) -> Image.Image:
    """Smooth shades in three channels, far more than 256 colours."""
    ramp = Image.linear_gradient("L").resize((side, side))
    return Image.merge("RGB", (Image.radial_gradient("L").resize((side, side)), ramp, ramp.rotate(90)))


def distance(a: Image.Image, b: Image.Image) -> float:
    """Root mean square difference of a channel value."""
    return max(ImageStat.Stat(ImageChops.difference(a.convert("RGB"), b.convert("RGB"))).rms)


@pytest.mark.parametrize("suffix", sorted(PICTURE_SUFFIXES | {".PNG", ".JPG"}))
def test_the_extension_decides_the_format(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"out{suffix}"
    save_picture(shades(), path)
    formats = {".jpg": "JPEG", ".tif": "TIFF"}
    with Image.open(path) as stored:
        assert stored.format == formats.get(suffix.lower(), suffix.lstrip(".").upper().replace("JPG", "JPEG"))
    again = open_picture(path.read_bytes(), path.name)
    lossless = suffix.lower() in (".png", ".bmp", ".tif", ".tiff")
    assert distance(again, shades()) <= (0 if lossless else 15)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "1", "CMYK"])
@pytest.mark.parametrize("suffix", sorted(PICTURE_SUFFIXES))
def test_every_mode_can_be_saved_in_every_format(mode: str, suffix: str) -> None:
    source = shades(16).convert(mode)
    again = open_picture(encode_picture(source, suffix), "a")
    assert distance(again, source) < 25


def test_encode_takes_extensions_with_or_without_dot_in_any_case() -> None:
    assert encode_picture(shades(), "png") == encode_picture(shades(), ".PNG") == encode_picture(shades())


def test_the_same_picture_gives_the_same_bytes() -> None:
    for suffix in sorted(PICTURE_SUFFIXES):
        first = encode_picture(shades(), suffix, record='{"a": 1}')
        assert first == encode_picture(shades(), suffix, record='{"a": 1}')


def test_metadata_of_the_picture_is_not_passed_on() -> None:
    image = shades()
    image.info = {
        "icc_profile": b"secret",
        "exif": b"Exif\0\0secret",
        "comment": b"secret",
        "Author": "secret",
    }
    for suffix in sorted(PICTURE_SUFFIXES):
        assert b"secret" not in encode_picture(image, suffix)
    assert "Author" in image.info


def test_quality_trades_size_and_is_checked() -> None:
    for suffix in ("jpg", "webp"):
        assert len(encode_picture(shades(), suffix, quality=30)) < len(encode_picture(shades(), suffix))
        for quality in (0, 101):
            with pytest.raises(UsageError, match="quality must be from 1 to 100"):
                encode_picture(shades(), suffix, quality=quality)


def test_an_unknown_extension_names_the_supported_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        save_picture(shades(), tmp_path / "out.jpgg")
    assert caught.value.message.startswith(".jpgg is not a picture format")
    assert all(suffix in caught.value.message for suffix in PICTURE_SUFFIXES)
    assert caught.value.hint == "did you mean '.jpg'?"
    with pytest.raises(UsageError, match="needs an extension"):
        save_picture(shades(), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_picture_that_the_format_cannot_hold_says_so() -> None:
    with pytest.raises(OutputError, match="20000 x 1 cannot be written as WEBP"):
        encode_picture(Image.new("RGB", (20_000, 1)), "webp")


@pytest.mark.parametrize("failing", ["write_bytes", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failing_save_leaves_no_part_and_an_older_file_untouched(
    failing: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = tmp_path / "old.png", tmp_path / "new.png"
    old.write_bytes(b"older result")

    def fail(path: Path, *_: object) -> None:
        if failing == "write_bytes":
            with path.open("wb") as file:
                file.write(b"half of it")
        raise error

    monkeypatch.setattr(Path, failing, fail)
    expected = OutputError if isinstance(error, OSError) else KeyboardInterrupt
    for path in (old, new):
        with pytest.raises(expected):
            save_picture(shades(), path)
        with pytest.raises(expected):
            save_gif([shades()], path.with_suffix(".gif"))
    monkeypatch.undo()
    assert old.read_bytes() == b"older result"
    assert [file.name for file in tmp_path.iterdir()] == ["old.png"]


def test_saving_replaces_an_older_file_and_an_abandoned_part(tmp_path: Path) -> None:
    (tmp_path / "out.png").write_bytes(b"older result")
    (tmp_path / "out.png.part").write_bytes(b"left by a killed run")
    save_picture(shades(), tmp_path / "out.png")
    assert open_picture((tmp_path / "out.png").read_bytes(), "out.png").tobytes() == shades().tobytes()
    assert not (tmp_path / "out.png.part").exists()


@pytest.mark.parametrize(
    ("code", "reason"),
    [(errno.ENOSPC, "no space left"), (errno.EROFS, "read-only"), (errno.EACCES, "permission denied")],
)
def test_why_it_cannot_be_written_and_what_to_do(
    code: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(code, "as the system says it")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OutputError) as caught:
        save_picture(shades(), tmp_path / "out.png")
    assert caught.value.message.startswith(f"cannot write {tmp_path / 'out.png'}: ")
    assert reason in caught.value.message
    assert caught.value.hint


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    for path, reason in [
        (tmp_path / "no such folder" / "out.png", "its folder does not exist"),
        (tmp_path / "file" / "out.png", "part of its path is a file"),
        (tmp_path / "folder.png", "a folder of that name exists"),
        (tmp_path / ("long" * 100 + ".png"), "the file name is too long"),
    ]:
        with pytest.raises(OutputError, match=reason) as caught:
            save_picture(shades(), path)
        assert caught.value.hint
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder.png"]


def test_a_missing_folder_hints_at_a_command_that_can_be_pasted(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        save_picture(shades(), tmp_path / "my results" / "out.png")
    assert caught.value.hint == f"mkdir -p '{tmp_path / 'my results'}'"


def test_odd_file_names_are_kept(tmp_path: Path) -> None:
    for name in ("photo[1].png", "猫 🐱.png", "two\nlines.png", "-n.png", "a.b.png"):
        save_picture(shades(), tmp_path / name)
        assert (tmp_path / name).is_file()


def frames_of(path: Path) -> tuple[list[Image.Image], list[int], int]:
    """Frames, their durations in milliseconds, and how often they loop (0: for ever)."""
    pictures, durations = [], []
    with Image.open(path) as animation:
        for k in range(animation.n_frames):
            animation.seek(k)
            pictures.append(animation.convert("RGB"))
            durations.append(animation.info["duration"])
        return pictures, durations, animation.info["loop"]


def test_a_gif_shows_its_frames_holds_the_last_and_loops(tmp_path: Path) -> None:
    frames = [shades().point(lambda v, k=k: v * k // 4) for k in (1, 2, 3, 4)]
    save_gif(frames, tmp_path / "steps.gif", duration_ms=80, hold_ms=900)
    pictures, durations, loop = frames_of(tmp_path / "steps.gif")
    assert durations == [80, 80, 80, 900]
    assert loop == 0
    for picture, frame in zip(pictures, frames, strict=True):
        assert distance(picture, frame) < 15
    assert [file.name for file in tmp_path.iterdir()] == ["steps.gif"]


def test_gif_shades_have_no_bands_and_white_stays_white(tmp_path: Path) -> None:
    frame = shades(128)
    frame.paste("white", (0, 0, 128, 40))
    save_gif([frame], tmp_path / "one.gif")
    picture = frames_of_single(tmp_path / "one.gif")
    assert picture.getpixel((5, 5)) == (255, 255, 255)
    soft = ImageFilter.GaussianBlur(2)
    assert distance(picture.filter(soft), frame.filter(soft)) < 3


def frames_of_single(path: Path) -> Image.Image:
    with Image.open(BytesIO(path.read_bytes())) as picture:
        return picture.convert("RGB")


def test_a_gif_of_few_colours_is_exact(tmp_path: Path) -> None:
    frame = Image.new("RGB", (16, 16), (12, 200, 99))
    frame.paste((255, 254, 3), (4, 4, 9, 9))
    save_gif([frame], tmp_path / "flat.gif")
    assert frames_of_single(tmp_path / "flat.gif").tobytes() == frame.tobytes()


def test_what_a_gif_cannot_be_made_of(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"must end in \.gif"):
        save_gif([shades()], tmp_path / "steps.png")
    with pytest.raises(ValueError, match="frames"):
        save_gif([], tmp_path / "steps.gif")
    with pytest.raises(ValueError, match="one size"):
        save_gif([shades(8), shades(9)], tmp_path / "steps.gif")
    assert not list(tmp_path.iterdir())
