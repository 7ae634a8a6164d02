"""Figures of recovery, on a tiny run of the real command and on runs by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands.test_compare import LAST, write_run

from sae_lightning.figures.png import figure_of
from sae_lightning.figures.recovery import best_cosines_chart, by_frequency_charts
from sae_lightning.figures.runs import best_cosines, explained_variance_vs_recovery, recovery_by_frequency, training
from sae_lightning.figures.truth import by_frequency, frequency_bins, read_truth
from sae_lightning.members import Tag, policy_title
from sae_lightning.runs import Run

POLICIES = {"trained", "frozen_decoder", "oracle"}


def drawn(axis) -> dict[str, tuple[list, list]]:
    """Points by label."""
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axis.get_lines()}


def test_the_frequency_figure(finished: Path):
    run = Run(finished)
    truth = read_truth(run)
    upper, lower = recovery_by_frequency(run).axes
    edges = frequency_bins(truth.probabilities)
    for axis, value in ((upper, "share"), (lower, "cosine")):
        assert axis.get_xscale() == "log"
        heights = [list(line.get_ydata()) for line in axis.get_lines() if len(line.get_xdata()) == len(edges) - 1]
        for best in (*truth.best.values(), truth.chance[None]):
            assert list(getattr(by_frequency(best, truth.probabilities, edges), value)) in heights
    (firings,) = upper.child_axes
    upper.figure.draw_without_rendering()
    np.testing.assert_allclose(firings.get_xlim(), 512 * np.array(upper.get_xlim()))

    silent = replace(truth, probabilities=np.where(truth.probabilities < 0.002, 0, truth.probabilities))
    upper, _ = figure_of(by_frequency_charts(silent, 512), "").axes
    assert upper.get_xlim()[0] > 0.001  # what never fires is in no bin


def test_the_histogram_figure(finished: Path):
    run = Run(finished)
    truth = read_truth(run)
    (axis,) = best_cosines(run).axes
    sums = {label.split(":")[0]: np.nansum(heights) for label, (_, heights) in drawn(axis).items()}
    assert {policy: sums[policy_title(policy)] for policy in POLICIES} == pytest.approx(dict.fromkeys(POLICIES, 1.0))
    right = {
        label.split(":")[0]: np.nansum([height for x, height in zip(*points, strict=True) if x > 0.8])
        for label, points in drawn(axis).items()
    }
    assert right["Oracle"] == pytest.approx((truth.best["oracle"] > 0.8).mean())
    assert any("Oracle: 37.50% recovered" in label for label in drawn(axis))
    assert [row[2] for row in best_cosines_chart(truth).table.rows if row[0].startswith("Oracle")][-1] == "0.375"


def test_the_training_figure(finished: Path):
    run = Run(finished)
    axes = training(run).axes
    metrics = ("explained_variance", "recovery_at_0.8", "mean_best_cosine", "cosine_to_start_mean")
    for axis, metric in zip(axes, metrics, strict=True):
        shown = drawn(axis)
        for policy in POLICIES:
            values = [validation.values[Tag(metric)].items() for validation in run.validations]
            means = [np.mean([value for member, value in own if member.policy == policy]) for own in values]
            assert shown[policy_title(policy)] == ([256, 512], pytest.approx(means))
        assert shown["floor"][1][0] == run.last.floors[Tag(metric)]
        assert len(axis.collections) == len(POLICIES)  # the bands


def test_the_figure_of_all_runs(finished: Path, tmp_path: Path):
    measured = {
        "explained_variance": {"trained": {"0": 0.5, "1": 0.6, "2": None}, "omp": {"0": 0.9}},
        "recovery_at_0.8": {"trained": {"0": 0.25, "1": 0.5, "2": 0.3}},
    }
    by_hand = Run(write_run(tmp_path / "hand", LAST | {"metrics": measured, "floors": {"recovery_at_0.8": 0.125}}))
    without = Run(write_run(tmp_path / "without", LAST))

    upper, lower = explained_variance_vs_recovery([by_hand, without]).axes
    marks = [line for line in upper.get_lines() if line.get_marker() == "o"]
    ends = [tuple(map(float, end)) for line in marks for end in zip(line.get_xdata(), line.get_ydata(), strict=True)]
    assert ends == [(0.5, 0.25), (0.6, 0.5)]
    assert upper.get_ylim() == pytest.approx((-0.05 * 0.5, 1.07 * 0.5))
    assert [text.get_text() for text in lower.get_yticklabels()] == ["OMP"]
    assert [list(line.get_xdata()) for line in lower.get_lines()] == [[0.9]]
    assert not upper.texts  # one run needs no number

    figure = explained_variance_vs_recovery([by_hand, Run(finished)])
    (legend,) = figure.legends
    assert {"Trained SAE", "hand", "version_0"} < {text.get_text() for text in legend.get_texts()}
    assert [text.get_text() for text in figure.axes[0].texts] == [*"1122", *"22" * 2]  # trained, then the others
