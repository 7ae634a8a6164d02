"""The files for published SAEs: each says what it has to say, and runs on stand-ins of its format and architecture."""

import json
from pathlib import Path

import pytest
import yaml
from checking.standins import D_SAE, stand_in

from sae_lightning.checking.configuration import CONTROLS, QUICK
from sae_lightning.cli import main
from sae_lightning.formats.hub import address_of

FILES = sorted((Path(__file__).parents[2] / "configs/check").glob("*.yaml"))
each_file = pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])


def test_there_is_a_file_for_each_suite_that_is_asked_about():
    suites = ("gemma_scope_2_270m", "gemma_scope_2_1b", "gemma_scope_2b", "llama_scope_8b", "saebench_gemma_2_2b")
    suites += ("saebench_pythia_160m", "sae_snapshot_panels", "qwen_scope")
    assert len(FILES) == len(suites)
    for suite in suites:
        assert [file for file in FILES if file.stem.startswith(suite)], suite


@each_file
def test_it_says_what_it_needs_what_is_stated_and_what_is_not_verified(file):
    text = file.read_text()
    header = text.split("\nname:")[0]
    assert f"# Run:          sae check --config configs/check/{file.name}" in header
    for word in ("Needs", "Hardware", "Stated", "Filled in", "Not verified"):
        assert f"\n# {word}:" in header, word
    assert all(line.startswith("#") for line in header.splitlines())
    settings = yaml.safe_load(text)
    assert settings["name"] == file.stem
    for where in settings["model"]["init_args"]["references"].values():
        assert address_of(where) is not None, where


@each_file
def test_it_has_the_controls_of_a_check_and_the_settings_of_the_others(file):
    settings, first = yaml.safe_load(file.read_text()), yaml.safe_load(FILES[0].read_text())
    assert settings["model"]["init_args"]["controls"] == CONTROLS
    for name in ("draws", "control_samples", "policies"):
        assert settings["model"]["init_args"][name] == first["model"]["init_args"][name]
    for name in ("text", "context_length", "val_samples", "loss_samples"):
        assert settings["data"]["init_args"][name] == first["data"]["init_args"][name]
    assert settings["trainer"] == {"callbacks": QUICK}


@each_file
def test_it_parses(file, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["validate", f"--config={file}", "--print_config"])
    assert not stop.value.code
    assert f"name: {file.stem}" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:.* is withheld:UserWarning")  # a random model loses nothing by an ablation
@each_file
def test_it_runs_on_stand_ins(file, tmp_path, capsys):
    settings = stand_in(yaml.safe_load(file.read_text()), tmp_path)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    main(["validate", f"--config={tmp_path / 'config.yaml'}"])
    (metrics,) = tmp_path.rglob("metrics.jsonl")
    line = json.loads(metrics.read_text().splitlines()[-1])
    names = settings["model"]["init_args"]["references"]
    assert set(line["references"]) == set(names)
    for name in names:
        assert 0 < line["metrics"]["l0"][name]["0"] < D_SAE
        assert line["metrics"]["explained_variance"][name]["0"] is not None
        own = [one for one in line["controls"] if one.startswith(f"{name}_") or len(names) == 1]
        assert len(own) == len(settings["model"]["init_args"]["controls"])
