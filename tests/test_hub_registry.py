"""Every preset that ships can be asked for, and says what the table of published models says."""

from __future__ import annotations

from pathlib import Path

import pytest

from ilvrctl import paths
from ilvrctl.errors import ConfigError
from ilvrctl.hub.registry import Source, items_of, parse_source
from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.presets import broken_presets, find_model, load_models, load_targets, resolve_model

MODELS = load_models()


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_shipped_preset_is_whole(name: str) -> None:
    model = MODELS[name]
    assert model.title and model.domain and model.licence
    assert model.bundled or model.sources or model.unsupported
    assert all(items for items in items_of(model))
    if model.format == "guided-diffusion" and not model.unsupported and model.sha256 != FEIART:
        flags = HiddenFlags(model.num_heads, model.num_head_channels)
        assert flags.known and model.image_size


FEIART = "85f95f0618f288476ffcec9f48160542ba626f655b3df963543388dcd059f86a"
"""No published configuration tells its heads."""


def test_every_name_and_alias_means_one_model() -> None:
    meanings: dict[str, set[str]] = {}
    for model in MODELS.values():
        for name in (model.name, *model.aliases):
            meanings.setdefault(name.casefold().replace("_", "-"), set()).add(model.name)
    for target in load_targets().values():
        for name in (target.name, *target.aliases):
            meanings.setdefault(name.casefold().replace("_", "-"), set()).add(target.model)
    assert {name: models for name, models in meanings.items() if len(models) > 1} == {}


def test_no_two_models_share_a_file() -> None:
    files = [model.file for model in MODELS.values()]
    assert len(files) == len(set(files))


def test_the_published_flags_of_the_models_that_differ() -> None:
    small = resolve_model("64x64-diffusion")
    assert (small.noise_schedule, small.use_new_attention_order) == ("cosine", True)
    assert resolve_model("adm128").num_heads == 4
    assert resolve_model("watercolor").num_heads == 1 and resolve_model("watercolor").rescale_timesteps


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("https://a.example/x.pt?dl=1", Source("web", "https://a.example/x.pt?dl=1")),
        ("gdrive:1234567890ab", Source("drive", "1234567890ab")),
        ("gdrive:1234567890ab/x.pt", Source("drive", "1234567890ab", "x.pt")),
        ("gdrive-folder:1234567890ab", Source("drive-folder", "1234567890ab", "file.pt")),
        ("gdrive-folder:1234567890ab/a/x.pt", Source("drive-folder", "1234567890ab", "a/x.pt")),
        ("https://drive.google.com/file/d/1234567890ab/view", Source("drive", "1234567890ab")),
        ("https://drive.google.com/uc?export=download&id=1234567890ab", Source("drive", "1234567890ab")),
    ],
)
def test_sources_are_read(text: str, source: Source) -> None:
    assert parse_source(text, "file.pt") == source


@pytest.mark.parametrize("text", ["", "x.pt", "ftp://a.example/x", "gdrive:short", "https://", "file:///x"])
def test_other_sources_are_errors(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_source(text, "file.pt")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("sourcs: []", "unknown key 'sourcs'"),
        ("size: large", "size must be"),
        ("file: a\nfile: b", "given twice"),
    ],
)
def test_a_mistake_in_an_own_preset_is_told_with_its_line(line: str, words: str) -> None:
    path = paths.config_dir() / "models" / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(f"title: mine\n{line}\n")
    with pytest.raises(ConfigError, match=rf"mine\.yaml, line \d.*{words}"):
        find_model("mine")
    assert set(load_models()) == set(MODELS)
    (bad,) = broken_presets()
    assert (bad.kind, bad.name, bad.path) == ("models", "mine", path) and words in bad.error.message


@pytest.mark.parametrize("file", ["../x.pt", "/x.pt", ""])
def test_a_preset_cannot_point_outside_the_weights_folder(file: str) -> None:
    path = paths.config_dir() / "models" / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(f"file: {file!r}\n")
    with pytest.raises(ConfigError, match="inside the weights folder"):
        items_of(load_models()["mine"])


def test_nothing_in_the_hub_prints_or_reads_the_command_line() -> None:
    for path in Path(parse_source.__code__.co_filename).parent.glob("*.py"):
        text = path.read_text()
        assert "print(" not in text and "sys.argv" not in text and "ilvrctl.models" not in text, path
