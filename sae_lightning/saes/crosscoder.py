"""Crosscoders: one code for several parts, such as layers of a model, and a decoder for each.

    pre_acts = sum over parts of (s_p x_p - b_dec_p) W_enc_p + b_enc        s_p x_hat_p = latents W_dec_p + b_dec_p

Lindsey et al. 2024, Sparse Crosscoders for Cross-Layer Features and Model Diffing. Side by side, the activations of all
parts are one activation, their encoders one `W_enc` and their decoders one `W_dec`; so a crosscoder is an SAE in all
but four things:

- each part has a scale s_p of its own, with E||s_p x_p||^2 = 1 / n_parts, so that no part is drowned by a larger one
  and the whole has E||x||^2 = 1, what coefficients and thresholds are relative to;
- `b_dec` starts at the geometric median of each part;
- where a variant penalises the values of its latents (ReLU, Gated), a value counts by the sum over parts of the norms
  of its decoder directions, as in the paper, so writing to one part is cheaper than writing as much to two;
- a saved crosscoder keeps the scales, in which the norms of its parts can be compared.

Rows of the whole decoder have unit norm, so the value of a latent is the norm of what it writes to all parts together.
TopK, BatchTopK and AuxK rank latents by that, and JumpReLU compares it with thresholds; l0 counts latents. In that they
depart from Minder et al. 2025 (arXiv 2504.02922), where BatchTopK ranks by the sum of norms over parts.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lightning.saes.data import columns_by_part


def columns_of_crosscoder(d_in: int, widths: Mapping[str, int] | None) -> dict[str, slice]:
    """Return the columns of each part.

    Args:
        d_in: width of all parts side by side.
        widths: of the parts by name.

    Raises:
        ValueError: if there are no parts, or they have another width together.
    """
    if not widths:
        raise ValueError(
            "crosscoder=true and one activation without parts: expected data with several hooks, such as hook: {early: "
            'model.layers.1, late: model.layers.2}; in Python widths={"early": 64, "late": 64}'
        )
    if sum(widths.values()) != d_in:
        raise ValueError(f"d_in={d_in}, and the widths {dict(widths)} have the sum {sum(widths.values())}")
    return columns_by_part(widths)


def refuse_with_crosscoder(**options: object) -> None:
    """Refuse options that say something else of what is read and answered.

    Raises:
        ValueError: if one is given.
    """
    if given := {name: value for name, value in options.items() if value is not None}:
        name, value = next(iter(given.items()))
        raise ValueError(
            f"crosscoder=true and {name}={value}: a crosscoder reads and answers all parts, each at its own scale: "
            "leave out one of the two"
        )


def scales_by_part(samples: Float[Tensor, "n d_in"], columns: Mapping[str, slice]) -> Float[Tensor, "..."]:
    """Return what each column is multiplied by, so that every part has the same mean squared norm and all have 1.

    Args:
        samples: raw activations.
        columns: of each part.

    Returns:
        [d_in] float64; of a single part one number.
    """
    n = len(columns)
    scales = [(n * samples[:, own].double().square().sum(1).mean()).rsqrt() for own in columns.values()]
    widths = [samples[:, own].shape[1] for own in columns.values()]
    return scales[0] if n == 1 else torch.cat([scale.expand(d) for scale, d in zip(scales, widths, strict=True)])


def norms_by_part(W_dec: Float[Tensor, "d_sae d_in"], columns: Mapping[str, slice]) -> Float[Tensor, "n_parts d_sae"]:  # noqa: N803
    """Return the norm of each latent's decoder direction in each part."""
    return torch.stack([torch.linalg.vector_norm(W_dec[:, own], dim=1) for own in columns.values()])


def norm_shares(W_dec: Float[Tensor, "d_sae d_in"], columns: Mapping[str, slice]) -> Float[Tensor, "n_parts d_sae"]:  # noqa: N803
    """Return each part's share of the sum of norms over parts: 1 / n_parts of a latent that writes as much to each."""
    norms = norms_by_part(W_dec, columns)
    return norms / norms.sum(0).clamp_min(1e-12)
