"""Feature absorption of single activations, as pure functions.

A probe of a concept has the unit direction p. Of an activation x for which the probe answers yes, latent i has the
value a_i and the decoder direction d_i, so it adds

    c_i = a_i (d_i . p)

to the reconstruction along p. Of the SAE's main latents M for the concept and the others that point along the probe,

    A = { i not in M : cos(d_i, p) >= 0.1 and c_i > 0 },     S = sum of the 3 largest c_i of A,     m = sum of c_i of M

Absorption fraction (Karvonen et al. 2025, SAEBench, arXiv 2503.09532): what others do of the work of the main latents,

    0                                     if m >= x . p or S / (x . p) < 0.4
    1                                     otherwise, if m <= 0
    s / (s + m),  s = min(S, x . p - m)   otherwise

Full absorption (Chanin et al. 2024, arXiv 2409.14507, with the thresholds of SAEBench): all main latents are 0, x . p >
0, and the latent t with the largest c_t alone has cos(d_t, p) >= 0.025 and c_t >= 0.4 (x . p).
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

MIN_COSINE = 0.1
"""Cosine with the probe from which on a latent may have absorbed part of a concept."""
MIN_COSINE_ALONE = 0.025
"""The same for a latent that has absorbed all of it."""
MIN_SHARE = 0.4
"""Share of the projection of the activation on the probe, from which on absorbing latents count."""
MAX_ABSORBING = 3
"""Latents that can share the work of the main ones."""


def absorption_fraction(
    contributions: Float[Tensor, "batch d_sae"],
    cosines: Float[Tensor, " d_sae"],
    projections: Float[Tensor, " batch"],
    main: Int64[Tensor, " n"],
) -> Float[Tensor, " batch"]:
    """Return for each activation which share of a concept other latents than the main ones hold, from 0 to 1.

    Args:
        contributions: c, what each latent adds to the reconstruction along the probe.
        cosines: of decoder directions with the probe.
        projections: of activations on the probe, x . p.
        main: the main latents of the concept.
    """
    of_main = contributions[:, main].sum(1)
    absorbs = (cosines >= MIN_COSINE) & (contributions > 0)
    absorbs[:, main] = False
    others = (contributions * absorbs).topk(min(MAX_ABSORBING, contributions.shape[1])).values.sum(1)
    compensating = others.minimum(projections - of_main)
    # Both are positive where the quotient is taken.
    partial = torch.where(of_main > 0, compensating / (compensating + of_main), torch.ones_like(others))
    absorbed = (of_main < projections) & (projections > 0) & (others >= MIN_SHARE * projections)
    return torch.where(absorbed, partial, torch.zeros_like(others))


def is_fully_absorbed(
    contributions: Float[Tensor, "batch d_sae"],
    cosines: Float[Tensor, " d_sae"],
    projections: Float[Tensor, " batch"],
    main_fires: Bool[Tensor, " batch"],
) -> Bool[Tensor, " batch"]:
    """Return for each activation whether one latent stands in for the main ones, none of which fires.

    Args:
        contributions: c, what each latent adds to the reconstruction along the probe.
        cosines: of decoder directions with the probe.
        projections: of activations on the probe, x . p.
        main_fires: whether any of the main latents is not 0.
    """
    largest, latent = contributions.max(1)
    stands_in = (cosines[latent] >= MIN_COSINE_ALONE) & (largest >= MIN_SHARE * projections)
    return ~main_fires & (projections > 0) & stands_in
