import os

import numpy as np
import pytest
import torch
from fit_in_server import call
from sklearn.metrics import r2_score

from sae_lightning.metrics import CosineSimilarity, ExplainedVariance, MeanPrediction, RelativeNorm
from sae_lightning.metrics.functional import moments_merge, moments_update


def data(n=300, d_in=6, offset=1.0, seed=0):
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d_in, generator=random) * torch.arange(1.0, d_in + 1) + offset
    return x, x + 0.5 * torch.randn(n, d_in, generator=random)


def explained_variance(x, x_hat, batches=1):
    metric = ExplainedVariance(x.shape[1])
    for part in zip(x.tensor_split(batches), x_hat.tensor_split(batches), strict=True):
        metric.update(*part)
    return metric.compute()


def test_explained_variance_of_the_extremes():
    x, _ = data()
    mean = x.double().mean(0).expand_as(x)
    assert explained_variance(x, x) == 1
    assert explained_variance(x.double(), mean).item() == pytest.approx(0, abs=1e-12)
    assert explained_variance(x, -5 * x) < -1  # never clamped


def test_explained_variance_is_sklearns_r2_weighted_by_variance():
    x, x_hat = data()
    expected = r2_score(x.double().numpy(), x_hat.double().numpy(), multioutput="variance_weighted")
    assert explained_variance(x, x_hat).item() == pytest.approx(expected, abs=1e-9)


def test_explained_variance_centres_each_dimension():
    # One offset per dimension must not count as variance, as it would about the scalar mean.
    x, x_hat = data(offset=torch.arange(6) * 100.0)
    expected = 1 - (x - x_hat).double().square().mean(0).sum() / x.double().var(0, correction=0).sum()
    assert explained_variance(x, x_hat).item() == pytest.approx(expected.item(), abs=1e-9)


def test_a_constant_shift_of_the_reconstruction_lowers_explained_variance():
    x, x_hat = data()
    assert explained_variance(x, x_hat + 1) < explained_variance(x, x_hat) - 0.01


def test_a_constant_shift_of_both_changes_nothing():
    x, x_hat = (t.double() for t in data())
    assert explained_variance(x + 7, x_hat + 7).item() == pytest.approx(explained_variance(x, x_hat).item(), abs=1e-12)


@pytest.mark.parametrize("batches", [2, 7, 300])
def test_explained_variance_does_not_depend_on_batching(batches):
    x, x_hat = data(offset=100.0)
    whole = explained_variance(x, x_hat)
    assert explained_variance(x, x_hat, batches).item() == pytest.approx(whole.item(), abs=1e-11)


def test_a_large_mean_does_not_cancel():
    # In float32, E[x^2] - E[x]^2 has no correct digit left here.
    x, x_hat = data(offset=0.0)
    x, x_hat = x + 1e4 * x.std(), x_hat + 1e4 * x.std()
    residual, spread = x.double().numpy() - x_hat.double().numpy(), x.double().numpy()
    expected = 1 - (residual**2).sum() / ((spread - spread.mean(0)) ** 2).sum()
    assert explained_variance(x, x_hat, 30).item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("constant", [0.0, 0.1, 12345.678])
@pytest.mark.parametrize("n", [1, 7, 1000])
def test_without_variance_explained_variance_is_nan(constant, n):
    x = torch.full((n, 5), constant, dtype=torch.float64) / 3
    assert explained_variance(x, x + 1, batches=min(n, 7)).isnan()


def test_the_smallest_variance_in_float32_counts():
    x = torch.full((1000, 5), 1.0)
    x[0, 0] += 1e-7
    assert explained_variance(x, x) == 1


def test_an_empty_batch_changes_nothing_and_no_data_give_nan():
    x, x_hat = data()
    metric = ExplainedVariance(6)
    metric.update(x[:0], x_hat[:0])
    assert metric.compute().isnan()
    metric.update(x, x_hat)
    assert metric.compute() == explained_variance(x, x_hat)


def test_half_precision_inputs_under_autocast_are_summed_as_they_would_be_in_float64():
    x, x_hat = (t.bfloat16() for t in data(offset=50.0))
    expected = explained_variance(x.double(), x_hat.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert explained_variance(x, x_hat, 5).item() == pytest.approx(expected.item(), abs=1e-8)


def test_cosine_and_relative_norm_of_half_precision_inputs_are_not_rounded():
    x, x_hat = (t.bfloat16() for t in data())
    for metric in (CosineSimilarity(), RelativeNorm()):
        metric.update(x.double(), x_hat.double())
        expected = metric.compute().item()
        metric.reset()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            metric.update(x, x_hat)
        assert metric.compute().item() == pytest.approx(expected, abs=1e-7)


def test_moments_merge_to_those_of_the_union():
    x, _ = data(offset=1e3)
    parts = [moments_update(part) for part in x.split([1, 0, 99, 200])]
    n, deviation, *mean = moments_merge(torch.stack(parts)).tolist()
    assert n == 300
    assert deviation == pytest.approx(x.double().var(0, correction=0).sum().item() * 300, rel=1e-12)
    assert mean == pytest.approx(x.double().mean(0).tolist(), rel=1e-12)


def test_cosine_and_relative_norm_equal_numpy():
    x, x_hat = data()
    cosine, ratio = CosineSimilarity(), RelativeNorm()
    for part in zip(x.tensor_split(4), x_hat.tensor_split(4), strict=True):
        cosine.update(*part)
        ratio.update(*part)
    x, x_hat = x.double().numpy(), x_hat.double().numpy()
    norm, norm_hat = np.linalg.norm(x, axis=1), np.linalg.norm(x_hat, axis=1)
    assert cosine.compute().item() == pytest.approx(((x * x_hat).sum(1) / norm / norm_hat).mean(), abs=1e-7)
    assert ratio.compute().item() == pytest.approx((norm_hat / norm).mean(), abs=1e-12)


@pytest.mark.parametrize("metric", [CosineSimilarity(), RelativeNorm()])
def test_zero_vectors(metric):
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]])
    metric.update(x, torch.tensor([[3.0, 4.0], [5.0, 5.0], [0.0, 0.0]]))
    assert metric.compute() == 0.5  # 1 and 0; x = 0 does not count
    metric.reset()
    metric.update(x[:0], x[:0])
    assert metric.compute().isnan()


@pytest.mark.parametrize("metric", [CosineSimilarity(), RelativeNorm(), ExplainedVariance(2)])
def test_a_reconstruction_that_is_not_a_number_is_not_hidden(metric):
    metric.update(torch.eye(2), torch.tensor([[1.0, 0.0], [torch.nan, 1.0]]))
    assert metric.compute().isnan()


def test_mean_prediction_scores_what_predicting_the_mean_scores():
    x, _ = data(offset=2.0)
    x[5] = 0
    mean = x.double().mean(0).expand_as(x)
    cosine, ratio, floor = CosineSimilarity(), RelativeNorm(), MeanPrediction(6)
    cosine.update(x, mean)
    ratio.update(x, mean)
    for part in x.tensor_split(3):
        floor.update(part)
    floors = floor.compute()
    assert floors["cosine"].item() == pytest.approx(cosine.compute().item(), abs=1e-7)
    assert floors["relative_norm"].item() == pytest.approx(ratio.compute().item(), abs=1e-12)


def test_mean_prediction_of_centred_data_is_zero():
    floor = MeanPrediction(2)
    floor.update(torch.tensor([[1.0, 2.0], [-1.0, -2.0]]))
    assert {name: value.item() for name, value in floor.compute().items()} == {"cosine": 0, "relative_norm": 0}


def _rank(path, shards):
    rank = int(os.environ["LOCAL_RANK"])
    torch.distributed.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
    x, x_hat = data(offset=1e3)
    metrics = [ExplainedVariance(6), CosineSimilarity(), MeanPrediction(6)]
    mine = slice(0, shards) if rank == 0 else slice(shards, None)
    metrics[0].update(x[mine], x_hat[mine])
    metrics[1].update(x[mine], x_hat[mine])
    metrics[2].update(x[mine])
    values = [metrics[0].compute(), metrics[1].compute(), metrics[2].compute()["relative_norm"]]
    torch.save(torch.stack(values), f"{path}.{rank}")
    torch.distributed.destroy_process_group()


def test_two_processes_measure_what_one_does(tmp_path):
    assert call(_rank, tmp_path, str(tmp_path / "store"), 77, ranks=2) == [0, 0]
    x, x_hat = data(offset=1e3)
    metrics = [ExplainedVariance(6), CosineSimilarity(), MeanPrediction(6)]
    metrics[0].update(x, x_hat)
    metrics[1].update(x, x_hat)
    metrics[2].update(x)
    expected = torch.stack([metrics[0].compute(), metrics[1].compute(), metrics[2].compute()["relative_norm"]])
    for rank in range(2):
        torch.testing.assert_close(torch.load(f"{tmp_path}/store.{rank}"), expected, rtol=0, atol=1e-10)
