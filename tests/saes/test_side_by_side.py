import copy

import pytest
import torch

from sae_lightning.saes import TopK, side_by_side

D_IN, BATCH = 8, 64


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def saes():
    saes = [TopK(D_IN, d_sae=32, k=4, seed=seed) for seed in range(3)]
    saes[1].W_dec.requires_grad_(False)
    return saes


def one_after_the_other(saes, x, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(side_by_side, "world_size", lambda: 2)
        return side_by_side.losses_of(saes, x, 0)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_losses_and_gradients_are_those_of_one_after_the_other(saes, precision, monkeypatch):
    others, x = copy.deepcopy(saes), torch.randn(BATCH, D_IN)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
        got, wanted = side_by_side.losses_of(saes, x, 0), one_after_the_other(others, x, monkeypatch)
    assert [losses["loss"].item() for losses in got] == [losses["loss"].item() for losses in wanted]
    assert [list(losses) for losses in got] == [list(losses) for losses in wanted]
    for losses in got, wanted:
        (3 * sum(loss["loss"] for loss in losses)).backward()
    for sae, other in zip(saes, others, strict=True):
        assert torch.equal(sae.samples_since_fired, other.samples_since_fired)
        for left, right in zip(sae.parameters(), other.parameters(), strict=True):
            assert (left.grad is None) == (right.grad is None)
            if left.grad is not None:
                torch.testing.assert_close(left.grad, right.grad)
    assert saes[1].W_dec.grad is None


def test_they_run_in_other_threads_and_leave_this_one_as_it_is(saes, monkeypatch):
    seen, original = [], TopK.losses
    monkeypatch.setattr(TopK, "losses", lambda *args: seen.append(torch.get_num_threads()) or original(*args))
    side_by_side.losses_of(saes, torch.randn(BATCH, D_IN), 0)
    assert seen == [1, 1, 1]
    assert torch.get_num_threads() == 2


def test_an_error_in_one_of_them_is_raised_here(saes, monkeypatch):
    def fail(*args):
        raise ValueError("no such luck")

    monkeypatch.setattr(saes[2], "losses", fail)
    with pytest.raises(ValueError, match="no such luck"):
        side_by_side.losses_of(saes, torch.randn(BATCH, D_IN), 0)
