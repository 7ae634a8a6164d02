import pytest
import torch

from sae_lightning.evaluators import Sparsity

pytestmark = pytest.mark.usefixtures("plain_or_fast")


def test_sparsity_of_every_member_is_that_of_the_whole_set(panel, data, trainer, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        "sae_lightning.evaluators.sparsity.log_histogram",
        lambda trainer, stage, name, member, values: drawn.update({(stage, name, member): values}),
    )
    for sae in panel.members.values():
        sae.initialise(0)
        sae.W_enc.data[:, :8] = 0  # these never fire
        sae.b_enc.data[:8] = -1
    run = trainer(evaluator := Sparsity())
    run.validate(panel, data, verbose=False)
    for member, sae in panel.members.items():
        fires = sae.encode(data.x).to_dense() != 0
        logged = {m: run.callback_metrics[f"val/{m}/{member}"].item() for m in ("l0", "dead_fraction")}
        assert logged == pytest.approx(
            {
                "l0": fires.sum(1).double().mean().item(),
                "dead_fraction": (~fires.any(0)).double().mean().item(),
            }
        )
        assert (
            evaluator.measured["dead_fraction"].items.numerators[member].tolist() == (~fires.any(0)).double().tolist()
        )
        frequencies = fires.double().mean(0)
        histogram = drawn["val", "log10_firing_frequency", member]
        torch.testing.assert_close(histogram, frequencies[frequencies > 0].log10())
    floors = [run.callback_metrics[f"val/{m}/floor"].item() for m in ("l0", "dead_fraction")]
    assert floors == [0, 1]
