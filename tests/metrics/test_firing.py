import numpy as np
import pytest
import torch

from sae_lightning.code import Code, FullCode
from sae_lightning.metrics import FiringMatch

N, D_SAE, N_FEATURES = 50, 9, 7


@pytest.fixture
def dense():
    """Latents and true coefficients; latent 0 and feature 0 never fire, nor do latent 1 and its feature 1."""
    random = np.random.default_rng(0)
    latents = random.uniform(0.1, 1, (N, D_SAE)) * (random.random((N, D_SAE)) < 0.3)
    truth = random.uniform(0.1, 1, (N, N_FEATURES)) * (random.random((N, N_FEATURES)) < 0.3)
    latents[:, [0, 1]] = truth[:, [0, 1]] = 0
    return torch.from_numpy(latents).float(), torch.from_numpy(truth).float()


MATCH = torch.tensor([4, 1, 0, 2, 2, 3, 4, 5, 6])


def expected(latents, truth):
    fires, of_latent = latents.numpy() != 0, truth.numpy()[:, MATCH.numpy()] != 0
    both, claimed, there = (fires & of_latent).sum(0), fires.sum(0), of_latent.sum(0)
    with np.errstate(invalid="ignore"):
        return {"precision": both / claimed, "recall": both / there, "f1": 2 * both / (claimed + there)}


def assert_scores(metric, latents, truth):
    computed = metric.compute()
    for name, values in expected(latents, truth).items():
        assert computed[name].dtype == torch.float64
        torch.testing.assert_close(computed[name], torch.from_numpy(values), rtol=0, atol=1e-12, equal_nan=True)


def test_scores_are_those_of_dense_counts(dense):
    latents, truth = dense
    metric = FiringMatch(N_FEATURES, MATCH)
    metric.update(Code.from_dense(latents), Code.from_dense(truth))
    assert_scores(metric, latents, truth)
    scores = {name: values.tolist() for name, values in metric.compute().items()}
    assert [scores["recall"][0], scores["f1"][0]] == [0, 0]  # a dead latent whose feature fires
    assert np.isnan([scores["precision"][0], scores["precision"][1], scores["recall"][1], scores["f1"][1]]).all()
    assert np.isnan(scores["recall"][2])  # a feature that never fires, of a latent that does
    assert [scores["precision"][2], scores["f1"][2]] == [0, 0]


def test_two_batches_are_one(dense):
    latents, truth = dense
    metric = FiringMatch(N_FEATURES, MATCH)
    for part in (slice(0, 13), slice(13, None)):
        metric.update(Code.from_dense(latents[part]), Code.from_dense(truth[part]))
    assert_scores(metric, latents, truth)


def test_ranks_are_summed(dense):
    latents, truth = dense
    ranks = [FiringMatch(N_FEATURES, MATCH) for _ in range(2)]
    for metric, part in zip(ranks, (slice(0, 13), slice(13, None)), strict=True):
        metric.update(Code.from_dense(latents[part]), Code.from_dense(truth[part]))
    assert set(ranks[0]._reductions) == {"latent_counts", "feature_counts", "both_counts"}
    for name, reduce in ranks[0]._reductions.items():
        setattr(ranks[0], name, reduce(torch.stack([getattr(metric, name) for metric in ranks])))
    assert_scores(ranks[0], latents, truth)


def test_explicit_zeros_never_fire(dense):
    latents, truth = dense
    metric = FiringMatch(N_FEATURES, MATCH)
    metric.update(FullCode(latents), FullCode(truth))
    assert_scores(metric, latents, truth)


def test_a_perfect_code_scores_one(dense):
    _, truth = dense
    metric = FiringMatch(N_FEATURES, torch.arange(N_FEATURES))
    metric.update(Code.from_dense(3 * truth), Code.from_dense(truth))
    for values in metric.compute().values():
        assert values[2:].tolist() == [1.0] * (N_FEATURES - 2)
        assert values[:2].isnan().all()


def test_a_reset_forgets(dense):
    latents, truth = dense
    metric = FiringMatch(N_FEATURES, MATCH)
    metric.update(Code.from_dense(truth[:, MATCH]), Code.from_dense(truth))
    metric.reset()
    metric.update(Code.from_dense(latents), Code.from_dense(truth))
    assert_scores(metric, latents, truth)


def test_other_samples_are_refused(dense):
    latents, truth = dense
    with pytest.raises(ValueError, match="code has 50 samples and true_code 49: expected the same samples"):
        FiringMatch(N_FEATURES, MATCH).update(Code.from_dense(latents), Code.from_dense(truth[1:]))


@pytest.mark.parametrize("wrong", [-1, 7])
def test_a_match_is_a_feature(wrong):
    with pytest.raises(ValueError, match=f"match has values from .*{wrong}.*: expected features, 0 to 6"):
        FiringMatch(N_FEATURES, torch.tensor([3, wrong]))
