"""The screen of a check fits 80 columns, and cuts no word."""

import pytest
from checking.checks import PERMUTED, RANDOM, check, control, metric, sae

from sae_lightning.checking.screen import WIDTH, screen

LABELS = (
    "Loss recovered, over mean ablation",
    "Explained variance",
    "Score of the interpretation by detection",
    "Share of edits that are right",
    "Selectivity of probes",
)


def with_metrics(n):
    metrics = {
        f"m{number}": metric(
            label,
            f"q{number}",
            0.8,
            {RANDOM: control(RANDOM, -17.507, 3.21, "unclear", 18.3), PERMUTED: control(PERMUTED, half=None)},
        )
        for number, label in enumerate(LABELS[:n])
    }
    controls = {
        RANDOM: {"label": "random encoder (covariance)", "controls_for": "", "l0": 31.4, "l0_off": 0.005},
        PERMUTED: {"label": "own covariance, best codes", "controls_for": "", "l0": None, "l0_off": None},
    }
    return sae(metrics=metrics, controls=controls, where="/data" + "/a_long-folder-name" * 8 + "/published_sae")


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_no_word_is_cut_and_no_line_too_long(n):
    text = screen(check(with_metrics(n)))
    assert max(map(len, text.splitlines())) <= WIDTH
    assert set(" ".join(LABELS[:n]).split()) <= set(text.split())
    assert text.count("SAE minus") == (1 if n <= 2 else 2 if n == 3 else 3)
    assert text.count("unclear") >= n
    assert text.splitlines()[0].startswith(".../a_long-folder-name/")
    assert text.splitlines()[0].endswith("/published_sae")


def test_three_metrics_of_usual_numbers_are_one_table():
    one = with_metrics(3)
    for own in one["metrics"].values():
        own["controls"] = {RANDOM: control(RANDOM, 0.146, 0.103), PERMUTED: control(PERMUTED)}
    text = screen(check(one))
    assert text.count("SAE minus") == 1
    assert max(map(len, text.splitlines())) <= WIDTH


def test_each_sae_has_a_table():
    assert screen(check(with_metrics(1), with_metrics(2))).count("SAE minus") == 2
