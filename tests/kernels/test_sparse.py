import pytest
import torch

from sae_lightning.code import Code
from sae_lightning.kernels import sparse, sparse_decode, sparse_encode, triton_bag

BATCH, D_IN, D_SAE = 6, 5, 13


def leaf(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.fixture(params=["dense", "sparse", "triton"])
def path(request, monkeypatch):
    monkeypatch.setattr(sparse, "DENSE_SHARE", 0.0 if request.param == "dense" else 1.1)
    if request.param == "triton":
        if triton_bag.triton is None:
            pytest.skip("triton is not installed")
        monkeypatch.setattr(sparse, "_gpu_kernels", lambda tensor: triton_bag)


def masks():
    mixed = torch.rand(BATCH, D_SAE) < 0.3
    mixed[2] = False
    return {"mixed": mixed, "empty": torch.zeros(BATCH, D_SAE, dtype=torch.bool), "full": torch.ones(BATCH, D_SAE) > 0}


@pytest.mark.parametrize("mask", masks().values(), ids=masks().keys())
@pytest.mark.usefixtures("path")
def test_gradients_equal_dense_autograd(mask):
    x, W_enc, b_enc, b_dec, W_dec = leaf(BATCH, D_IN), leaf(D_IN, D_SAE), leaf(D_SAE), leaf(D_IN), leaf(D_SAE, D_IN)
    leaves = [x, W_enc, b_enc, b_dec, W_dec]
    target = torch.randn(BATCH, D_IN, dtype=torch.float64)

    centred = x - b_dec
    pre_acts = centred @ W_enc + b_enc
    dense_loss = ((pre_acts * mask) @ W_dec - target).pow(2).sum() + (pre_acts * mask).sum().pow(2)
    expected = torch.autograd.grad(dense_loss, leaves)

    flat = mask.flatten().nonzero()[:, 0]
    code = Code.from_flat(pre_acts.detach().flatten()[flat], flat, BATCH, D_SAE)
    # b_dec takes part through its own argument, so x enters detached from it.
    values = sparse_encode(x - b_dec.detach(), W_enc, b_enc, b_dec, code)
    loss = (sparse_decode(values, code, W_dec) - target).pow(2).sum() + values.sum().pow(2)
    torch.testing.assert_close(loss, dense_loss)
    for got, wanted in zip(torch.autograd.grad(loss, leaves), expected, strict=True):
        torch.testing.assert_close(got, wanted)


@pytest.mark.usefixtures("path")
def test_frozen_matrices_get_no_gradient():
    W_enc, W_dec = leaf(D_IN, D_SAE).detach(), leaf(D_SAE, D_IN).detach()
    b_enc = leaf(D_SAE)
    code = Code.from_dense(torch.rand(BATCH, D_SAE, dtype=torch.float64))
    values = sparse_encode(torch.randn(BATCH, D_IN, dtype=torch.float64), W_enc, b_enc, None, code)
    sparse_decode(values, code, W_dec).sum().backward()
    assert b_enc.grad is not None
    assert W_enc.grad is None
    assert W_dec.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_keep_the_precision_of_the_input(dtype):
    code = Code.from_dense(torch.rand(BATCH, D_SAE).to(dtype))
    values = sparse_encode(torch.randn(BATCH, D_IN), torch.randn(D_IN, D_SAE), torch.zeros(D_SAE), None, code)
    assert values.dtype == torch.float32
    assert sparse_decode(values, code, torch.randn(D_SAE, D_IN)).dtype == torch.float32


def test_dense_products_stay_in_float32_under_autocast(monkeypatch):
    monkeypatch.setattr(sparse, "DENSE_SHARE", 0.0)
    code = Code.from_dense(torch.rand(BATCH, D_SAE))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert sparse_decode(code.values, code, torch.randn(D_SAE, D_IN)).dtype == torch.float32
