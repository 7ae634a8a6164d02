"""The folder of a check: which one is free, which is begun, measured or finished, and what is refused."""

import json
import os

import pytest
import yaml

from sae_lightning.checking.folder import CheckFolder, folder_name

PANEL = {"references": {"published": "a"}, "controls": {"random": {}}, "policies": {"trained": {}}, "seeds": [0, 1]}
OPTIONS = {"draws": 3, "sae": ["a"]}


def test_a_folder_stays_where_there_is_something_in_it(tmp_path):
    for name in ("logs/check/version_0", "logs/check/version_1", "others/check/version_0"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "logs/check/version_0/check.yaml").touch()
    for name in ("logs/check/version_0", "logs/check/version_1", "logs/check/version_2", "others/check/version_0"):
        CheckFolder(tmp_path / name).remove_if_empty()
    left = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")]
    assert left == ["logs", "logs/check", "logs/check/version_0", "logs/check/version_0/check.yaml"]


def test_a_check_that_was_begun_goes_on_with_the_same_options_alone(tmp_path):
    folder = CheckFolder(tmp_path / "run")
    assert folder.begun_with(OPTIONS) is None
    content = {"model": {"init_args": PANEL}}
    path = folder.begin("# a head\n" + yaml.safe_dump(content), OPTIONS)
    assert path.read_text().startswith("# a head\n# Options: {")
    assert folder.begun_with(OPTIONS) == content
    with pytest.raises(ValueError, match="holds a check with draws=3, and this one has draws=2: give the options"):
        folder.begun_with(OPTIONS | {"draws": 2})
    with pytest.raises(ValueError, match="holds a check with key=None, and this one has key=x"):
        folder.begun_with(OPTIONS | {"key": "x"})
    (folder.path / "check.json").write_text("{}")
    with pytest.raises(ValueError, match="holds a finished check, which is not overwritten"):
        folder.begun_with(OPTIONS)


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl"])
def test_the_folder_of_another_run_is_refused(name, tmp_path):
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match="holds a run that is no check: give another --out"):
        CheckFolder(tmp_path).begun_with(OPTIONS)


def test_beginning_forgets_what_measured_nothing(tmp_path):
    for name in ("config.yaml", "starts.jsonl", "notes.txt"):
        (tmp_path / name).touch()
    CheckFolder(tmp_path).begin("# a head\n{}", OPTIONS)
    assert {path.name for path in tmp_path.iterdir()} == {"check.yaml", "notes.txt"}
    assert json.loads((tmp_path / "check.yaml").read_text().splitlines()[1].partition(": ")[2]) == OPTIONS


@pytest.mark.parametrize(
    ("references", "saes"),
    [
        (("published",), ("published/0", "random/0", "trained/0", "trained/1")),
        (("a", "b"), ("a/0", "b/0", "a_random/0", "b_random/0", "trained/0", "trained/1")),
    ],
)
def test_it_is_measured_when_every_sae_has_been_written(references, saes, tmp_path):
    folder, panel = CheckFolder(tmp_path), PANEL | {"references": dict.fromkeys(references, "")}
    for name in saes:
        assert not folder.is_measured(panel), name
        (tmp_path / "saes" / name).mkdir(parents=True)
        (tmp_path / "saes" / name / "sae.json").touch()
    assert not folder.is_measured(panel)
    (tmp_path / "metrics.jsonl").touch()
    assert folder.is_measured(panel)


def test_the_newest_checkpoint_is_taken(tmp_path):
    folder = CheckFolder(tmp_path)
    assert folder.checkpoint is None
    (tmp_path / "checkpoints").mkdir()
    for age, name in ((10, "last.ckpt"), (20, "interrupted.ckpt"), (5, "other.ckpt")):
        path = tmp_path / "checkpoints" / name
        path.touch()
        os.utime(path, (1_000_000_000 - age,) * 2)
    assert folder.checkpoint == tmp_path / "checkpoints/last.ckpt"


def test_a_configuration_is_placed_here(tmp_path):
    settings = {"name": "check", "trainer": {"callbacks": [], "logger": None}}
    placed = CheckFolder(tmp_path / "check/mine").placed(settings)
    assert placed["trainer"]["logger"]["init_args"] == {"save_dir": str(tmp_path), "name": "check", "version": "mine"}
    assert placed["trainer"]["callbacks"] == []
    assert settings["trainer"]["logger"] is None, "the given ones are not changed"


@pytest.mark.parametrize(("text", "name"), [("hf://a/b-c", "hf_a_b_c"), ("..", "sae"), ("gemma scope", "gemma_scope")])
def test_a_name_becomes_a_folder(text, name):
    assert folder_name(text) == name
