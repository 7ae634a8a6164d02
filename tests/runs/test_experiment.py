"""The same SAE counts once, under whatever path and in whatever run."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from runs.folders import changed, lone, panel, prints_of, values, write

from sae_lightning.members import Member, Tag
from sae_lightning.runs import Run, experiments_of, read_runs
from sae_lightning.saes import TopK
from sae_lightning.verdict import decide, experiment_texts

EV, F1 = Tag("ev"), Tag("f1")


def only(*folders: Path):
    (experiment,) = experiments_of(read_runs(folders))
    return experiment


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return write(tmp_path / "a/version_0", panel(), {"ev": values(0, 1)}, prints_of(0, 1))


def test_a_folder_given_twice_counts_once_and_says_so(first: Path, tmp_path: Path):
    link = tmp_path / "link"
    link.symlink_to(first)
    experiment = only(first, first, link)
    assert experiment.values()[EV]["trained"] == [0.7, 0.71]
    assert list(experiment.notes) == [
        f"{first} is the folder {first} again, which counts once",
        f"{link} is the folder {first} again, which counts once",
    ]
    assert f"{link} is the folder {first} again, which counts once" in " ".join(
        "\n".join(experiment_texts([experiment])).split()
    )


def test_a_copy_counts_once(first: Path, tmp_path: Path):
    copy = Path(shutil.copytree(first, tmp_path / "copy"))
    experiment = only(first, copy)
    assert [comparison.n_seeds for comparison in decide(experiment.measurements)] == [2]
    said = f"{Run(copy).title} has the same SAEs as {Run(first).title}, which count once; it adds no metric"
    assert list(experiment.notes) == [said]


def test_a_validation_adds_its_metrics_to_the_run_that_it_measured(first: Path, tmp_path: Path):
    """Whichever is given first; the later measurement counts where they differ."""
    settings = changed(panel(), "ckpt_path", "a/version_0/checkpoints/last.ckpt")
    settings["trainer"]["limit_test_batches"] = 3
    again = {"ev": values(0, 1, trained=0.75), "f1": values(0, 1, trained=0.5, decoder=0.4)}
    items = {"step": 0, "samples": 160}
    validated = write(tmp_path / "b", settings, again, prints_of(0, 1), "validate", "2026-01-02", **items)
    for folders in ((first, validated), (validated, first)):
        experiment = only(*folders)
        (run,) = experiment.runs
        assert run.folder == first
        assert (run.last.step, run.last.samples) == (10, 160)
        assert experiment.values()[EV]["trained"] == [0.75, 0.76]
        assert experiment.values()[F1]["frozen_decoder"] == pytest.approx([0.4, 0.41])
        assert {comparison.tag for comparison in decide(experiment.measurements)} == {EV, F1}
        assert list(experiment.notes) == [
            f"{Run(validated).title} measured again the SAEs of {Run(first).title}, which count once; "
            "it adds 1 metric, and its later values are shown of ev"
        ]


def test_a_joined_run_has_the_files_of_all(first: Path, tmp_path: Path):
    validated = write(tmp_path / "b", panel(), {"f1": values(0, 1)}, prints_of(0, 1), "validate")
    (validated / "interpretation.jsonl").write_text("{}")
    (first / "x.json").write_text("1")
    (validated / "x.json").write_text("2")
    (run,) = only(first, validated).runs
    assert run.file("interpretation.jsonl") == validated / "interpretation.jsonl"
    assert run.file("none.json") == first / "none.json"
    assert [value for _, value in run.found("x.json", lambda path: json.loads(path.read_text()))] == [1, 2]


def test_two_validations_of_one_run_are_one_without_it(tmp_path: Path):
    runs = [write(tmp_path / name, panel(), {name: values(0, 1)}, prints_of(0, 1), "validate") for name in ("ev", "f1")]
    assert set(only(*runs).values()) == {EV, F1}


def test_a_validation_of_other_data_is_no_measurement_of_the_run(first: Path, tmp_path: Path):
    settings = changed(panel(), "data.val_samples", 1024)
    other = write(tmp_path / "b", settings, {"ev": values(0, 1)}, prints_of(0, 1), "validate")
    _, second = experiments_of(read_runs([first, other]))
    assert list(second.notes) == ["version_0 and b are different experiments: data.val_samples 64, 1024"]


def test_a_repeated_run_is_left_out_though_its_bits_differ(first: Path, tmp_path: Path):
    """As on a GPU, which does not repeat itself: same settings and seeds, other fingerprints."""
    again = write(tmp_path / "b", panel((1, 2)), {"ev": values(1, 2, trained=0.8)}, prints_of(1, 2, name="other"))
    experiment = only(first, again)
    assert experiment.values()[EV]["trained"] == pytest.approx([0.7, 0.71, 0.84])
    assert [comparison.n_seeds for comparison in decide(experiment.measurements)] == [3]
    assert list(experiment.notes) == [
        f"{again}: frozen_decoder/1, trained/1 left out, with the settings and seeds of {first}: one seed counts once"
    ]


def test_the_same_weights_are_left_out_under_another_seed(first: Path, tmp_path: Path):
    settings = changed(panel((5, 6)), "data.seed", 3)
    prints = prints_of(5, 6) | {"trained/5": "trained0", "frozen_decoder/5": "frozen_decoder0"}
    other = write(tmp_path / "b", settings, {"ev": values(5, 6)}, prints)
    experiment = only(first, other)
    assert experiment.values()[EV]["trained"] == [0.7, 0.71, pytest.approx(1.06)]
    assert f"{other}: frozen_decoder/5, trained/5 left out, with the same weights as {first}" in experiment.notes[0]


def test_another_seed_of_the_data_is_another_seed(first: Path, tmp_path: Path):
    other = write(tmp_path / "b", changed(panel(), "data.seed", 1), {"ev": values(0, 1)}, prints_of(0, 1, name="x"))
    experiment = only(first, other)
    assert experiment.values()[EV]["trained"] == [0.7, 0.71, 0.7, 0.71]
    assert not experiment.notes


def test_a_reference_that_is_the_same_in_all_runs_counts_once(first: Path, tmp_path: Path):
    runs = []
    for seed in (0, 1):
        metrics = {"ev": values(seed) | {"pca": {"0": 0.65}}}
        runs.append(write(tmp_path / f"run{seed}", panel((seed,)), metrics, prints_of(seed)))
    experiment = only(*runs)
    assert experiment.values()[EV] == {"trained": [0.7, 0.71], "frozen_decoder": [0.6, 0.61], "pca": [0.65]}
    against = {comparison.baseline: comparison for comparison in decide(experiment.measurements)}
    assert against["pca"].n_seeds == 2, "each trained SAE stands against that of its run"
    assert (against["pca"].is_reference, against["frozen_decoder"].is_reference) == (True, False)


def export(run: Path, member: str, seed: int) -> None:
    sae = TopK(d_in=4, k=2, d_sae=8)
    sae.initialise(seed, torch.zeros(8, 4))
    sae.save(run / "saes" / member)


def test_runs_of_older_versions_are_known_by_their_exported_saes(tmp_path: Path):
    """They have no fingerprints: equal files are the same SAE, and others are not, whatever they score."""
    runs = []
    for name, seed, weights in (("a", 0, 7), ("b", 1, 7), ("c", 2, 8)):
        run = write(tmp_path / name, lone(seed=seed), {"ev": {"trained": {str(seed): 0.7}}})
        export(run, f"trained/{seed}", weights)
        runs.append(run)
    experiment = only(*runs)
    assert experiment.values()[EV]["trained"] == [0.7, 0.7]
    assert "b: trained/1 left out, with the same weights as" in experiment.notes[0]


def test_a_validation_of_an_older_version_is_known_by_what_it_measured(tmp_path: Path):
    first = write(tmp_path / "a", panel(), {"ev": values(0, 1)})
    same = write(tmp_path / "b", panel(), {"ev": values(0, 1), "f1": values(0, 1)}, command="validate")
    other = write(tmp_path / "c", panel(), {"ev": values(0, 1, trained=0.71), "g": values(0, 1)}, command="validate")
    assert set(only(first, same).values()) == {EV, F1}
    assert set(only(first, other).values()) == {EV}, "of an earlier checkpoint: left out, as a repeated run"


def test_runs_without_settings_are_joined_by_content_alone(first: Path, tmp_path: Path):
    copy = Path(shutil.copytree(first, tmp_path / "copy"))
    other = write(tmp_path / "other", panel(), {"ev": values(0, 1)}, prints_of(0, 1, name="other"))
    for run in (first, copy, other):
        (run / "config.yaml").unlink()
    experiments = experiments_of(read_runs([first, copy, other]))
    assert [experiment.name for experiment in experiments] == ["version_0", "other"]


def test_runs_that_measured_different_things_are_one_experiment(first: Path, tmp_path: Path):
    other = write(tmp_path / "b", panel((2,)), {"f1": values(2)}, prints_of(2))
    experiment = only(first, other)
    assert set(experiment.values()) == {EV, F1}
    assert {comparison.tag for comparison in decide(experiment.measurements)} == {EV, F1}
    assert Member("trained", 2) not in Run(first).measurements.fingerprints


def test_many_differences_are_counted(first: Path, tmp_path: Path):
    settings = panel((2,))
    for number in range(9):
        settings["data"]["init_args"][f"of_mine_{number}"] = number
    _, second = experiments_of(read_runs([first, write(tmp_path / "b", settings, {"ev": values(2)}, prints_of(2))]))
    assert second.notes[0].endswith("data.of_mine_5 unset, 5, and 3 more")


def test_the_run_that_differs_is_the_one_that_is_named(tmp_path: Path):
    """The trained SAE of an experiment has no least cosine to differ in; its baseline has."""
    runs = [
        write(tmp_path / "a", lone(), {"ev": {"trained": {"0": 0.7}}}),
        write(tmp_path / "b", lone("SoftFrozenDecoder", min_cosine=0.8), {"ev": {"soft_frozen_decoder": {"0": 0.6}}}),
        write(
            tmp_path / "c", lone("SoftFrozenDecoder", 1, min_cosine=0.0), {"ev": {"soft_frozen_decoder": {"1": 0.6}}}
        ),
    ]
    first, second = experiments_of(read_runs(runs))
    assert first.name == "a+b"
    assert list(second.notes) == [
        "a+b and c are different experiments: freeze.min_cosine of soft_frozen_decoder 0.8, 0.0"
    ]
