"""Whole runs against plain dense PyTorch: selection, gradients, clipping, projection, Adam and constraints."""

import pytest
import torch
from fast_products import PACKED
from training import Batches, fit

from sae_lightning.kernels.pre_acts import products
from sae_lightning.saes import BatchTopK, Gated, JumpReLU, MatryoshkaBatchTopK, ReLU, TopK

D_IN, D_SAE, K, BATCH, STEPS, LR, CLIP = 8, 256, 4, 32, 30, 0.01, 0.5
VARIANTS = {
    "topk": lambda **kwargs: TopK(D_IN, d_sae=D_SAE, k=K, **kwargs),
    "batch_topk": lambda **kwargs: BatchTopK(D_IN, d_sae=D_SAE, k=K, **kwargs),
    "matryoshka": lambda **kwargs: MatryoshkaBatchTopK(D_IN, d_sae=D_SAE, k=K, **kwargs),
    "gated": lambda **kwargs: Gated(D_IN, d_sae=D_SAE, l1_coefficient=0.1, **kwargs),
    "relu": lambda **kwargs: ReLU(D_IN, d_sae=D_SAE, l1_coefficient=0.1, **kwargs),
    "jump_relu": lambda **kwargs: JumpReLU(
        D_IN, d_sae=D_SAE, scale_input=False, initial_threshold=1.5, bandwidth=0.2, **kwargs
    ),
}


class Plain(torch.nn.Module):
    """Plain dense training from the start of an SAE."""

    def __init__(self, sae):
        super().__init__()
        tensors = {name: parameter.detach().clone() for name, parameter in sae.named_parameters()}
        self.p = torch.nn.ParameterDict({name: torch.nn.Parameter(tensor) for name, tensor in tensors.items()})
        self.kind, self.sae = type(sae).__name__, [sae]

    def loss(self, x):
        p = self.p
        pre = (x - p["b_dec"]) @ p["W_enc"] + p["b_enc"]
        penalty = 0.0
        if self.kind == "TopK":
            kept = torch.zeros_like(pre).scatter(1, pre.topk(K).indices, 1.0)
            latents = (pre * kept).relu()
        elif self.kind in ("BatchTopK", "MatryoshkaBatchTopK"):
            smallest = pre.flatten().topk(K * len(x)).values.min()
            latents = (pre * (pre >= smallest)).relu()
        elif self.kind == "Gated":
            gate = pre.relu()
            latents = ((pre - p["b_enc"]) * p["r_mag"].exp() + p["b_mag"]).relu() * (gate > 0)
            by_gate = (gate @ p["W_dec"].detach() + p["b_dec"].detach() - x).pow(2).sum(1).mean()
            penalty = 0.1 * gate.sum(1).mean() + by_gate
        elif self.kind == "ReLU":
            latents = pre.relu()
            penalty = 0.1 * latents.sum(1).mean()
        else:
            width = self.sae[0].bandwidth
            window = ((pre - p["threshold"]).abs() < width / 2).to(pre.dtype)
            active = (pre > p["threshold"]).to(pre.dtype)
            # The straight-through estimates: a zero whose gradient to the threshold is that of the estimate.
            moves = p["threshold"] - p["threshold"].detach()
            latents = pre * active - window.detach() * p["threshold"].detach() / width * moves
            l0 = active - window / width * moves
            penalty = self.sae[0].penalty.coefficient * l0.sum(1).mean()
        ends = self.sae[0].group_ends if self.kind == "MatryoshkaBatchTopK" else [D_SAE]
        prefixes = [latents * (torch.arange(D_SAE) < end) @ p["W_dec"] + p["b_dec"] for end in ends]
        return sum((x_hat - x).pow(2).sum(1).mean() for x_hat in prefixes) / len(ends) + penalty

    def run(self, batches):
        optimizer = torch.optim.Adam(self.p.values(), lr=LR, foreach=False)
        losses = []
        for x in batches:
            optimizer.zero_grad()
            loss = self.loss(x)
            loss.backward()
            W_dec = self.p["W_dec"]
            W_dec.grad -= (W_dec.grad * W_dec.detach()).sum(1, keepdim=True) * W_dec.detach()
            torch.nn.utils.clip_grad_norm_(self.p.values(), CLIP)
            optimizer.step()
            with torch.no_grad():
                W_dec /= W_dec.norm(dim=1, keepdim=True)
                if "threshold" in self.p:
                    self.p["threshold"].clamp_min_(0)
            losses.append(loss.item())
        return losses


def trace(sae, folder, precision):
    """Losses of a run of the trainer, one for each step."""
    losses, original = [], sae.loss_terms

    def recorded(x, step):
        result = original(x, step)
        losses.append(result["loss"].item())
        return result

    sae.loss_terms = recorded
    fit(sae, folder, n=STEPS, precision=precision, gradient_clip_val=CLIP)
    return losses


def adam(parameters):
    return torch.optim.Adam(parameters, lr=LR)


@pytest.mark.parametrize("make", VARIANTS.values(), ids=VARIANTS)
def test_a_run_is_that_of_plain_dense_training(make, tmp_path):
    sae = make(optimizer=adam).double()  # a run too short for dead latents, and with them AuxK
    sae.start_b_dec(torch.randn(64, D_IN) + 0.3)
    reference = Plain(sae)
    losses = trace(sae, tmp_path, "64-true")
    expected = reference.run([x.double() for x in Batches(STEPS, BATCH, 1)])
    assert losses == pytest.approx(expected, rel=1e-9)
    assert losses[-1] < losses[0]
    for name, parameter in sae.named_parameters():
        torch.testing.assert_close(parameter, reference.p[name], msg=name, rtol=1e-7, atol=1e-9)


def assert_same_run(make, precision, packed, folder, monkeypatch):
    monkeypatch.setattr("sae_lightning.kernels.pre_acts.SCREEN_MIN_D_IN", D_IN)
    losses = {}
    for fast in (True, False):
        monkeypatch.setattr(products, "screened", fast)
        monkeypatch.setattr(products, "packed", packed if fast else frozenset())
        losses[fast] = trace(make(optimizer=adam), folder, precision)
    assert losses[True] == pytest.approx(losses[False], rel=1e-3)


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("make", VARIANTS.values(), ids=VARIANTS)
def test_a_run_is_the_same_with_and_without_the_fast_products(make, packed, tmp_path, monkeypatch):
    assert_same_run(make, "32-true", packed, tmp_path, monkeypatch)


@pytest.mark.parametrize("packed", PACKED[1:])  # there is no screen under autocast
def test_a_run_in_mixed_precision_is_the_same_with_and_without_the_fast_products(packed, tmp_path, monkeypatch):
    assert_same_run(VARIANTS["topk"], "bf16-mixed", packed, tmp_path, monkeypatch)
