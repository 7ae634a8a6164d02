"""Curves over what runs differ in, on runs by hand."""

from pathlib import Path

import numpy as np
import pytest
from runs.folders import changed, panel, write

from sae_lightning.figures.experiments import SWEEPS, metrics_vs_l0, soft_freeze
from sae_lightning.figures.sweeps import l0_charts, length_charts, soft_freeze_charts
from sae_lightning.runs import Experiment, experiments_of, read_runs

ABOUT = {
    "explained_variance": {
        "label": "Explained",
        "question": {"name": "e", "text": "?", "order": 1},
        "better": "higher",
    },
    "seed_mmcs": {"label": "Agreement", "question": {"name": "seeds", "text": "?", "order": 2}},
    "seed_other": {"label": "Other", "question": {"name": "seeds", "text": "?", "order": 2}},
    "l0": {"label": "L0", "question": {"name": "e", "text": "?", "order": 1}},
}
RELU = {"class_path": "sae_lightning.saes.ReLU", "init_args": {"init": None, "seed": 0, "l1_coefficient": 0.01}}
T_95 = 12.706204736174698  # one degree of freedom


def run(folder: Path, settings: dict, trained: tuple, decoder: tuple, l0: float, floor: float = 0.0, **line) -> Path:
    """Write a run of two policies, and a reference that is no SAE."""
    both = {"trained": trained, "frozen_decoder": decoder}
    metrics = {"l0": {name: {"0": l0 + place, "1": l0 + place} for place, name in enumerate(both)}}
    metrics["explained_variance"] = {name: dict(zip("01", own, strict=True)) for name, own in both.items()}
    metrics["seed_mmcs"] = metrics["seed_other"] = metrics["explained_variance"]
    metrics["explained_variance"] = metrics["explained_variance"] | {"pca": {"0": 0.4}}
    prints = {f"{name}/{seed}": f"{folder.name}{name}{seed}" for name in both for seed in "01"}
    floors = {"explained_variance": floor}
    return write(folder, settings, metrics, prints, floors=floors, about=ABOUT, **line)


def read(*folders: Path) -> list[Experiment]:
    experiments = experiments_of(read_runs(folders))
    assert len(experiments) == len(folders)
    return experiments


@pytest.fixture
def sparsities(tmp_path: Path) -> list[Experiment]:
    many = run(tmp_path / "many", changed(panel(), "model.sae.k", 8), (0.8, 0.82), (0.5, 0.5), 8.0)
    few = run(tmp_path / "few", panel(), (0.6, 0.6), (0.4, 0.42), 2.0)
    return read(many, few)


def sweeps(experiments: list[Experiment]) -> dict[str, list[int]]:
    return {sweep.name: [len(group) for group in sweep.groups(experiments)] for sweep in SWEEPS}


def test_metrics_over_the_measured_l0(sparsities: list[Experiment]):
    assert sweeps(sparsities) == {"metrics_vs_l0": [2], "soft_freeze": [], "training_length": []}
    (chart,) = l0_charts([sparsities])
    assert (chart.title, chart.y_includes) == ("Explained", [0.0, 1.0])
    trained, decoder = chart.series  # and no pca, which has no l0
    assert (trained.name, trained.x, trained.y) == ("trained", [2.0, 8.0], [0.6, pytest.approx(0.81)])
    assert (decoder.name, decoder.x) == ("frozen_decoder", [3.0, 9.0])
    half = T_95 * np.std([0.8, 0.82], ddof=1) / 2**0.5
    assert [trained.low[0], trained.high[0]] == [0.6, 0.6]  # no variation says nothing
    assert [trained.low[1], trained.high[1]] == pytest.approx([0.81 - half, 0.81 + half])
    assert [guide.value for guide in chart.guides] == [0.0]
    (axes,) = metrics_vs_l0(sparsities).axes
    low, high = axes.get_ylim()
    assert low < 0 < 1 < high


def test_a_floor_that_differs_is_a_line(tmp_path: Path):
    one = run(tmp_path / "one", panel(), (0.6, 0.6), (0.4, 0.4), 2.0, floor=0.1)
    other = run(tmp_path / "other", changed(panel(), "model.sae.k", 8), (0.8, 0.8), (0.5, 0.5), 8.0, floor=0.3)
    (chart,) = l0_charts([read(other, one)])
    assert not chart.guides
    assert [(list(own.x), list(own.y)) for own in chart.series if own.name == "floor"] == [([2.0, 8.0], [0.1, 0.3])]


def test_variants_stand_side_by_side(sparsities: list[Experiment], tmp_path: Path):
    relu = run(tmp_path / "relu", panel(sae=RELU), (0.3, 0.3), (0.2, 0.2), 5.0)
    longer = run(tmp_path / "longer", changed(panel(), "data.train_samples", 99), (0.9, 0.9), (0.2, 0.2), 2.0)
    experiments = [*sparsities, *read(relu, longer)]
    assert sweeps(experiments) == {"metrics_vs_l0": [3], "soft_freeze": [], "training_length": [2]}
    (group,) = SWEEPS[0].groups(experiments)
    axes = metrics_vs_l0(group).axes
    assert [own.get_title(loc="left") for own in axes] == ["TopK", "ReLU"]
    assert axes[0].get_ylim() == axes[1].get_ylim()


def test_metrics_over_the_length_of_training(tmp_path: Path):
    short = run(tmp_path / "short", changed(panel(), "data.train_samples", 9), (0.6, 0.6), (0.4, 0.4), 2.0, samples=90)
    long = run(tmp_path / "long", changed(panel(), "data.train_samples", 99), (0.8, 0.8), (0.5, 0.5), 2.0, samples=990)
    explained, agreement = length_charts(read(long, short))
    assert (explained.name, agreement.name) == ("explained_variance", "seed_mmcs")
    assert [(own.x, own.y) for own in agreement.series] == [([90, 990], [0.6, 0.8]), ([90, 990], [0.4, 0.5])]


def test_metrics_over_the_limit_of_a_soft_freeze(tmp_path: Path):
    def soft(limit: float) -> dict:
        return {"class_path": "sae_lightning.freeze.SoftFrozenDecoder", "init_args": {"min_cosine": limit}}

    policies = {"tight": soft(1.0), "loose": soft(0.5), "free": {"class_path": "sae_lightning.freeze.NoFreeze"}}
    values = {name: {"0": value} for name, value in {"tight": 0.5, "loose": 0.8, "free": 0.9}.items()}
    floors = {"explained_variance": 0.0}
    folder = write(
        tmp_path / "tau", panel((0,), policies=policies), {"explained_variance": values}, floors=floors, about=ABOUT
    )
    experiments = read(folder)
    assert sweeps(experiments) == {"metrics_vs_l0": [], "soft_freeze": [1], "training_length": []}
    (chart,) = soft_freeze_charts(experiments)
    assert [(own.name, own.x, own.y) for own in chart.series] == [("soft_frozen_decoder", [0.5, 1.0], [0.8, 0.5])]
    assert [(guide.value, guide.label) for guide in chart.guides] == [(0.9, "Trained SAE, no limit"), (0.0, "floor")]
    title = soft_freeze(experiments).get_suptitle()
    assert title.splitlines()[1] == f"{folder.parent.name}/tau: 1 seed", "of one seed there is no band"


def test_one_limit_is_no_sweep(tmp_path: Path):
    assert sweeps(read(run(tmp_path / "panel", panel(), (0.6, 0.6), (0.4, 0.4), 2.0)))["soft_freeze"] == []
