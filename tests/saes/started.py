"""SAEs of every variant that have taken their start, and a first batch."""

import torch

D_IN, D_SAE = 8, 64


def started(variant, **kwargs):
    sae = variant(D_IN, d_sae=D_SAE, **kwargs)
    generator = torch.Generator().manual_seed(0)
    sae.initialise(0, torch.randn(max(sae.n_calibration_samples, 1), D_IN, generator=generator))
    sae.losses(torch.randn(32, D_IN, generator=generator), 0)
    return sae
