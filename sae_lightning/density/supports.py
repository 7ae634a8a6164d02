"""Is a code of K entries the only one? Coherence, matching pursuit beside the encoder, and small noise on the input.

Orthogonal matching pursuit (OMP) takes K entries of either sign, where K is the encoder's mean l0. It is run on signals
that are exact sums of K directions of the dictionary, made from the encoder's own latents, and on real activations,
which are no exact sum of K directions.
"""

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lightning.code import Code
from sae_lightning.evaluators.references import explained_variance
from sae_lightning.kernels import sparse_decode
from sae_lightning.metrics.density import support_jaccard, unique_up_to
from sae_lightning.metrics.dictionary import coherence
from sae_lightning.metrics.pursuit import keep_largest_per_sample, pursue
from sae_lightning.saes import SparseAutoencoder

N_TOKENS = 128
"""Activations that are pursued; each takes milliseconds with a small SAE, a second with a large one."""
NOISE = (0.01, 0.03, 0.1)
"""Norms of the noise that is added to an activation, relative to the activation's norm."""
_EXACT = 1e-4
"""A code is of a signal if its relative error is below this; float32 leaves about 1e-6."""


@torch.no_grad()
def supports(sae: SparseAutoencoder, x: Float[Tensor, "n d_in"], generator: torch.Generator) -> dict[str, Any]:
    """Measure how unique the codes of one SAE are.

    - coherence, unique_up_to: of the dictionary; every code of so many entries or fewer is unique.
    - k: entries of a code; above d_in / 2 no code is unique, and nothing else is measured.
    - same_code, other_code: share of exact signals of which the pursuit finds the code that they were made of, or
      another code with K entries or fewer.
    - jaccard, jaccard_chance: of the encoder's and the pursuit's latents for real activations, and for the activations
      of two different tokens.
    - explained_variance: of the real activations, by the encoder's code and by the pursuit's.
    - noise: for each size, Jaccard index of the latents before and after, of the encoder and of the pursuit.

    Args:
        sae: in evaluation mode.
        x: real activations.
        generator: of the noise, on the CPU.
    """
    x, _ = sae.normalise(x)  # what its codes are of; without input_norm the activations themselves
    sae = copy.copy(sae)
    sae.input_norm = None
    mu = coherence(sae.W_dec)
    code = sae.encode(x)
    k = max(1, round(float(code.l0().double().mean())))
    uniqueness: dict[str, Any] = {"coherence": mu, "unique_up_to": unique_up_to(mu), "k": k, "d_in": sae.d_in}
    if k > sae.d_in / 2:
        return uniqueness
    x_cpu, code, W_dec, b_dec = x.float().cpu(), _cpu(code), sae.W_dec.detach().cpu(), sae.b_dec.detach().cpu()

    planted = keep_largest_per_sample(code, k)
    signals = sparse_decode(planted.values, planted, W_dec, torch.zeros_like(b_dec))
    x_hat, pursued = pursue(signals, W_dec, k)
    same = support_jaccard(planted, pursued) == 1
    exact = (x_hat - signals).norm(dim=1) <= _EXACT * signals.norm(dim=1)
    uniqueness |= {"same_code": float(same.double().mean()), "other_code": float((exact & ~same).double().mean())}

    x_hat, pursued = pursue(x_cpu - b_dec, W_dec, k)
    uniqueness["jaccard"] = float(support_jaccard(code, pursued).mean())
    uniqueness["jaccard_chance"] = float(support_jaccard(_cpu(sae.encode(x.roll(1, 0))), pursued).mean())
    uniqueness["explained_variance"] = {
        "encoder": explained_variance(x_cpu, sae.decode(sae.encode(x)).cpu()),
        "pursuit": explained_variance(x_cpu, x_hat + b_dec),
    }
    uniqueness["noise"] = {}
    for size in NOISE:
        noise = torch.nn.functional.normalize(torch.randn(x.shape, generator=generator), dim=1)
        noisy = x_cpu + size * x_cpu.norm(dim=1, keepdim=True) * noise
        moved = {
            "encoder": support_jaccard(code, _cpu(sae.encode(noisy.to(x)))),
            "pursuit": support_jaccard(pursued, pursue(noisy - b_dec, W_dec, k)[1]),
        }
        uniqueness["noise"][str(size)] = {who: float(jaccard.mean()) for who, jaccard in moved.items()}
    return uniqueness


def _cpu(code: Code) -> Code:
    return Code(code.values.cpu(), code.indices.cpu(), code.offsets.cpu(), code.d_sae)
