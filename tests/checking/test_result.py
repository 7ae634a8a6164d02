"""A finished check of a transcoder as `check.json` keeps it, from numbers made up."""

from unittest.mock import Mock

import pytest
import torch

from sae_lightning.checking import result
from sae_lightning.checking.budget import Budget
from sae_lightning.checking.configuration import controls_named
from sae_lightning.checking.plan import CheckedSAE, Plan
from sae_lightning.evaluators.loss_recovered import recovered_metric
from sae_lightning.evaluators.reconstruction import EXPLAINED_VARIANCE
from sae_lightning.inspection.report import Inspection
from sae_lightning.members import Member, Tag
from sae_lightning.runs import Measurements, Run
from sae_lightning.saes import TopK

NULL = "gaussian_source"
CONTROLS = ["best_linear_map", "random_encoder", "target_pursuit"]


def measured():
    """What a run measures: values of the transcoder, of its controls, and of the transcoder on null data."""
    ev = {("published", 0): 0.7, ("best_linear_map", 0): 0.4, ("random_encoder", 0): 0.5, ("random_encoder", 1): 0.52}
    ev |= {("target_pursuit", 0): 0.9, ("target_pursuit", 1): 0.91}
    l0 = {("published", 0): 4.0, ("best_linear_map", 0): 0.0, ("random_encoder", 0): 3.9, ("random_encoder", 1): 3.9}
    l0 |= {("target_pursuit", 0): 4.0, ("target_pursuit", 1): 4.0}
    values = {
        Tag(name, "source"): {Member(*one, "source"): value for one, value in own.items()}
        for name, own in {"explained_variance": ev, "l0": l0}.items()
    }
    for name, own in {"ce_recovered_mean": None, "kl_recovered_mean": 0.8}.items():
        of_control = None if own is None else 0.5
        values[Tag(name, "source")] = {
            Member("published", 0, "source"): own, Member("best_linear_map", 0, "source"): of_control
        }  # fmt: skip
    values |= {Tag("explained_variance", NULL): {Member("published", 0, NULL): -0.1}}
    return Measurements(
        dict(reversed(values.items())),
        {Tag("explained_variance", "source"): 0.0},
        {
            "explained_variance": EXPLAINED_VARIANCE,
            "ce_recovered_mean": recovered_metric("ce", "mean", "kl"),
            "kl_recovered_mean": recovered_metric("kl", "mean", "kl"),
        },
        nulls=(NULL, "gaussian_target"),
        sizes={"published": ("published", "trained")} | {name: ("published", name) for name in CONTROLS},
        references={"published": "w"},
        controls=dict.fromkeys(CONTROLS, "what it is"),
    )


@pytest.fixture
def checked():
    sae = TopK(8, d_sae=16, k=4, d_out=8)
    sae.initialise(0, torch.randn(200, 8), torch.randn(200, 8))
    inspection = Mock(spec=Inspection, stated={}, imported={"format": "sparsify"})
    inspection.plain.return_value, inspection.verdict.return_value = {}, ["It is read right."]
    inspection.disagreements.return_value = []
    one = CheckedSAE("published", "w", sae.eval(), {}, inspection)
    panel = {"controls": controls_named(CONTROLS, [sae]), "control_samples": 512, "policies": {}, "draws": 2}
    data = {"class_path": "LanguageModelDataModule", "init_args": {"val_samples": 64}}
    settings = {"model": {"init_args": panel}, "data": data, "trainer": {"callbacks": []}}
    activations = {"model": "m", "hook": "a.ln", "target": "a.mlp"}
    plan = Plan((one,), settings, Budget("nulls"), "sae check w", {}, activations, {}, None, part="source")
    return result.check_as_json(plan, Mock(spec=Run, measurements=measured()), 1.0)


def test_controls_of_a_transcoder_have_their_l0_and_bounds_are_marked(checked):
    [one] = checked["saes"]
    assert (one["kind"], one["format"], one["l0"]) == ("transcoder", "sparsify", 4.0)
    off = {name: control["l0_off"] for name, control in one["controls"].items()}
    assert off == {"best_linear_map": None, "random_encoder": pytest.approx(-0.025), "target_pursuit": 0.0}
    metric = one["metrics"]["explained_variance"]
    assert metric["label"].endswith(" of the target")
    assert metric["value"] == 0.7
    against = metric["controls"]
    assert [name for name, control in against.items() if control.get("is_bound")] == ["target_pursuit"]
    assert against["random_encoder"]["draws"] == [0.5, 0.52]
    assert against["random_encoder"]["difference"] == pytest.approx(0.19)


def test_null_data_have_their_name_without_the_side_and_hooks_are_both_said(checked):
    [one] = checked["saes"]
    assert one["null_data"] == {"gaussian": {"l0": None, "explained_variance": -0.1}}
    assert (checked["data"]["hook"], checked["data"]["target"]) == ("a.ln", "a.mlp")


def test_whether_the_model_still_works_is_answered_by_its_predictions(checked):
    """The loss without one MLP may be too little for a share of it, as here, where it is withheld."""
    [one] = checked["saes"]
    is_headline = {name: metric["is_headline"] for name, metric in one["metrics"].items()}
    assert (is_headline["ce_recovered_mean"], is_headline["kl_recovered_mean"]) == (False, True)
    asked = [question["metric"] for question in one["questions"]]
    assert asked == ["explained_variance", "kl_recovered_mean"], "in the order of the page, and not of the evaluators"
