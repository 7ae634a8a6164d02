import pytest
import torch

from sae_lightning.evaluators import Recovery


def test_the_true_dictionary_recovers_all_and_a_random_one_is_at_chance(panel, data, trainer):
    for seed, sae in enumerate(panel.members.values()):
        sae.initialise(seed + 1)
    panel.members["trained/0"].W_dec.data[:10] = data.source.features
    run = trainer(Recovery(threshold=0.97))
    run.validate(panel, data, verbose=False)
    logged = {name: value.item() for name, value in run.callback_metrics.items()}
    assert logged["val/recovery_at_0.97/trained/0"] == 1
    assert logged["val/mean_best_cosine/trained/0"] == pytest.approx(1, abs=1e-6)
    floor = logged["val/mean_best_cosine/floor"]
    assert 0.6 < floor < 0.9  # 24 directions in 6 dimensions
    assert logged["val/mean_best_cosine/frozen_decoder/0"] == pytest.approx(floor, abs=0.1)
    assert 0 <= logged["val/recovery_at_0.97/floor"] < 0.5


def test_chance_is_measured_once_and_takes_nothing_from_the_global_random_state(panel, data, trainer, monkeypatch):
    for sae in panel.members.values():
        sae.initialise(0)
    evaluator, run = Recovery(), trainer()
    run.datamodule = data
    before = torch.get_rng_state()
    first = evaluator.scores(run, panel, "val")["mean_best_cosine"].floor
    assert torch.equal(before, torch.get_rng_state())
    monkeypatch.setattr("sae_lightning.evaluators.recovery.Isotropic", None)
    assert evaluator.scores(run, panel, "val")["mean_best_cosine"].floor == first


def test_data_without_features_are_refused(panel, data, trainer):
    del data.source.features
    with pytest.raises(ValueError, match="Recovery needs data whose true features are known, and data=Activations"):
        trainer(Recovery()).fit(panel, data)


@pytest.mark.parametrize("threshold", [0.0, 1.0, 80.0])
def test_the_threshold_is_a_cosine(threshold):
    with pytest.raises(ValueError, match=f"threshold={threshold}: expected a cosine between 0 and 1"):
        Recovery(threshold)
