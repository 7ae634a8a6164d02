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


@pytest.mark.parametrize("is_mixed", [True, False])
def test_dense_products_are_in_the_number_format_of_the_trainer(is_mixed, monkeypatch):
    multiply, formats = sparse._multiplied, []
    monkeypatch.setattr(sparse, "DENSE_SHARE", 0.0)
    monkeypatch.setattr(sparse, "_multiplied", lambda *args: formats.append(args[-1]) or multiply(*args))
    torch.manual_seed(0)
    code = Code.from_dense(torch.rand(BATCH, D_SAE))
    x, W_enc, W_dec = torch.randn(BATCH, D_IN), torch.randn(D_IN, D_SAE), torch.randn(D_SAE, D_IN)

    def gradients(enabled):
        leaves = [tensor.clone().requires_grad_() for tensor in (x, W_enc, W_dec)]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            values = sparse_encode(leaves[0], leaves[1], torch.zeros(D_SAE), None, code)
            x_hat = sparse_decode(values, code, leaves[2])
        x_hat.square().sum().backward()  # outside autocast, as Lightning does it
        return [x_hat.detach(), *(leaf.grad for leaf in leaves)]

    mixed = gradients(is_mixed)
    assert formats == [torch.bfloat16 if is_mixed else torch.float32] * 5
    for got, wanted in zip(mixed, gradients(False), strict=True):
        assert got.dtype == torch.float32
        assert (got - wanted).abs().max() <= (2**-6 if is_mixed else 0) * wanted.abs().max()


@pytest.fixture
def matmul_precision():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.usefixtures("matmul_precision")
def test_from_where_dense_products_are_quicker_depends_on_device_and_number_format():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert sparse.dense_share(cpu, torch.float32) == sparse.dense_share(cpu, torch.bfloat16) == 0.1
    assert sparse.dense_share(gpu, torch.float32) == sparse.dense_share(gpu, torch.float64) == 0.05
    assert sparse.dense_share(gpu, torch.bfloat16) == sparse.dense_share(gpu, torch.float16) == 0.005
    torch.set_float32_matmul_precision("high")
    assert sparse.dense_share(gpu, torch.float32) == 0.005


@pytest.fixture
def untried():
    sparse._kernels_that_run.cache_clear()
    yield
    sparse._kernels_that_run.cache_clear()


@pytest.mark.usefixtures("untried")
def test_where_triton_cannot_compile_it_is_said_once(monkeypatch):
    def fail():
        raise RuntimeError("Failed to find C compiler. Please specify via CC environment variable.")

    monkeypatch.setattr(triton_bag, "try_out", fail)
    with pytest.warns(UserWarning, match=r"torch's own, which are slower.*Failed to find C compiler.*such as gcc"):
        assert sparse._kernels_that_run() is None
    assert sparse._kernels_that_run() is None  # warnings are errors here


@pytest.mark.usefixtures("untried")
def test_kernels_that_were_tried_are_used(monkeypatch):
    monkeypatch.setattr(triton_bag, "try_out", lambda: None)
    assert sparse._kernels_that_run() is triton_bag


@pytest.mark.cuda
@pytest.mark.parametrize("way", ["triton", "torch", "dense"])
def test_gradients_on_a_gpu_equal_those_on_a_cpu(way, monkeypatch):
    monkeypatch.setattr(sparse, "GPU_DENSE_SHARE", 0.0 if way == "dense" else 1.1)
    if way == "torch":
        monkeypatch.setattr(sparse, "_gpu_kernels", lambda tensor: None)
    code = Code.from_dense(torch.rand(BATCH, D_SAE) * (torch.rand(BATCH, D_SAE) < 0.3))
    tensors = torch.randn(BATCH, D_IN), torch.randn(D_IN, D_SAE), torch.randn(D_SAE, D_IN)
    results = []
    for device in ("cpu", "cuda"):
        here = Code(code.values.to(device), code.indices.to(device), code.offsets.to(device), D_SAE)
        x, W_enc, W_dec = (tensor.to(device).requires_grad_() for tensor in tensors)
        b_enc = torch.zeros(D_SAE, device=device, requires_grad=True)
        values = sparse_encode(x, W_enc, b_enc, None, here)
        sparse_decode(values, here, W_dec).square().sum().backward()
        results.append([leaf.grad.cpu() for leaf in (x, W_enc, b_enc, W_dec)])
    for got, wanted in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
