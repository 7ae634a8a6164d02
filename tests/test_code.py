import pytest
import torch

from sae_lightning.code import Code, FullCode, sum_in_order


def random_code(batch=7, d_sae=11, share=0.3):
    dense = torch.randn(batch, d_sae) * (torch.rand(batch, d_sae) < share)
    return dense, Code.from_dense(dense)


def test_dense_round_trip_with_empty_rows():
    dense, code = random_code(share=0.1)
    dense[3] = 0
    code = Code.from_dense(dense)
    assert torch.equal(code.to_dense(), dense)
    assert code.nnz == dense.count_nonzero()
    assert torch.equal(code.rows, dense.nonzero()[:, 0])


def test_counts_ignore_explicit_zeros():
    code = Code.from_rows(torch.tensor([[1.0, 0.0], [2.0, 3.0]]), torch.tensor([[4, 1], [1, 0]]), 5)
    assert code.l0().tolist() == [1, 2]
    assert code.firing_counts().tolist() == [1, 1, 0, 0, 1]


def test_rows_match_offsets_however_the_code_was_made():
    dense, code = random_code()
    fresh = Code(code.values, code.indices, code.offsets, code.d_sae)
    assert torch.equal(fresh.rows, code.rows)


def test_sums_without_atomics_are_those_of_each_latent():
    dense, code = random_code()
    values = torch.randn(code.nnz, dtype=torch.float64)
    torch.testing.assert_close(sum_in_order(values, *code.by_latent), code.sum_by_latent(values))
    empty = Code.from_dense(torch.zeros(3, 4))
    assert sum_in_order(empty.values, *empty.by_latent).tolist() == [0.0] * 4


@pytest.mark.cuda
def test_sums_on_a_gpu_are_the_same_every_time():
    code = Code.from_dense(torch.rand(4096, 50, device="cuda"))
    sums = {tuple(code.sum_by_latent(code.values).tolist()) for _ in range(20)}
    assert len(sums) == 1


def test_by_latent_sorts_entries_by_latent():
    dense, code = random_code()
    order, starts = code.by_latent
    assert torch.equal(order, code.indices.argsort(stable=True))
    for latent in range(code.d_sae):
        entries = order[starts[latent] : starts[latent + 1]]
        assert (code.indices[entries] == latent).all()
        assert torch.equal(code.values[entries].sort().values, dense[:, latent][dense[:, latent] != 0].sort().values)


@pytest.mark.parametrize("batch", [0, 3])
def test_no_entries(batch):
    code = Code.from_dense(torch.zeros(batch, 5))
    assert code.batch_size == batch
    assert code.nnz == 0
    assert code.l0().tolist() == [0] * batch
    assert code.to_dense().shape == (batch, 5)


def test_codes_of_the_same_entries_share_their_order_whoever_needs_it_first():
    _, code = random_code()
    other = code.with_values(code.values * 2)
    assert code.by_latent is other.by_latent
    assert code.rows is other.with_values(code.values).rows
    assert torch.equal(other.to_dense(), code.to_dense() * 2)


def test_rows_taken_and_joined():
    dense, code = random_code(share=0.2)
    rows = torch.tensor([6, 0, 3, 3])
    assert torch.equal(code.take(rows).to_dense(), dense[rows])
    assert code.take(rows[:0]).to_dense().shape == (0, 11)
    assert torch.equal(Code.join([code, code.take(rows)]).to_dense(), torch.cat([dense, dense[rows]]))


@pytest.mark.parametrize("kind", ["sparse", "full"])
def test_columns_are_those_of_the_dense_matrix(kind):
    dense, code = random_code()
    code = FullCode(dense) if kind == "full" else code
    latents = torch.tensor([9, 0, 4])
    assert torch.equal(code.columns(latents), dense[:, latents])
    assert code.columns(latents[:0]).shape == (len(dense), 0)
