from functools import partial

import pytest
import torch
from torch.nn.functional import cosine_similarity

from sae_lightning.datamodules import SyntheticDataModule
from sae_lightning.evaluators import Reconstruction
from sae_lightning.freeze import FrozenDecoder, NoFreeze
from sae_lightning.panel import SanityPanel
from sae_lightning.saes import TopK
from sae_lightning.sources import ConstantProbability, GaussianMatched, RandomRotation


@pytest.mark.usefixtures("plain_or_fast")
def test_values_are_those_of_the_whole_set(panel, data, trainer):
    run = trainer(Reconstruction())
    run.fit(panel, data)
    run.validate(panel, data, verbose=False)
    x = data.x.double()
    for name, sae in panel.members.items():
        x_hat = sae(data.x).double()
        fvu = (x - x_hat).square().sum() / (x - x.mean(0)).square().sum()
        expected = {
            "explained_variance": 1 - fvu,
            "fvu": fvu,
            "cosine": cosine_similarity(x, x_hat).mean(),
            "relative_norm": (x_hat.norm(dim=1) / x.norm(dim=1)).mean(),
        }
        logged = {metric: run.callback_metrics[f"val/{metric}/{name}"] for metric in expected}
        assert {metric: value.item() for metric, value in logged.items()} == pytest.approx(
            {metric: value.item() for metric, value in expected.items()}, rel=1e-6
        )


def test_an_sae_that_does_nothing_scores_the_floors(panel, data, trainer):
    for sae in panel.members.values():
        sae.initialise(0)
        sae.b_enc.data.fill_(-1e3)  # no latent fires
        sae.b_dec.data.copy_(data.x.mean(0))
    run = trainer(Reconstruction())
    run.validate(panel, data, verbose=False)
    for metric in ("explained_variance", "fvu", "cosine", "relative_norm"):
        floor = run.callback_metrics[f"val/{metric}/floor"].item()
        for name in panel.members:
            assert run.callback_metrics[f"val/{metric}/{name}"].item() == pytest.approx(floor, abs=1e-6)
    assert run.callback_metrics["val/explained_variance/floor"] == 0
    assert run.callback_metrics["val/cosine/floor"] > 0.5  # these data have a mean


def test_a_lone_sae_is_a_member(data, trainer):
    sae = TopK(6, k=2, d_sae=12)
    sae.initialise(0)
    run = trainer(Reconstruction())
    run.test(sae, data, verbose=False)
    assert torch.isfinite(run.callback_metrics["test/fvu/trained/0"])


@pytest.fixture
def with_nulls():
    nulls = {"gaussian": GaussianMatched(), "rotated": RandomRotation()}
    sizes = {"batch_size": 16, "train_samples": 32, "val_samples": 160}
    return SyntheticDataModule(ConstantProbability(0.2), 6, 10, **sizes, nulls=nulls)


def test_what_is_explained_beyond_a_null_is_the_difference_of_the_same_policy_and_seed(with_nulls, trainer):
    policies = {"trained": NoFreeze(), "frozen_decoder": FrozenDecoder()}
    small = partial(TopK, k=3, d_sae=24)
    panel = SanityPanel(with_nulls.d_in, small, policies, seeds=[0, 1], widths=with_nulls.widths)
    evaluator = Reconstruction()
    run = trainer(evaluator)
    run.fit(panel, with_nulls)
    values = {name.removeprefix("val/"): value.item() for name, value in run.callback_metrics.items()}
    real = [member for member in panel.members if not member.part]
    assert len(panel.members) == 3 * len(real) == 12
    for null in ("gaussian", "rotated"):
        metric = f"explained_variance_beyond_{null}"
        for member in real:
            difference = values[f"explained_variance/{member}"] - values[f"explained_variance@{null}/{member}"]
            assert values[f"{metric}/{member}"] == pytest.approx(difference, abs=1e-6)
            assert difference != 0
        assert {name for name in values if metric in name} == {f"{metric}/{curve}" for curve in (*real, "floor")}
        assert values[f"{metric}/floor"] == 0
        assert evaluator.measured[metric].metric.better == "higher"


def test_a_lone_sae_is_not_trained_on_activations_and_nulls_as_one(with_nulls, trainer):
    with pytest.raises(ValueError, match=r"data.nulls=gaussian, rotated: a lone SAE would .* take a SanityPanel"):
        trainer().fit(TopK(with_nulls.d_in, k=3, d_sae=24), with_nulls)
