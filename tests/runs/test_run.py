"""A run folder: what is one, and what is read of it."""

import json
from pathlib import Path

import pytest
import yaml

from sae_lightning import class_paths
from sae_lightning.members import Member, Tag
from sae_lightning.runs import Run, experiments_of, read_runs
from sae_lightning.runs.run import run_of_sae

LINE = {
    "step": 10,
    "samples": 100,
    "seconds": 2.0,
    "metrics": {"l0": {"trained": {"0": 31.0, "1": 33.0}}, "l0@noise": {"trained": {"0": 3.0}}},
    "floors": {"l0": 0.0},
    "better": {"l0": "lower"},
}


def write_run(folder: Path, *lines: dict, seeds: tuple[int, ...] = (0, 1), **data: object) -> Path:
    folder.mkdir(parents=True)
    if lines:
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    sae = {"class_path": "TopK", "init_args": {"k": 2}}
    model = {"class_path": "SanityPanel", "init_args": {"sae": sae, "policies": None, "seeds": list(seeds)}}
    arguments = {"d_in": 8, "nulls": {"noise": None}} | data
    settings = {"model": model, "data": {"class_path": "SyntheticDataModule", "init_args": arguments}}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder


def add_sae(run: Path, key: str) -> None:
    folder = run / "saes" / key
    folder.mkdir(parents=True)
    (folder / "sae.safetensors").touch()


def test_what_a_run_says_of_itself(tmp_path: Path):
    run = Run(write_run(tmp_path / "experiment/version_3", LINE | {"step": 5}, LINE))
    assert run.title == "experiment/version_3"
    assert (run.seeds, run.sae["class_path"], run.data["init_args"]["d_in"]) == ([0, 1], "TopK", 8)
    assert [line.step for line in run.validations] == [5, 10]
    assert run.measurements.values[Tag("l0")] == {Member("trained", 0): 31.0, Member("trained", 1): 33.0}
    assert run.measurements.better(Tag("l0")) == "lower"
    assert run.measurements.better(Tag("l0", "noise")) is None
    assert run.parts == [""]
    assert run.starts == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("none", "no such folder"),
        ("runs", r"holds no metrics.jsonl.*did you mean .*runs/version_0\?"),
        ("runs/version_0/metrics.jsonl", "is a file"),
    ],
)
def test_anything_but_a_run_is_refused(tmp_path: Path, given: str, expected: str):
    write_run(tmp_path / "runs/version_0", LINE)
    with pytest.raises(ValueError, match=expected):
        Run(tmp_path / given)


@pytest.mark.parametrize("lines", [[], [""]])
def test_a_run_without_a_validation_says_so(tmp_path: Path, lines: list[str]):
    folder = write_run(tmp_path / "run")
    for line in lines:
        (folder / "metrics.jsonl").write_text(line)
    with pytest.raises(ValueError, match="finished (no|a) validation yet"):
        _ = Run(folder).measurements


@pytest.mark.parametrize("text", ["a: [", "just words", "- 1"])
def test_damaged_settings_are_named(tmp_path: Path, text: str):
    folder = write_run(tmp_path / "run", LINE)
    (folder / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match="config.yaml is damaged"):
        _ = Run(folder).settings


def test_saes_stand_by_part_policy_and_seed(tmp_path: Path):
    folder = write_run(tmp_path / "run", LINE)
    for key in ("trained/10", "trained/2", "soft_frozen_decoder/2", "noise/trained/2", "x/y/z/0", "mine"):
        add_sae(folder, key)
    run = Run(folder)
    own = [member for member in run.saes if not member.part]
    assert own == [Member("trained", 2), Member("trained", 10), Member("soft_frozen_decoder", 2)]
    assert Member("trained", 2, "noise") in run.saes
    assert run.first_seeds() == [Member("trained", 2), Member("soft_frozen_decoder", 2)]
    assert run.sae_folder(Member("trained", 2)) == folder / "saes/trained/2"
    with pytest.raises(ValueError, match="has no SAE oracle/0; it has trained/2, trained/10"):
        run.sae_folder(Member("oracle", 0))


def test_a_run_that_has_not_finished_has_no_saes(tmp_path: Path):
    with pytest.raises(ValueError, match="no SAEs in .*saes, which a finished fit leaves"):
        Run(write_run(tmp_path / "run", LINE)).sae_folder(Member("trained", 0))


def test_the_run_of_an_sae_is_the_folder_around_it(tmp_path: Path):
    folder = write_run(tmp_path / "run", LINE)
    add_sae(folder, "early/trained/0")
    found = run_of_sae(folder / "saes/early/trained/0")
    assert found is not None
    assert found.folder == folder
    assert run_of_sae(tmp_path) is None


def test_the_data_of_a_run_come_without_nulls_wherever_their_class_has_moved(tmp_path: Path, monkeypatch):
    sizes = {"n_features": 32, "batch_size": 16, "train_samples": 64, "val_samples": 64}
    folder = write_run(tmp_path / "run", LINE, nulls=None, **sizes)
    config, before = folder / "config.yaml", "sae_lightning.gone.SyntheticDataModule"
    config.write_text(config.read_text().replace("SyntheticDataModule", before))
    with pytest.raises(ValueError, match="data: .*gone"):
        Run(folder).datamodule()
    monkeypatch.setitem(class_paths._MOVED, before, "sae_lightning.datamodules.SyntheticDataModule")
    datamodule = Run(folder).datamodule(val_samples=32, not_an_argument=1)
    assert (datamodule.val_samples, datamodule.null_parts) == (32, ())
    config.write_text("{}")
    with pytest.raises(ValueError, match="required: --data"):
        Run(folder).datamodule()


def line_of(seed: int) -> dict:
    return LINE | {"metrics": {"l0": {"trained": {str(seed): 31.5 + seed}}}}


def test_runs_that_differ_in_seeds_are_one_experiment(tmp_path: Path):
    folders = [write_run(tmp_path / name, line_of(seed), seeds=(seed,)) for name, seed in (("a", 0), ("b", 1))]
    folders.append(write_run(tmp_path / "c", line_of(0), n_features=7))
    first, second = experiments_of(read_runs(folders))
    assert ([run.folder.name for run in first.runs], first.name, second.name) == (["a", "b"], "a+b", "c")
    assert first.values()[Tag("l0")] == {"trained": [31.5, 32.5]}


def test_a_run_given_twice_is_one_run(tmp_path: Path):
    folder = write_run(tmp_path / "run", LINE)
    link = tmp_path / "link"
    link.symlink_to(folder)
    (run,) = read_runs([folder, link, folder / "../run"])
    assert run.given_again == [link, folder / "../run"]
