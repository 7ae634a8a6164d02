import math
from itertools import islice

import pytest
import torch

from sae_lightning.code import Code
from sae_lightning.datamodules import SyntheticDataModule
from sae_lightning.evaluators import Recovery
from sae_lightning.freeze import FrozenDecoder, FrozenEncoder, NoFreeze
from sae_lightning.members import Member
from sae_lightning.panel import SanityPanel
from sae_lightning.saes import TopK, TrueFeatures
from sae_lightning.sources import ConstantProbability, ShuffledHooks

D_IN, D_SAE = 6, 24  # of conftest.py


def test_the_true_dictionary_recovers_all_and_a_random_one_is_at_chance(panel, data, trainer):
    for seed, sae in enumerate(panel.members.values()):
        sae.initialise(seed + 1)
    panel.members[Member("trained", 0)].W_dec.data[:10] = data.source.features
    run = trainer(Recovery(threshold=0.97))
    run.validate(panel, data, verbose=False)
    logged = {name: value.item() for name, value in run.callback_metrics.items()}
    cosines = {f"{kind}_cosine{sign}" for kind in ("mean_best", "matched") for sign in ("", "_absolute")}
    curves = {"floor", *panel.members}
    assert set(logged) == {
        f"val/{metric}/{curve}" for metric in {"recovery_at_0.97", "uniqueness", *cosines} for curve in curves
    }
    for metric in cosines:
        assert logged[f"val/{metric}/trained/0"] == pytest.approx(1, abs=1e-6)
        assert 0.5 < logged[f"val/{metric}/floor"] < 0.97
        assert logged[f"val/{metric}/frozen_decoder/0"] == pytest.approx(logged[f"val/{metric}/floor"], abs=0.1)
    for metric in ("mean_best_cosine", "matched_cosine"):
        for curve in ("frozen_decoder/0", "floor"):
            assert logged[f"val/{metric}_absolute/{curve}"] > logged[f"val/{metric}/{curve}"]
    assert logged["val/uniqueness/trained/0"] == pytest.approx(10 / 24)
    assert logged["val/uniqueness/floor"] > 0
    assert logged["val/recovery_at_0.97/trained/0"] == 1
    floor = logged["val/mean_best_cosine/floor"]
    assert 0.6 < floor < 0.9  # 24 directions in 6 dimensions
    assert 0 <= logged["val/recovery_at_0.97/floor"] < 0.5


def test_a_transcoder_is_compared_with_what_it_reads_and_what_it_writes(trainer):
    data = SyntheticDataModule(
        ConstantProbability(0.2), D_IN, 10, batch_size=16, train_samples=160, val_samples=160, d_answer=5,
        nulls={"noise": ShuffledHooks()},
    )  # fmt: skip
    x, _ = data.source.sample(4)
    assert (data.hook_widths, x.shape) == ({"read": D_IN, "answer": 5}, (4, D_IN + 5))
    for part in data.source.features.split([D_IN, 5], 1):
        torch.testing.assert_close(part.norm(dim=1), torch.ones(10))
    panel = SanityPanel(
        data.d_in,
        lambda d_in, d_out: TopK(d_in, d_sae=D_SAE, k=3, d_out=d_out),
        {"oracle": FrozenDecoder(), "frozen_encoder": FrozenEncoder(), "shuffled": NoFreeze()},
        {"oracle": TrueFeatures(), "shuffled": TrueFeatures()},
        widths=data.widths,
        targets={"read": "answer", "noise_read": "noise_answer"},
    )
    evaluator = Recovery()
    run = trainer(evaluator, max_steps=1)
    run.fit(panel, data)
    panel.members[Member("shuffled", 0, "read")].W_dec.data[:10] = data.source.features[:, D_IN:].roll(1, 0)
    run.validate(panel, data, verbose=False)

    def logged(metric, policy):
        return run.callback_metrics[f"val/{metric}@read/{policy}/0"].item()

    for metric in ("mean_best_cosine", "matched_cosine", "recovery_at_0.8"):
        assert logged(metric, "oracle") == logged(metric, "shuffled") == pytest.approx(1, abs=1e-5)
    assert logged("same_latent_reads_and_writes", "oracle") == 1
    assert logged("same_latent_reads_and_writes", "shuffled") == 0
    assert logged("mean_best_cosine_read", "oracle") > 0.99
    assert logged("mean_best_cosine_read", "frozen_encoder") < 0.95
    of_null = run.callback_metrics["val/mean_best_cosine@noise_read/oracle/0"].item()
    assert of_null == pytest.approx(1, abs=1e-5), "of a null the features are those of the data, side by side"
    floors = {scores.metric.name: scores.floor for scores in evaluator.scores(run, panel, "val")}
    assert floors["same_latent_reads_and_writes"][Member("oracle", 0, "read")] == 1 / D_SAE


def floor_of(evaluator, run, panel):
    """Return the floor of mean_best_cosine."""
    floors = {scores.metric.name: scores.floor for scores in evaluator.scores(run, panel, "val")}
    return floors["mean_best_cosine"]


def test_chance_is_measured_once_and_takes_nothing_from_the_global_random_state(panel, data, trainer, monkeypatch):
    for sae in panel.members.values():
        sae.initialise(0)
    evaluator, run = Recovery(), trainer()
    run.datamodule = data
    evaluator.setup(run, panel, "validate")
    before = torch.get_rng_state()
    first = floor_of(evaluator, run, panel)
    assert torch.equal(before, torch.get_rng_state())
    monkeypatch.setattr("sae_lightning.evaluators.recovery.random_dictionaries", None)
    assert floor_of(evaluator, run, panel) == first


def test_intervals_are_over_features_and_for_firings_over_latents(panel, synthetic, trainer):
    for seed, sae in enumerate(panel.members.values()):
        sae.initialise(seed + 1)
    panel.members[Member("trained", 0)].W_dec.data[:10] = synthetic.source.features
    run = trainer(evaluator := Recovery(threshold=0.97))
    run.validate(panel, synthetic, verbose=False)
    with_items = {name: scores for name, scores in evaluator.measured.items() if scores.items}
    assert set(with_items) == {"recovery_at_0.97", "mean_best_cosine", "matched_cosine", "firing_f1"}
    for name, scores in with_items.items():
        assert scores.items.paired == (name != "firing_f1")
        for member, values in scores.items.numerators.items():
            assert len(values) == len(synthetic.source.features) if scores.items.paired else len(values) <= D_SAE
            assert float(values.mean()) == pytest.approx(float(scores.members[member]))
    assert with_items["recovery_at_0.97"].items.numerators[Member("trained", 0)].tolist() == [1.0] * 10


def test_data_without_features_are_refused(panel, data, trainer):
    del data.source.features
    with pytest.raises(ValueError, match="Recovery needs data whose true features are known, and data=Activations"):
        trainer(Recovery()).fit(panel, data)


def test_firings_are_compared_with_the_true_codes_of_the_same_samples(panel, synthetic, trainer):
    features = synthetic.source.features
    for seed, sae in enumerate(panel.members.values()):
        sae.initialise(seed + 1)
    panel.members[Member("trained", 0)].W_dec.data[:10] = features
    run = trainer(Recovery())
    run.fit(panel, synthetic)  # with a sanity check and several validations before
    x, codes = torch.cat(list(synthetic.val_dataloader())), list(islice(synthetic.val_codes(), 10))
    truth = torch.cat([code.to_dense() for code in codes]) != 0
    for member, sae in panel.members.items():
        fires = sae.encode(x).to_dense() != 0
        of_latent = truth[:, (sae.W_dec.detach() @ features.T).argmax(1)]
        both = (fires & of_latent).sum(0).double()
        expected = {
            "firing_precision": both / fires.sum(0),
            "firing_recall": both / of_latent.sum(0),
            "firing_f1": 2 * both / (fires.sum(0) + of_latent.sum(0)),
        }
        for metric, values in expected.items():
            logged = run.callback_metrics[f"val/{metric}/{member}"].item()
            assert logged == pytest.approx(values[values.isfinite()].mean().item(), abs=1e-6)
            assert run.callback_metrics[f"val/{metric}/floor"] == 0
    assert 0.1 < run.callback_metrics["val/firing_f1/trained/0"] < 0.9


def test_a_perfect_sae_fires_perfectly(sae, synthetic, trainer, monkeypatch):
    sae.W_dec.data[:10] = synthetic.source.features
    sae.W_dec.data[10:] = synthetic.source.features[:1]
    codes = islice(synthetic.val_codes(), 10)

    def encode(x):  # the true code, and latents of no feature of their own as copies of the first
        dense = next(codes).to_dense()
        return Code.from_dense(torch.cat([dense, dense[:, :1].expand(-1, D_SAE - 10)], 1))

    monkeypatch.setattr(sae, "encode", encode)
    run = trainer(Recovery())
    run.validate(sae, synthetic, verbose=False)
    for metric in ("firing_precision", "firing_recall", "firing_f1"):
        assert run.callback_metrics[f"val/{metric}/trained/0"] == 1


def test_an_sae_that_does_nothing_scores_the_floors_of_firing(sae, synthetic, trainer):
    sae.b_enc.data.fill_(-1e3)
    run = trainer(Recovery())
    with pytest.warns(UserWarning, match=r"firing_precision is withheld \(nan\): it fires on nothing that it could"):
        run.validate(sae, synthetic, verbose=False)
    logged = [run.callback_metrics[f"val/firing_{name}/trained/0"].item() for name in ("precision", "recall", "f1")]
    assert math.isnan(logged[0])  # it claims nothing
    assert logged[1:] == [0, 0]


def test_true_codes_of_other_batches_are_refused(sae, synthetic, trainer, monkeypatch):
    codes = synthetic.source.sample(15)[1]
    monkeypatch.setattr(synthetic, "val_codes", lambda: iter([codes]))
    with pytest.raises(ValueError, match="code has 16 samples and true_code 15: expected the same samples"):
        trainer(Recovery()).validate(sae, synthetic, verbose=False)


def test_matchings_that_would_take_hours_are_left_out(sae, data, trainer, monkeypatch):
    monkeypatch.setattr("sae_lightning.evaluators.recovery.LARGEST_MATCHING", 23)
    run = trainer(Recovery())
    run.validate(sae, data, verbose=False)
    assert "val/uniqueness/trained/0" in run.callback_metrics
    assert not any("matched" in name for name in run.callback_metrics)


@pytest.mark.parametrize("threshold", [0.0, 1.0, 80.0])
def test_the_threshold_is_a_cosine(threshold):
    with pytest.raises(ValueError, match=f"threshold={threshold}: expected a number above 0 and below 1, a cosine"):
        Recovery(threshold)
