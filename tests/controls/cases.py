"""Small SAEs of every variant, with non-unit decoder rows, biases and thresholds, and the activations they are of."""

import torch
from torch.nn.functional import normalize

from sae_lightning.saes import BatchTopK, Gated, JumpReLU, MatryoshkaBatchTopK, ReLU, Stitched, TopK

D_IN, D_SAE, N = 12, 40, 1500


def activations(n=N, seed=0, d_in=D_IN):
    """Sparse combinations of unit features about a point, with noise."""
    generator = torch.Generator().manual_seed(seed)
    features = normalize(torch.randn(24, d_in, generator=torch.Generator().manual_seed(9)), dim=1)
    features *= torch.linspace(2, 0.5, 24)[:, None]
    latents = torch.rand(n, 24, generator=generator) * (torch.rand(n, 24, generator=generator) < 0.15)
    return 3 * latents @ features + 0.1 * torch.randn(n, d_in, generator=generator) + torch.linspace(-1, 1, d_in)


@torch.no_grad()
def sae_of(variant, seed=1, **kwargs):
    """An SAE that was not trained, with numbers of its own everywhere."""
    if variant is Stitched:
        return Stitched(sae_of(TopK), sae_of(ReLU, seed=7), [0, 3, 5, 9], range(30))
    kwargs |= {"k": 4} if issubclass(variant, TopK | BatchTopK) else {}
    sae = variant(D_IN, d_sae=D_SAE, unit_norm_decoder=False, **kwargs)
    x = activations(4096)
    sae.initialise(seed, x)
    generator = torch.Generator().manual_seed(2)
    for row in (sae.W_dec, sae.W_enc.T):
        row.mul_(0.5 + torch.rand(D_SAE, 1, generator=generator))
    sae.b_enc.copy_(
        0.1 * torch.randn(D_SAE, generator=generator) - (variant in (ReLU, Gated)) * (2.0 if variant is Gated else 1.0)
    )
    if isinstance(sae, BatchTopK):
        sae.threshold.fill_(1.0 if sae.apply_b_dec_to_input else 2.0)
    if isinstance(sae, JumpReLU):
        sae.threshold.copy_(0.2 + 0.2 * torch.rand(D_SAE, generator=generator))
    if isinstance(sae, Gated):
        sae.b_mag.fill_(0.3)
    return sae.eval()


CASES = {
    "ReLU": (ReLU, {}),
    "TopK": (TopK, {}),
    "BatchTopK": (BatchTopK, {"apply_b_dec_to_input": False}),
    "JumpReLU": (JumpReLU, {}),
    "Gated": (Gated, {}),
    "Matryoshka": (MatryoshkaBatchTopK, {}),
    "Stitched": (Stitched, {}),
    "TopK layer_norm": (TopK, {"input_norm": "layer_norm"}),
    "ReLU unit_norm": (ReLU, {"input_norm": "unit_norm", "apply_b_dec_to_input": False}),
    "BatchTopK center": (BatchTopK, {"input_norm": "center"}),
}


def case(name):
    """The SAE of a case."""
    variant, kwargs = CASES[name]
    return sae_of(variant, **kwargs)


def made(control, sae, samples=None, l0=3.4, seed=0):
    """A control, made."""
    own = control.new(sae)
    assert not own.is_initialised
    control.start(own, sae, activations() if samples is None else samples, l0, seed)
    return own


def explained_variance(sae, x):
    """Of activations."""
    return 1 - float((x - sae(x)).square().sum() / (x - x.mean(0)).square().sum())


def tensors(sae):
    """What is saved of an SAE."""
    return {name: tensor.clone() for name, tensor in sae.state_dict().items()}
