import pytest
import torch
from torch.nn.functional import cosine_similarity

from sae_lightning.evaluators import Reconstruction


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
    from sae_lightning.saes import TopK

    sae = TopK(6, k=2, d_sae=12)
    sae.initialise(0)
    run = trainer(Reconstruction())
    run.test(sae, data, verbose=False)
    assert torch.isfinite(run.callback_metrics["test/fvu/trained/0"])
