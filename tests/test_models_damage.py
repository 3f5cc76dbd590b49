"""Files that are broken, hostile or changed: weights equal to the sound ones, or one error, soon."""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import random
import re
import socket
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import bomb, random_state_dict, rezipped, with_a_hole, write_random_checkpoint
from commands import slowness
from safetensors.torch import save
from torch import Tensor

from ilvrctl.errors import IlvrctlError, WeightsError
from ilvrctl.models.architecture.unet import AdmArchitecture, HiddenFlags
from ilvrctl.models.files import checkpoint, whole
from ilvrctl.models.files.checkpoint import read_state_dict
from ilvrctl.models.files.contents import contents_of
from ilvrctl.models.files.diffusers_folder import stated_facts
from ilvrctl.models.files.inspection import inspect_file
from ilvrctl.models.files.loading import load_network
from ilvrctl.models.files.pickled import NotPickleError, NotPlainError, read_pickle
from ilvrctl.models.files.verdict import verdict_on
from ilvrctl.presets import ModelPreset

HIDDEN = HiddenFlags(num_heads=1)
TINY = AdmArchitecture(3, 3, 32, (32,), 1, (False,), hidden=HIDDEN)
WEIGHTS = random_state_dict(TINY)
CPU = torch.device("cpu")


def saved(content: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def each(change: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    return {name: change(x) for name, x in WEIGHTS.items()}


def one_number(value: float, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """The weights with one number in the middle of one tensor replaced."""
    changed = {name: x.to(dtype) for name, x in WEIGHTS.items()}
    x = changed["input_blocks.1.0.in_layers.2.weight"].clone()
    x.view(-1)[x.numel() // 2 + 1] = value
    return {**changed, "input_blocks.1.0.in_layers.2.weight": x}


def header_of(change: Callable[[dict[str, Any]], object]) -> bytes:
    """A safetensors file whose header is changed, its data not."""
    content = save(WEIGHTS)
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    changed = change(header)
    text = changed if isinstance(changed, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def moved(name: str, by: int) -> Callable[[dict[str, Any]], object]:
    def change(header: dict[str, Any]) -> None:
        header[name]["data_offsets"] = [offset + by for offset in header[name]["data_offsets"]]

    return change


def doubled(depth: int) -> list[Any]:
    deep: list[Any] = []
    for _ in range(depth):
        deep = [deep, deep]
    return deep


def quantized() -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # later torch calls it deprecated
        return saved(each(lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)))


def _inflated() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", b"\x80\x02(" + b"]" * (64 << 20) + b"l.")
    return packed.getvalue()


def _pickled(*codes: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("bomb/data.pkl", b"\x80\x02" + b"".join(codes) + b".")
    return packed.getvalue()


def _allocates(count: int) -> bytes:
    return _pickled(b"cbuiltins\nbytearray\n", b"\x8a\x08", struct.pack("<q", count), b"\x85R")


def _copies() -> bytes:
    """A text of a megabyte, encoded ten thousand times."""
    text = b"X" + struct.pack("<I", 1 << 20) + bytes([65]) * (1 << 20) + b"q\x000"
    once = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
    return _pickled(text, b"(", once * 10_000, b"l")


FIRST = "time_embed.0.weight"
BROKEN: dict[str, tuple[Callable[[], bytes], str]] = {
    "a record that ends early": (lambda: rezipped(WEIGHTS, lambda d: d[: len(d) // 2]), "bytes where"),
    "a record that is too long": (lambda: rezipped(WEIGHTS, lambda d: d + bytes(64)), "bytes where"),
    "a deflated record that ends early": (
        lambda: rezipped(WEIGHTS, lambda d: d[: len(d) // 2], zipfile.ZIP_DEFLATED),
        "bytes where",
    ),
    "zeros from a bad disk": (lambda: with_a_hole(WEIGHTS), "Bad CRC-32"),
    "an infinite weight": (lambda: saved(one_number(float("inf"))), "NaN or infinite"),
    "a weight that is NaN": (lambda: saved(one_number(float("nan"))), "NaN or infinite"),
    "a half weight that is NaN": (lambda: saved(one_number(float("nan"), torch.float16)), "NaN or infinite"),
    "a bfloat16 weight": (lambda: saved(one_number(float("-inf"), torch.bfloat16)), "NaN or infinite"),
    "a double weight": (lambda: saved(one_number(float("nan"), torch.float64)), "NaN or infinite"),
    "safetensors with NaN": (lambda: save(one_number(float("nan"))), "NaN or infinite"),
    "NaN in the old format": (
        lambda: saved(one_number(float("nan")), _use_new_zipfile_serialization=False),
        "NaN or infinite",
    ),
    "bytes": (lambda: saved(each(lambda x: (x * 50).to(torch.int8))), "int8, not numbers of a usable"),
    "complex numbers": (lambda: saved(each(lambda x: x.to(torch.complex64))), "complex64, not numbers"),
    "quantized": (quantized, "is quantized"),
    "sparse": (lambda: saved(each(lambda x: x.to_sparse())), "is sparse"),
    "on the meta device": (lambda: saved(each(lambda x: x.to("meta"))), "on the meta device"),
    "expanded": (lambda: saved(each(lambda x: torch.zeros(1).expand(x.shape))), "is expanded"),
    "60 doublings": (lambda: bomb({"model": doubled(60)}), "no named tensors"),
    "60 doublings as a key": (lambda: _pickled(b"})" + b"2\x86" * 60 + b"K\x01s"), "as a key"),
    "half a million lists": (lambda: bomb([[] for _ in range(520_000)]), "more than 500,000"),
    "an integer of megabytes": (lambda: bomb({"model": 1 << 20_000_000}), "no named tensors"),
    "one pickle inflated": (_inflated, "larger than that of any network"),
    "a huge allocation": (lambda: _allocates(10**15), "bytes of an unknown kind"),
    "texts copied": (_copies, "more data in it"),
    "a header that lies": (lambda: header_of(lambda h: h[FIRST].update(shape=[1, 2])), "bytes, not the"),
    "overlapping tensors": (lambda: header_of(moved(FIRST, -4)), "overlap or have holes"),
    "tensors outside the file": (lambda: header_of(moved(FIRST, 10**15)), "overlap or have holes"),
    "a negative size": (lambda: header_of(lambda h: h[FIRST].update(shape=[-1, 4])), "impossible shape"),
    "a name twice": (
        lambda: header_of(lambda h: json.dumps(h)[:-1].encode() + b',"' + FIRST.encode() + b'":{}}'),
        "a name is there twice",
    ),
    "deep JSON": (lambda: header_of(lambda h: b'{"a":' * 100_000), "damaged safetensors"),
    "a header of a list": (lambda: header_of(lambda h: b"[1]".ljust(64)), "no checkpoint that is known"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_and_hostile_files_are_refused_by_all_who_read_them(name: str, tmp_path: Path) -> None:
    make, message = BROKEN[name]
    path = tmp_path / "model.pt"
    path.write_bytes(make())
    errors = []
    for act in (load, verdict):
        with pytest.raises(WeightsError) as error:
            act(path)
        errors.append(error.value)
    assert any(re.search(message, error.message) for error in errors), [e.message for e in errors]
    for error in errors:
        assert error.message.startswith(str(path))
        assert "\n" not in error.message
        assert error.hint


def load(path: Path) -> object:
    return load_network(path, HIDDEN, device=CPU)


def verdict(path: Path) -> object:
    """What ``inspect``, ``presets`` and a dry run ask."""
    return verdict_on(path, ModelPreset(image_size=32, num_heads=1)).require()


def test_numbers_that_the_precision_cannot_hold(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(saved(one_number(1e300, torch.float64)))
    with pytest.raises(WeightsError, match="too large for float32"):
        load(path)
    path.write_bytes(saved(one_number(1e5)))
    assert load(path)
    with pytest.raises(WeightsError, match="too large for float16"):
        load_network(path, HIDDEN, device=CPU, dtype=torch.float16)


def test_a_refusal_takes_two_seconds_and_300_mb_at_most(tmp_path: Path) -> None:
    """More than an empty run that has loaded the same modules; each file in a fork, so that they are loaded once."""
    names = ["60 doublings", "half a million lists", "one pickle inflated", "texts copied", "sparse"]
    for name in names:
        (tmp_path / name).write_bytes(BROKEN[name][0]())
    code = """
import os, resource, sys, time
from pathlib import Path
from ilvrctl.errors import WeightsError
from ilvrctl.models.files.inspection import inspect_file
for path in sys.argv[1:]:
    if os.fork() == 0:
        before, start = resource.getrusage(resource.RUSAGE_SELF), time.process_time()
        try:
            inspect_file(Path(path))
        except WeightsError:
            after = resource.getrusage(resource.RUSAGE_SELF)
            print(time.process_time() - start, (after.ru_maxrss - before.ru_maxrss) / 1024, flush=True)
        os._exit(0)
    os.wait()
"""
    words = [sys.executable, "-c", code, *(str(tmp_path / name) for name in names)]
    ran = subprocess.run(words, capture_output=True, text=True, check=True)
    taken = {
        name: [*map(float, line.split())] for name, line in zip(names, ran.stdout.splitlines(), strict=True)
    }
    for name, (seconds, megabytes) in taken.items():
        assert seconds < 2 * slowness(), name
        assert megabytes < 300, name


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such files on this system")
def test_pipes_sockets_and_devices_are_no_files_of_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        for path in (Path("pipe"), Path("socket"), Path("/dev/zero")):
            with pytest.raises(WeightsError, match="a pipe, socket or device"):
                load(path)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_file_that_shrinks_while_it_is_read(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.pt"
    content = (
        save(WEIGHTS)
        if kind == "safetensors"
        else saved(WEIGHTS, _use_new_zipfile_serialization=kind == "zip")
    )
    path.write_bytes(content)
    original = checkpoint.find_network

    def cut(*given: Any) -> Any:
        found = original(*given)
        os.truncate(path, len(content) // 2)
        return found

    monkeypatch.setattr(checkpoint, "find_network", cut)
    with pytest.raises(WeightsError, match="cut off or damaged"):
        read_state_dict(path)


SETTINGS = {"num_train_timesteps": 1000, "beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}
ODD_JSON: dict[str, bytes] = {
    "T is 0": json.dumps({**SETTINGS, "num_train_timesteps": 0}).encode(),
    "T is null": json.dumps({**SETTINGS, "num_train_timesteps": None}).encode(),
    "T is a text": json.dumps({**SETTINGS, "num_train_timesteps": "1000"}).encode(),
    "T is a fraction": json.dumps({**SETTINGS, "num_train_timesteps": 10.5}).encode(),
    "T beyond sense": json.dumps({**SETTINGS, "num_train_timesteps": 10**12}).encode(),
    "a beta as text": json.dumps({**SETTINGS, "beta_end": "0.02"}).encode(),
    "a beta as a list": json.dumps({**SETTINGS, "beta_start": [1e-4]}).encode(),
    "trained betas as text": json.dumps({**SETTINGS, "trained_betas": "all of them"}).encode(),
    "a schedule that is a list": json.dumps({**SETTINGS, "beta_schedule": ["linear"]}).encode(),
    "a prediction that is a dict": json.dumps({**SETTINGS, "prediction_type": {}}).encode(),
    "a learned variance that is no range": json.dumps({**SETTINGS, "variance_type": "learned"}).encode(),
    "NaN": b'{"beta_schedule": "linear", "beta_start": NaN}',
    "a name twice": b'{"beta_schedule": "linear", "beta_schedule": "squaredcos_cap_v2"}',
    "deep": b'{"a":' * 50_000,
    "deep lists": b'{"beta_schedule":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "no JSON": b"\xff\xfe\x00",
    "a list": b"[]",
    "large": b'{"a": "' + bytes([65]) * (2 << 20) + b'"}',
}


@pytest.mark.parametrize("name", ODD_JSON)
def test_odd_settings_of_a_scheduler(name: str, tmp_path: Path) -> None:
    (tmp_path / "diffusion_pytorch_model.bin").write_bytes(b"")
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DModel", "sample_size": 32}')
    (tmp_path / "scheduler_config.json").write_bytes(ODD_JSON[name])
    with pytest.raises(WeightsError) as error:
        stated_facts(tmp_path)
    assert "scheduler_config.json" in error.value.message
    assert "\n" not in error.value.message
    assert error.value.hint


@pytest.mark.parametrize("size", ["32", [32, "x"], 0, -3, {}, 10**9, 1.5])
def test_odd_sizes_in_a_config(size: object, tmp_path: Path) -> None:
    (tmp_path / "diffusion_pytorch_model.bin").write_bytes(b"")
    (tmp_path / "config.json").write_text(json.dumps({"sample_size": size}))
    with pytest.raises(WeightsError, match="sample_size"):
        stated_facts(tmp_path)


def test_finite_numbers_are_told_by_their_bits() -> None:
    generator = torch.Generator().manual_seed(0)
    for name in ("float16", "bfloat16", "float32", "float64"):
        dtype = getattr(torch, name)
        size = torch.finfo(dtype).bits // 8
        words = torch.randint(0, 256, (20_000, 8 * size), dtype=torch.uint8, generator=generator)
        words[::2, size - 1 :: size] = 0x7F  # many near the end of the range
        for word in words:
            expected = bool(torch.isfinite(word.view(dtype)).all())
            assert math.isfinite(checkpoint._bound(word.view(dtype))) == expected


PICKLES = [
    doubled(3),
    {"a": (1, 2.5, None, True, b"x", {"b": {3}})},
    list(range(300)),
    {i: str(i) for i in range(300)},
]


@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_plain_pickles_are_read_as_they_were_written(protocol: int) -> None:
    for content in PICKLES:
        assert read_pickle(io.BytesIO(pickle.dumps(content, protocol))) == content


def changed(content: bytes, choose: random.Random) -> bytes:
    """The file with bytes flipped, overwritten, left out or put in, or its end cut off, up to three times."""
    data = bytearray(content)
    for _ in range(choose.randint(1, 3)):
        at = choose.randrange(len(data))
        length = choose.choice((1, 1, 2, 8, 64))
        what = choose.randrange(6)
        if what == 0:
            data[at] ^= 1 << choose.randrange(8)
        elif what == 1:
            data[at : at + length] = choose.randbytes(length)
        elif what == 2:
            del data[at : at + length]
        elif what == 3:
            data[at:at] = choose.randbytes(length)
        elif what == 4:
            del data[at:]
        else:
            data[at : at + length] = bytes(length)
        data = data or bytearray(b"\0")
    return bytes(data)


def changed_keys(choose: random.Random) -> object:
    """What ``torch.save`` might have got instead: names changed, lost, doubled, of other shapes, wrapped."""
    weights: dict[Any, Any] = dict(WEIGHTS)
    for _ in range(choose.randint(1, 3)):
        name = choose.choice(list(weights))
        what = choose.randrange(6)
        if what == 0:
            del weights[name]
        elif what == 1:
            weights[choose.choice(("", "x.", "ema.", "module.")) + str(name)[:: choose.choice((1, -1))]] = (
                weights.pop(name)
            )
        elif what == 2:
            weights[name] = torch.zeros(choose.choice(((), (0,), (3,), (2, 2, 2, 2, 2))))
        elif what == 3:
            weights[name] = choose.choice((None, 3, "text", [1, 2], {"a": 1}))
        elif what == 4:
            weights = {choose.choice(("model", "ema", "0", "state")): weights, "step": 4}
        else:
            weights[choose.choice((4, None, "step", "n_averaged"))] = torch.tensor(5)
    return weights


def in_one_way_or_another(path: Path) -> None:
    """Weights equal to the sound ones, or one error of exit code 3."""
    try:
        inspect_file(path)
        network = load_network(path, HIDDEN, device=CPU)
    except IlvrctlError as error:
        assert error.exit_code == 3, error.message
        assert "\n" not in error.message
    else:
        found = dict(network.named_parameters())
        assert found.keys() == WEIGHTS.keys()
        assert all(torch.equal(found[name], WEIGHTS[name]) for name in WEIGHTS)


@pytest.mark.parametrize("count", [60, pytest.param(250, marks=pytest.mark.slow)])
def test_changed_archives(count: int, tmp_path: Path) -> None:
    """The sums of a zip tell every change of a number; those of its list of tensors are checked too."""
    content, choose, path = saved(WEIGHTS), random.Random(count), tmp_path / "model.pt"
    for i in range(count):
        path.write_bytes(saved(changed_keys(choose)) if i % 3 == 0 else changed(content, choose))
        in_one_way_or_another(path)


@pytest.mark.parametrize("kind", ["legacy", "safetensors"])
@pytest.mark.parametrize("count", [40, pytest.param(250, marks=pytest.mark.slow)])
def test_changed_files_without_sums(count: int, kind: str, tmp_path: Path) -> None:
    """A changed number cannot be seen there; all else is an error."""
    content = save(WEIGHTS) if kind == "safetensors" else saved(WEIGHTS, _use_new_zipfile_serialization=False)
    choose, path = random.Random(count), tmp_path / "model.pt"
    for _ in range(count):
        path.write_bytes(changed(content, choose))
        try:
            found = dict(load_network(path, HIDDEN, device=CPU).named_parameters())
        except IlvrctlError as error:
            assert error.exit_code == 3, error.message
            assert "\n" not in error.message
        else:
            assert {n: x.shape for n, x in found.items()} == {n: x.shape for n, x in WEIGHTS.items()}
            assert all(torch.isfinite(x).all() for x in found.values())


@pytest.mark.parametrize("count", [200, pytest.param(2500, marks=pytest.mark.slow)])
def test_changed_pickles(count: int) -> None:
    """Whatever the bytes are, reading them ends, in data or in one of the two errors."""
    choose = random.Random(count)
    with zipfile.ZipFile(io.BytesIO(saved({"model": WEIGHTS, "args": {"lr": 1.0}}))) as archive:
        content = next(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))
    for _ in range(count):
        try:
            read_pickle(io.BytesIO(changed(content, choose)))
        except (NotPickleError, NotPlainError) as error:
            assert str(error)


def test_a_sound_file_is_read_once_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ilvrctl.models.files import inspection

    path = write_random_checkpoint(tmp_path / "w.pt", TINY)
    info = contents_of(path)
    monkeypatch.setattr(inspection, "inspect_file", None)
    assert contents_of(path) == info
    assert contents_of(path, numbers=False) == info
    monkeypatch.undo()
    path.write_bytes(with_a_hole(WEIGHTS))
    with pytest.raises(WeightsError, match="CRC"):
        contents_of(path)
    assert contents_of(path, numbers=False).parameters == info.parameters
    with pytest.raises(WeightsError, match="CRC"):
        contents_of(path)


def test_the_sums_of_a_large_file_are_made_once_and_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole, "_REMEMBERED", 0)
    path = tmp_path / "w.pt"
    summed = []

    def crc32(data: memoryview) -> int:
        summed.append(len(data))
        return zlib.crc32(data)

    monkeypatch.setattr("ilvrctl.models.files.numbers.crc32", crc32)
    path.write_bytes(saved(WEIGHTS))
    read_state_dict(path, only=list(WEIGHTS)[:3])  # a part tells nothing of the rest
    assert len(summed) == 3
    read_state_dict(path)
    assert len(summed) == 3 + len(WEIGHTS)
    read_state_dict(path)
    checkpoint.check_numbers_of(path)
    assert len(summed) == 3 + len(WEIGHTS)
    path.write_bytes(with_a_hole(WEIGHTS))
    for read in (read_state_dict, checkpoint.check_numbers_of):
        with pytest.raises(WeightsError, match="Bad CRC-32"):
            read(path)


@pytest.mark.parametrize(
    ("number", "finite"), [(3e38, True), (math.inf, False), (-math.inf, False), (math.nan, False)]
)
def test_large_numbers_are_not_infinite(number: float, finite: bool) -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x = torch.full((3, 5), number, dtype=dtype)
        assert math.isfinite(checkpoint._bound(x)) == finite
        assert math.isfinite(checkpoint._bound(torch.tensor([1.0, number, -number], dtype=dtype))) == finite
    if finite:
        assert checkpoint._bound(x) >= x.abs().max()


@pytest.mark.parametrize(
    ("number", "fits"), [(65504.0, True), (65519.0, True), (65520.0, False), (-1e30, False)]
)
def test_a_number_too_large_for_half_precision_is_told(number: float, fits: bool, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    first = next(iter(WEIGHTS))
    weights = {**WEIGHTS, first: WEIGHTS[first].clone()}
    weights[first].view(-1)[-1] = number
    path.write_bytes(saved(weights))
    assert read_state_dict(path, dtype=torch.bfloat16)[first].isfinite().all()
    if fits:
        assert read_state_dict(path, dtype=torch.float16)[first].isfinite().all()
    else:
        with pytest.raises(WeightsError, match="too large for float16"):
            read_state_dict(path, dtype=torch.float16)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_plainly_whole_is_finite(dtype: torch.dtype, number: float, tmp_path: Path) -> None:
    weights = {name: x.to(dtype) for name, x in WEIGHTS.items()}
    for kind, save_as in (("pt", saved), ("safetensors", save)):
        path = tmp_path / f"w.{kind}"
        path.write_bytes(save_as(weights))
        assert whole.plainly_whole(path)
        for at in (0, -1):
            broken = {name: x.clone() for name, x in weights.items()}
            next(iter(broken.values())).view(-1)[at] = number
            path.write_bytes(save_as(broken))
            assert not whole.plainly_whole(path)
            with pytest.raises(WeightsError, match="NaN or infinite"):
                contents_of(path)


def test_huge_weights_are_finite_though_not_plainly(tmp_path: Path) -> None:
    path, weights = tmp_path / "w.pt", {name: x.clone() for name, x in WEIGHTS.items()}
    next(iter(weights.values())).view(-1)[0] = torch.finfo(torch.float32).max
    path.write_bytes(saved(weights))
    assert not whole.plainly_whole(path)
    assert contents_of(path).readable
