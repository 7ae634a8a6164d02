"""The function that an SAE is: shapes, and gradients of what is computed on request."""

import pytest
import torch
from saes.started import D_IN, D_SAE, started

from sae_lightning.saes import Gated, JumpReLU, Stitched, TopK


@pytest.mark.parametrize("leading", [(), (1,), (6,), (2, 3), (2, 1, 3), (0,), (2, 0)], ids=str)
def test_any_leading_shape(sae, leading):
    x = torch.randn(*leading, D_IN)
    code = sae.encode(x)
    assert code.leading == leading
    assert code.to_dense().shape == (*leading, sae.d_sae)
    assert sae.decode(code).shape == sae(x).shape == x.shape
    flat = x.reshape(-1, D_IN)
    assert torch.equal(sae(x).reshape(-1, D_IN), sae(flat))
    torch.testing.assert_close(sae.decode(code.to_dense()), sae.decode(code))


def test_a_code_keeps_its_shape_through_changes(sae):
    code = sae.encode(torch.randn(2, 3, D_IN))
    assert code.with_values(2 * code.values).leading == (2, 3)
    assert code.where(code.values > 0).leading == (2, 3)
    assert sae.decode(code.where(code.values > 1e9)).shape == (2, 3, D_IN)


def test_an_sae_without_a_start_says_so():
    sae = JumpReLU(D_IN, d_sae=D_SAE)
    for use in (sae, sae.encode, lambda x: sae.losses(x, 0)):
        with pytest.raises(ValueError, match=r"this JumpReLU has no start yet.* call initialise\(seed, samples\) with"):
            use(torch.randn(4, D_IN))
    sae.load_state_dict(started(JumpReLU).state_dict())
    assert sae(torch.randn(4, D_IN)).isfinite().all()


def test_gradients_of_latents_and_reconstruction_are_those_of_small_changes(sae):
    sae, x = sae.double(), torch.randn(2, 3, D_IN, dtype=torch.float64)
    weights, direction = torch.randn(2, 3, D_IN, dtype=torch.float64), torch.randn(2, 3, D_IN, dtype=torch.float64)
    x.requires_grad_()
    code = sae.encode(x, gradient=True)
    x_hat = sae.decode(code, gradient=True)
    (gradient,) = torch.autograd.grad((x_hat * weights).sum(), x)
    step = 1e-7 * direction
    change = (sae(x.detach() + step) - sae(x.detach() - step)).mul(weights).sum() / 2e-7
    torch.testing.assert_close((gradient * direction).sum(), change, rtol=1e-4, atol=1e-6)
    assert torch.equal(x_hat, sae(x))
    assert all(parameter.grad is None for parameter in sae.parameters())
    assert all(parameter.requires_grad for parameter in sae.parameters())
    assert not sae.encode(x).values.requires_grad
    assert not sae.decode(code).requires_grad


def test_dense_latents_have_gradients_where_they_are_zero(sae):
    latents = torch.zeros(4, sae.d_sae, requires_grad=True)
    sae.decode(latents, gradient=True)[0].sum().backward()
    torch.testing.assert_close(latents.grad[0], sae.W_dec.sum(1) / sae.input_scale)
    assert not latents.grad[1:].any()


def test_gradients_of_a_stitched_sae_with_a_gate_are_refused():
    stitched = Stitched(started(TopK, k=4), started(Gated), range(D_SAE), [1, 2])
    with pytest.raises(ValueError, match="large is a Gated SAE"):
        stitched.encode(torch.randn(2, D_IN), gradient=True)
