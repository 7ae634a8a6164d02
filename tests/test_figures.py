"""``sae figures``: what is computed, on examples made by hand; what is drawn, on tiny runs of the real command."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from matplotlib.figure import Figure
from matplotlib.image import imread
from scipy.stats import binomtest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_compare import LAST, write_run

from sae_lightning.cli import main
from sae_lightning.figures.computed import Point, by_frequency, curves, frequency_bins, points, shares, wilson
from sae_lightning.figures.drawn import (
    _legend,
    best_cosines,
    explained_variance_vs_recovery,
    recovery_by_frequency,
    training,
)
from sae_lightning.figures.look import OTHERS, STYLES, styles
from sae_lightning.figures.runs import FOLDER, read


def one(folder):
    (run,) = read(folder)
    return run


OF_ONE_RUN = {"recovery_by_frequency", "best_cosines", "training"}
OF_ALL_RUNS = "explained_variance_vs_recovery"
POLICIES = {"trained", "frozen_decoder", "oracle"}
VARIABLE = {"class_path": "LogUniformProbability", "init_args": {"log10_min": -3, "log10_max": -1}}
CONSTANT = {"class_path": "ConstantProbability", "init_args": {"p": 0.05}}


SAE = {"class_path": "BatchTopK", "init_args": {"d_sae": 24, "k": 4}}
FREEZE = {"trained": "NoFreeze", "frozen_decoder": "FrozenDecoder", "oracle": "FrozenDecoder"}
PANEL = {
    "sae": SAE,
    "seeds": [0, 1],
    "policies": {name: {"class_path": kind} for name, kind in FREEZE.items()},
    "inits": {"oracle": {"class_path": "TrueFeatures"}},
}
SIZES = {"d_in": 16, "n_features": 64, "batch_size": 64, "train_samples": 512, "val_samples": 128}
QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1}
SETTINGS = {
    "name": "variable",
    "model": {"class_path": "SanityPanel", "init_args": PANEL},
    "data": {"class_path": "SyntheticDataModule", "init_args": SIZES | {"firing_probability": VARIABLE}},
    "trainer": QUIET | {"accelerator": "cpu", "val_check_interval": 4},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run of a panel of two seeds with 24 latents for 64 features."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "given.yaml").write_text(yaml.safe_dump(SETTINGS))
    precision = torch.get_float32_matmul_precision()
    config = f"--config={folder / 'given.yaml'}"
    main(["fit", config, "--trainer.callbacks+=Recovery", f"--trainer.logger.save_dir={folder}"])
    torch.set_float32_matmul_precision(precision)
    return folder / "variable/version_0"


@pytest.fixture
def variable(finished: Path, tmp_path: Path) -> Path:
    """A copy to draw into."""
    return Path(shutil.copytree(finished, tmp_path / "variable/version_0"))


@pytest.fixture
def constant(finished: Path, tmp_path: Path) -> Path:
    """The same, but the features of its data fire equally often."""
    folder = Path(shutil.copytree(finished, tmp_path / "constant/version_0"))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["data"]["init_args"]["firing_probability"] = CONSTANT
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def figures(capsys: pytest.CaptureFixture, *args: object) -> tuple[list[Path], str]:
    """The paths told on stdout, and what stands on stderr."""
    capsys.readouterr()
    main(["figures", *map(str, args)])
    told = capsys.readouterr()
    return [Path(line) for line in told.out.splitlines()], told.err


def images(folder: Path) -> dict[str, list]:
    events = EventAccumulator(str(folder)).Reload()
    return {tag: events.Images(tag) for tag in events.Tags()["images"]}


# What is computed
# ----------------------------------------------------------------------------------------------------------------------


def test_bins_hold_enough_features_and_all_of_them():
    probabilities = 10 ** np.random.default_rng(0).uniform(-5.5, -1.2, 200)
    edges = frequency_bins(probabilities)
    counts = np.histogram(probabilities, edges)[0]
    assert counts.sum() == 200
    assert counts.min() >= 5
    np.testing.assert_allclose(np.diff(np.log10(edges)), 4.3 / 12, rtol=0.05)  # none had to be merged


def test_small_bins_are_merged():
    probabilities = np.array([1e-4] * 5 + [1e-3] * 2 + [1e-2] * 3 + [1e-1] * 4)
    edges = frequency_bins(probabilities, n_bins=6, least=5)
    assert np.histogram(probabilities, edges)[0].tolist() == [5, 9]
    assert (edges[0], edges[-1]) == (1e-4, 1e-1)
    assert frequency_bins(probabilities[3:7], least=5).tolist() == [1e-4, 1e-3]  # too few of all


@pytest.mark.parametrize(("hits", "n"), [(0, 12), (3, 12), (12, 12), (250, 1000)])
def test_the_interval_is_wilsons(hits: int, n: int):
    expected = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    low, high = wilson(np.array([hits / n]), np.array([float(n)]))
    np.testing.assert_allclose([low[0], high[0]], [expected.low, expected.high], atol=1e-12)


def test_recovery_in_bins():
    probabilities = np.array([0.001, 0.002, 0.05, 0.06, 0.07, 0.1])
    best = np.array([[0.1, 0.9, 0.9, 0.9, 0.9, 0.80], [0.3, 0.7, 0.9, 0.9, 0.9, 0.90]])
    found = by_frequency(best, probabilities, np.array([0.001, 0.01, 0.1]))
    np.testing.assert_allclose(found.share, [0.25, 7 / 8])
    np.testing.assert_allclose(found.cosine, [0.5, 7.1 / 8])
    low, high = wilson(found.share, np.array([2.0, 4.0]))  # features, not seeds times features
    np.testing.assert_array_equal([found.low, found.high], [low, high])


def test_a_rounded_cosine_is_in_the_histogram():
    assert shares(np.array([-0.1, 0.1, 1.0000002, 1.0]), np.array([0.0, 0.5, 0.8, 1.0])).tolist() == [0.5, 0, 0.5]


def line(samples: int, **metrics: dict) -> dict:
    return {"step": samples, "samples": samples, "metrics": metrics, "floors": {}}


def test_curves_are_means_over_the_seeds_that_were_measured():
    lines = [
        line(10, fvu={"trained": {"0": 0.1, "1": 0.4}, "other": {"0": None}}),
        line(20, l0={"trained": {"0": 3.0}}),
        line(30, fvu={"trained": {"0": None, "1": 0.2}, "other": {"0": 0.5}}),
    ]
    found = curves(lines, "fvu")
    assert found["trained"].samples == [10, 30]
    assert found["trained"].mean == [0.25, 0.2]
    assert found["trained"].least == [0.1, 0.2]
    assert found["trained"].greatest == [0.4, 0.2]
    assert found["other"].samples == [30]
    assert curves(lines, "kl") == {}


def test_points_are_members_and_references():
    measured = line(
        10,
        explained_variance={"trained": {"0": 0.7, "1": None}, "omp": {"0": 0.9}},
        **{"recovery_at_0.8": {"trained": {"0": 0.2, "1": 0.3}}},
    )
    assert points(measured) == [Point("trained", 0.7, 0.2), Point("omp", 0.9, None)]


def test_known_policies_look_the_same_everywhere_and_others_differ():
    look = styles(["zeta", "trained", "alpha", "oracle"])
    assert list(look) == ["trained", "oracle", "alpha", "zeta"]
    assert look["trained"] == STYLES["trained"] == styles(["trained"])["trained"]
    everything = [*STYLES.values(), *OTHERS]
    assert len({style.marker for style in STYLES.values()}) == len({style.colour for style in STYLES.values()}) == 6
    assert len({(style.colour, style.marker) for style in everything}) == len(everything)


# What is drawn
# ----------------------------------------------------------------------------------------------------------------------


def test_what_is_known_of_a_run_is_what_it_measured(finished: Path):
    run = one(finished)
    last = run.lines[-1]
    assert run.samples == 512
    assert run.unit == "samples"
    assert set(run.truth.best) == run.exported == run.policies == POLICIES
    for policy, best in run.truth.best.items():
        assert best.shape == (2, 64)
        np.testing.assert_allclose(best.mean(1), list(last["metrics"]["mean_best_cosine"][policy].values()))
        np.testing.assert_allclose((best > 0.8).mean(1), list(last["metrics"]["recovery_at_0.8"][policy].values()))
    np.testing.assert_allclose(run.truth.chance.mean(), last["floors"]["mean_best_cosine"])
    oracle = run.truth.best["oracle"][0] > 0.999  # takes the features that fire most
    assert oracle.sum() == 24
    assert run.truth.probabilities[oracle].min() > run.truth.probabilities[~oracle].max()


def drawn(axis) -> dict[str, tuple[list, list]]:
    """Points by label."""
    return {of.get_label(): (list(of.get_xdata()), list(of.get_ydata())) for of in axis.get_lines()}


def test_the_frequency_figure(finished: Path):
    run = one(finished)
    upper, lower = recovery_by_frequency(run, styles(POLICIES)).axes
    edges = frequency_bins(run.truth.probabilities)
    for axis, value in ((upper, "share"), (lower, "cosine")):
        assert axis.get_xscale() == "log"
        heights = [list(of.get_ydata()) for of in axis.get_lines() if len(of.get_xdata()) == len(edges) - 1]
        for best in (*run.truth.best.values(), run.truth.chance[None]):
            assert list(getattr(by_frequency(best, run.truth.probabilities, edges), value)) in heights
    (firings,) = upper.child_axes
    upper.figure.draw_without_rendering()
    np.testing.assert_allclose(firings.get_xlim(), 512 * np.array(upper.get_xlim()))

    silent = replace(run.truth, probabilities=np.where(run.truth.probabilities < 0.002, 0, run.truth.probabilities))
    upper, _ = recovery_by_frequency(replace(run, truth=silent), styles(POLICIES)).axes
    assert upper.get_xlim()[0] > 0.001  # what never fires is in no bin


def test_the_histogram_figure(finished: Path):
    run = one(finished)
    (axis,) = best_cosines(run, styles(POLICIES)).axes
    found = {label.split(":")[0]: np.nansum(heights) for label, (_, heights) in drawn(axis).items()}
    assert {policy: found[policy] for policy in POLICIES} == pytest.approx(dict.fromkeys(POLICIES, 1.0))
    right = {
        label.split(":")[0]: np.nansum([height for x, height in zip(*points, strict=True) if x > 0.8])
        for label, points in drawn(axis).items()
    }
    assert right["oracle"] == pytest.approx((run.truth.best["oracle"] > 0.8).mean())
    assert any("oracle: 37.50% recovered" in label for label in drawn(axis))


def test_the_training_figure(finished: Path):
    run = one(finished)
    axes = training(run, styles(POLICIES)).axes
    metrics = ("explained_variance", "recovery_at_0.8", "mean_best_cosine", "cosine_to_start_mean")
    for axis, metric in zip(axes, metrics, strict=True):
        shown = drawn(axis)
        for policy in POLICIES:
            means = [np.mean(list(line["metrics"][metric][policy].values())) for line in run.lines]
            assert shown[policy] == ([256, 512], pytest.approx(means))
        assert shown["floor: an SAE that does nothing, or chance"][1][0] == run.lines[-1]["floors"][metric]
        assert len(axis.collections) == len(POLICIES)  # the bands


def test_the_figure_of_all_runs(finished: Path, tmp_path: Path):
    measured = {
        "explained_variance": {"trained": {"0": 0.5, "1": 0.6}, "omp": {"0": 0.9}},
        "recovery_at_0.8": {"trained": {"0": 0.25, "1": 0.5}},
    }
    by_hand = one(write_run(tmp_path / "hand", LAST | {"metrics": measured, "floors": {"recovery_at_0.8": 0.125}}))
    without = one(write_run(tmp_path / "without", LAST))
    style = styles(["trained"])

    upper, lower = explained_variance_vs_recovery([by_hand, without], style).axes
    ends = [(float(of.get_xdata()[0]), float(of.get_ydata()[0])) for of in upper.get_lines() if of.get_marker() == "o"]
    assert ends == [(0.5, 0.25), (0.6, 0.5)]
    assert upper.get_ylim() == pytest.approx((-0.05 * 0.5, 1.07 * 0.5))
    assert [text.get_text() for text in lower.get_yticklabels()] == ["omp"]
    assert [list(of.get_xdata()) for of in lower.get_lines()] == [[0.9]]
    assert not upper.texts  # one run needs no number

    figure = explained_variance_vs_recovery([by_hand, one(finished)], style)
    (legend,) = figure.legends
    assert {"trained", "hand", "version_0"} < {text.get_text() for text in legend.get_texts()}
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "1", "2", "2"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # tensorboard's own
def test_a_run_gets_its_figures(variable: Path, capsys: pytest.CaptureFixture):
    old = variable / FOLDER / "events.out.tfevents.0.host"
    old.parent.mkdir()
    old.write_bytes(b"")
    written, told = figures(capsys, variable)
    assert set(written) == {variable / FOLDER / f"{name}.png" for name in (*OF_ONE_RUN, OF_ALL_RUNS)}
    assert told == ""
    for path in written:
        picture = imread(path)
        assert picture.shape[1] == 1200
        assert 600 < picture.shape[0] < 1300
        assert picture[..., :3].std() > 0.05  # not empty
    assert not old.exists()  # drawn once more, a figure stands in place of the one before
    shown = images(variable / FOLDER)
    assert set(shown) == {*OF_ONE_RUN, OF_ALL_RUNS}
    for (event,) in shown.values():
        assert event.step == 8
        assert (event.width, event.encoded_image_string[:4]) == (1200, b"\x89PNG")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_parts_of_activations_have_figures_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture):
    measured = {"explained_variance": {"trained": {"0": 0.5}}, "cosine_to_start_mean": {"trained": {"0": 0.9}}}
    parts = {f"{name}@{part}": of for name, of in measured.items() for part in ("early", "late")}
    folder = write_run(tmp_path / "hooks", LAST | {"metrics": parts, "floors": {}})
    early, late = read(folder)
    assert (early.part, late.part) == ("early", "late")
    assert early.lines[-1]["metrics"] == measured
    written, _ = figures(capsys, folder)
    assert {path.parent for path in written} >= {folder / FOLDER / "early", folder / FOLDER / "late"}


def test_nulls_stand_apart_from_the_real_activations(tmp_path: Path):
    of = {"trained": {"0": 0.5}}
    metrics = {"explained_variance": of, "explained_variance@gaussian": of, "explained_variance_beyond_gaussian": of}
    folder = write_run(tmp_path / "nulls", LAST | {"metrics": metrics, "floors": {"explained_variance@gaussian": 0.0}})
    real, gaussian = read(folder)
    assert (real.part, gaussian.part) == ("", "gaussian")
    assert set(real.lines[-1]["metrics"]) == {"explained_variance", "explained_variance_beyond_gaussian"}
    assert set(gaussian.lines[-1]["metrics"]) == set(gaussian.lines[-1]["floors"]) == {"explained_variance"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_runs_are_put_together_in_one_figure(
    variable: Path, constant: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    written, told = figures(capsys, constant, variable, constant / ".", "--out", tmp_path / "all")
    assert set(written) == {
        *(constant / FOLDER / f"{name}.png" for name in OF_ONE_RUN - {"recovery_by_frequency"}),
        *(variable / FOLDER / f"{name}.png" for name in OF_ONE_RUN),
        tmp_path / "all" / f"{OF_ALL_RUNS}.png",
    }
    assert all(path.is_file() for path in written)
    assert told == f"left out recovery_by_frequency of {constant}: every feature fires equally often, with p=0.05\n"
    assert OF_ALL_RUNS in images(constant / FOLDER)
    assert OF_ALL_RUNS in images(variable / FOLDER)


def test_an_unfinished_run_shows_its_training(variable: Path, capsys: pytest.CaptureFixture):
    shutil.rmtree(variable / "saes")
    written, told = figures(capsys, variable)
    assert {path.stem for path in written} == {"training", OF_ALL_RUNS}
    assert told.count(f"there is no {variable / 'saes'}: the run has not finished\n") == 2


def test_a_language_model_is_not_loaded(tmp_path: Path, capsys: pytest.CaptureFixture):
    folder = write_run(tmp_path / "lm", LAST)
    settings = {"model": "no/such/model", "hook": "h", "text": {"class_path": "PocketText"}}
    config = {"data": {"class_path": "LanguageModelDataModule", "init_args": settings}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    written, told = figures(capsys, folder)
    assert [path.stem for path in written] == ["training"]
    assert told.count("the true features of LanguageModelDataModule are not known") == 2
    assert one(folder).unit == "tokens"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (None, "there is no "),
        ({"data": {"class_path": "SyntheticDataModule", "init_args": {"width": 8}}}, "has no option 'width'"),
        ({"model": None}, "does not say which data"),
    ],
)
def test_a_run_whose_data_are_not_known(config: dict | None, expected: str, tmp_path, capsys: pytest.CaptureFixture):
    folder = write_run(tmp_path / "run", LAST)
    (folder / "config.yaml").unlink()
    if config is not None:
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    written, told = figures(capsys, folder)
    assert [path.stem for path in written] == ["training"]
    assert expected in told


def test_references_are_no_curves(variable: Path):
    path = variable / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for measured in lines:
        measured["metrics"]["explained_variance"]["pca"] = {"0": 0.3}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = one(variable)
    assert run.policies == POLICIES
    assert "pca" not in drawn(training(run, styles({*POLICIES, "pca"})).axes[0])
    assert len(explained_variance_vs_recovery([run], styles(POLICIES)).axes) == 2


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["none"], "none: no such folder; give a run folder"),
        (["."], "holds no metrics.jsonl"),
        (["run"], "nothing to draw: "),
        (["run", "--out", "run/metrics.jsonl"], "--out run/metrics.jsonl is a file"),
    ],
)
def test_mistakes(args: list[str], expected: str, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture):
    monkeypatch.chdir(tmp_path)
    write_run(Path("run"), LAST | {"metrics": {"zeta": {"trained": {"0": 1.0}}}})
    with pytest.raises(SystemExit) as stop:
        main(["figures", *args])
    assert stop.value.code == 2
    told = capsys.readouterr().err
    assert expected in told
    assert "Traceback" not in told
    assert not list(tmp_path.glob("**/*.png"))


def test_a_legend_of_long_names_has_fewer_columns():
    for length, columns in ((5, 3), (30, 2), (60, 1), (200, 1)):
        figure = Figure()
        axis = figure.subplots()
        for number in range(4):
            axis.plot([0], [0], label=f"{number}".ljust(length, "x"))
        _legend(figure, [axis])
        assert figure.legends[0]._ncols == columns
