"""SAEs whose latents are known, and random ones."""

import torch

from sae_lightning.saes import BatchTopK, ReLU

D_IN = 12


def planted(directions, encoder=None, dead=None):
    """A ReLU SAE with these rows as decoder, and as encoder too; some latents may never fire."""
    sae = ReLU(D_IN, d_sae=len(directions))
    with torch.no_grad():
        sae.W_dec.copy_(directions)
        sae.W_dec_start.copy_(directions)
        sae.W_enc.copy_((directions if encoder is None else encoder).T)
        if dead is not None:
            sae.b_enc[dead] = -100.0
    return sae.eval()


def features(n):
    """Orthonormal rows."""
    return torch.linalg.qr(torch.randn(D_IN, D_IN, generator=torch.Generator().manual_seed(0)))[0][:n].contiguous()


def data(directions, n=512, seed=1):
    """Sparse non-negative combinations of the rows."""
    generator = torch.Generator().manual_seed(seed)
    active = torch.rand(n, len(directions), generator=generator) < 0.3
    return (active * (0.5 + torch.rand(n, len(directions), generator=generator))) @ directions


def random_sae(d_sae, seed, variant=BatchTopK, x=None, **kwargs):
    """An SAE that was trained for a few steps, with biases and a scale of its own."""
    sae = variant(D_IN, d_sae=d_sae, seed=seed, scale_input=True, **kwargs)
    x = data(features(8)) if x is None else x
    sae.initialise(seed, x)
    optimizer = torch.optim.Adam(sae.parameters(), lr=1e-2)
    for step in range(6):
        optimizer.zero_grad()
        sae.losses(x[:64], step)["loss"].backward()
        optimizer.step()
        sae.constrain()
    return sae.eval()
