import pytest
import torch

from sae_lightning.kernels import PreActs, entries_above, largest_per_row, select, top_k_of_batch, top_k_per_row


def given(dense):
    """Pre-activations with these values, to the bit."""
    return PreActs(dense, torch.eye(dense.shape[1]), torch.zeros(dense.shape[1]), screen=False)


WIDTHS = [40, 2048]  # below and above the width from which buckets are used


@pytest.mark.parametrize("d_sae", WIDTHS)
@pytest.mark.parametrize("threshold", [-10.0, 0.0, 1.5, 10.0])
def test_entries_above(d_sae, threshold):
    pre_acts = torch.randn(9, d_sae)
    code = entries_above(given(pre_acts), threshold)
    assert torch.equal(code.to_dense(), pre_acts * (pre_acts > threshold))


@pytest.mark.parametrize("d_sae", WIDTHS)
def test_entries_above_is_strict(d_sae):
    pre_acts = torch.ones(2, d_sae)
    assert entries_above(given(pre_acts), 1.0).nnz == 0
    pre_acts[1, 3] = 2.0  # equal entries beside it, in its bucket too
    assert entries_above(given(pre_acts), 1.0).to_dense().nonzero().tolist() == [[1, 3]]


@pytest.mark.parametrize(("d_sae", "k"), [(40, 1), (40, 5), (40, 40), (2048, 1), (2048, 40), (2048, 200), (2048, 2048)])
def test_top_k_per_row(d_sae, k):
    pre_acts = torch.randn(9, d_sae)
    kept = torch.zeros_like(pre_acts).scatter(1, pre_acts.topk(k).indices, 1.0)
    assert torch.equal(top_k_per_row(given(pre_acts), k).to_dense(), (pre_acts * kept).relu())


@pytest.mark.parametrize("d_sae", WIDTHS)
def test_top_k_per_row_with_ties_and_zero_rows(d_sae):
    pre_acts = torch.ones(3, d_sae)
    pre_acts[1] = 0
    code = top_k_per_row(given(pre_acts), 4)
    assert code.l0().tolist() == [4, 0, 4]
    assert len(set(code.indices[:4].tolist())) == 4


@pytest.mark.parametrize("d_sae", WIDTHS)
@pytest.mark.parametrize("guess", [0.0, 0.5, 100.0])
def test_top_k_of_batch_whatever_the_guess(d_sae, guess):
    pre_acts = torch.randn(9, d_sae)
    code = top_k_of_batch(given(pre_acts), 6, guess)
    smallest = pre_acts.flatten().topk(54).values.min()
    assert torch.equal(code.to_dense(), pre_acts * (pre_acts >= smallest))


def test_top_k_of_batch_takes_ties_from_the_first_rows():
    code = top_k_of_batch(given(torch.ones(4, 8)), 3)
    assert code.l0().tolist() == [8, 4, 0, 0]


def test_top_k_of_batch_keeps_positive_entries_only():
    pre_acts = -torch.ones(4, 8)
    pre_acts[2, 3] = 1.0
    assert top_k_of_batch(given(pre_acts), 3).to_dense().nonzero().tolist() == [[2, 3]]
    assert top_k_of_batch(given(-torch.ones(4, 8)), 3).nnz == 0


@pytest.mark.parametrize(("d_sae", "k"), [(40, 5), (2048, 1), (2048, 40), (2048, 200)])
def test_top_k_of_a_block_as_on_a_gpu(d_sae, k):
    block = torch.randn(9, d_sae)
    values, indices = select._top_k_of_block(block, k)
    assert torch.equal(block.gather(1, indices), values)
    assert torch.equal(values.sort(descending=True).values, block.topk(k).values)


@pytest.mark.parametrize(("d_sae", "k"), [(40, 1), (40, 40), (2048, 1), (2048, 50), (2048, 1500)])
@pytest.mark.parametrize("shift", [-10.0, 0.0])
def test_largest_per_row_negative_ones_included(d_sae, k, shift):
    pre_acts = torch.randn(9, d_sae) + shift
    values, indices = largest_per_row(given(pre_acts), k)
    assert torch.equal(pre_acts.gather(1, indices), values)
    assert torch.equal(values.sort(descending=True).values, pre_acts.topk(k).values)


@pytest.mark.parametrize("k", [1, 3, 20])
def test_largest(k):
    matrix = torch.randn(7, 20)
    matrix[2] = 0.0  # all equal
    values, places = select.largest(matrix, k)
    assert torch.equal(matrix.gather(1, places), values)
    assert torch.equal(values.sort(descending=True).values, matrix.topk(k).values)
    assert all(len(set(row)) == k for row in places.tolist())
