import pytest
import torch

from sae_lightning.code import Code
from sae_lightning.metrics import Sparsity


def sparse(n=50, d_sae=12, share=0.2, seed=0):
    random = torch.Generator().manual_seed(seed)
    dense = torch.rand(n, d_sae, generator=random)
    dense[torch.rand(n, d_sae, generator=random) > share] = 0
    dense[:, 3] = 0
    return dense


@pytest.mark.parametrize("batches", [1, 4, 50])
def test_sparsity_equals_that_of_the_dense_matrix(batches):
    dense = sparse()
    metric = Sparsity(12)
    for part in dense.tensor_split(batches):
        metric.update(Code.from_dense(part))
    values = metric.compute()
    fires = dense != 0
    assert values["l0"].item() == pytest.approx(fires.sum(1).double().mean().item())
    assert values["dead_fraction"].item() == pytest.approx((~fires.any(0)).double().mean().item())
    torch.testing.assert_close(values["firing_frequency"], fires.double().mean(0))
    assert values["n_samples"] == 50


def test_explicit_zeros_do_not_fire():
    metric = Sparsity(3)
    metric.update(Code(torch.tensor([1.0, 0.0]), torch.tensor([0, 2]), torch.tensor([0, 2]), 3))
    assert metric.compute()["l0"] == 1
    assert metric.compute()["dead_fraction"].item() == pytest.approx(2 / 3)


def test_doing_nothing_scores_the_floor():
    metric = Sparsity(3)
    metric.update(Code.from_dense(torch.zeros(4, 3)))
    assert (metric.compute()["l0"], metric.compute()["dead_fraction"]) == (0, 1)


def test_no_samples():
    metric = Sparsity(3)
    metric.update(Code.from_dense(torch.zeros(0, 3)))
    values = metric.compute()
    assert values["l0"].isnan()
    assert (values["dead_fraction"], values["n_samples"]) == (1, 0)


def test_two_ranks_merge_by_adding():
    dense = sparse()
    ranks = [Sparsity(12), Sparsity(12)]
    for metric, part in zip(ranks, dense.split([13, 37]), strict=True):
        metric.update(Code.from_dense(part))
    ranks[0].merge_state(ranks[1])
    assert ranks[0].compute()["l0"].item() == pytest.approx((dense != 0).sum(1).double().mean().item())
