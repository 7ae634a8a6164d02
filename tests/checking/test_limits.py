"""What a check says that it cannot say."""

from unittest.mock import Mock

import pytest
import torch

from sae_lightning.checking.configuration import controls_named, policies_for
from sae_lightning.checking.limits import limits_of
from sae_lightning.checking.plan import CheckedSAE, Plan
from sae_lightning.checking.remake import remake_of
from sae_lightning.inspection.report import Inspection
from sae_lightning.saes import TopK


@pytest.fixture
def sae():
    sae = TopK(8, d_sae=64, k=3)
    sae.initialise(0, torch.randn(100, 8))
    return sae


def limits(sae, controls=None, stated=(), trained=None, l0_off=0.001, draws=3):
    sae.provenance = {"imported": {"stated": dict(stated)}}
    inspection = Mock(spec=Inspection, stated=dict(stated))
    inspection.disagreements.return_value = ["l0 is 52, stated 32"]
    one = Mock(spec=CheckedSAE, sae=sae, inspection=inspection)
    panel = {"controls": controls_named(controls, [sae]), "control_samples": 512, "policies": policies_for(sae)}
    panel["draws"] = draws
    remake = remake_of(sae, 3.0, trained) if trained else None
    plan = Mock(spec=Plan, panel=panel, remake=remake, notes=("Memory is short.",))
    return limits_of(plan, one, {"random_encoder": {"label": "random encoder", "l0_off": l0_off}})


def test_without_training(sae):
    said = limits(sae, stated={"tokens": 819_200, "dataset": "the Pile"})
    assert said[0] == "It may be read wrong: l0 is 52, stated 32."
    assert said[-1] == "Memory is short."
    assert "It was trained on 819,200 activations, and its controls are made from 512." in said
    assert "Of principal components and raw dimensions there are 16 latents, and of the SAE 64." in said
    assert "The l0 of controls is that of the SAE within 0.1%." in said
    assert any(one.startswith("Nothing was trained") for one in said)
    assert not any("null data" in one or "on which text" in one for one in said)


def test_with_training(sae):
    said = " ".join(limits(sae, trained=4096, stated={"tokens": 819_200}))
    assert "null data are left out" in said
    assert "saw 4,096 activations; how many the published SAE saw: 819,200 activations." in said
    assert "Nothing was trained" not in said
    assert "published SAE saw: not stated" in " ".join(limits(sae, trained=4096))


def test_only_what_concerns_the_controls_that_there_are(sae):
    said = " ".join(limits(sae, ["permuted_decoder"], {"tokens": 100}, l0_off=-0.05))
    assert "random encoders" not in said
    assert "there are" not in said
    assert "was trained on" not in said.replace("on which text it was trained", "")
    assert "within 5.0%; the farthest is random encoder." in said


def test_two_draws_are_few():
    sae = TopK(8, d_sae=64, k=3)
    assert any("take --draws 3 or more" in one for one in limits(sae, draws=2))
    assert not any("--draws" in one for one in [*limits(sae, ["raw_dimensions"], draws=2), *limits(sae)])
