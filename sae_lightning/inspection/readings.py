"""Other readings of the same weights: what would the SAE do if the file meant something else?

A wrong rule for `b_dec`, a scale that was folded never or twice, a norm of each activation that was forgotten, a square
matrix the wrong way: each is tried on the same activations. What explains much more says what is likely wrong.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lightning.inspection.activations import Measured, measure
from sae_lightning.saes import SparseAutoencoder
from sae_lightning.saes.input_norm import INPUT_NORMS

_BETTER = 0.7
"""A reading is better if what it leaves unexplained is below this share."""


@dataclass(frozen=True)
class Reading:
    """One way to read the weights.

    Args:
        words: what it takes them for, after "read ...".
        change: makes an SAE be read so, and undoes it.
    """

    words: str
    change: Callable[[SparseAutoencoder], Iterator[None]]


@torch.no_grad()
def better_readings(
    sae: SparseAutoencoder, x: Float[Tensor, "n d_in"], stated_l0: float | None
) -> list[tuple[str, Measured]]:
    """Return the readings that explain clearly more of these activations, the best first.

    Args:
        sae: in evaluation mode; the same afterwards.
        x: raw activations.
        stated_l0: where the file states it a better reading has to be nearer to it.
    """
    own = measure(sae, [x])
    measured = [(reading.words, _measured(sae, x, reading)) for reading in _readings(sae, x)]
    return sorted(
        (one for one in measured if _is_better(one[1], own, stated_l0)), key=lambda one: -one[1].explained_variance
    )


def _is_better(other: Measured, own: Measured, stated_l0: float | None) -> bool:
    left, own_left = 1 - other.explained_variance, 1 - own.explained_variance
    if not left < _BETTER * own_left or other.explained_variance <= 0:
        return False
    return stated_l0 is None or abs(other.l0 - stated_l0) <= abs(own.l0 - stated_l0) or own.explained_variance < 0


def _measured(sae: SparseAutoencoder, x: Tensor, reading: Reading) -> Measured:
    with contextmanager(reading.change)(sae):
        return measure(sae, [x])


def _readings(sae: SparseAutoencoder, x: Tensor) -> Iterator[Reading]:
    words = "without subtracting b_dec" if sae.apply_b_dec_to_input else "with b_dec subtracted"
    yield Reading(
        f"{words} from the input", partial(_attribute, name="apply_b_dec_to_input", value=not sae.apply_b_dec_to_input)
    )
    for norm in (*INPUT_NORMS, None):
        if norm != sae.input_norm:
            words = f"with each activation normalised ({norm})" if norm else "without normalising each activation"
            yield Reading(words, partial(_attribute, name="input_norm", value=norm))
    norms = torch.linalg.vector_norm(x.double(), dim=1)
    for scale, words in (
        (sae.d_in**0.5 / float(norms.mean()), "on activations scaled to a mean norm of sqrt(d_in)"),
        (float(norms.mean()) / sae.d_in**0.5, "on activations divided by what scales them to a norm of sqrt(d_in)"),
        (float(norms.square().mean().rsqrt()), "on activations scaled to a mean squared norm of 1"),
        (float(norms.square().mean().sqrt()), "on activations multiplied by the root of their mean squared norm"),
    ):
        yield Reading(words, partial(_scaled, scale=scale))
    if sae.d_in == sae.d_sae:
        for name in ("W_enc", "W_dec"):
            yield Reading(f"with {name} transposed", partial(_transposed, name=name))


def _attribute(sae: SparseAutoencoder, name: str, value: object) -> Iterator[None]:
    before = getattr(sae, name)
    setattr(sae, name, value)
    try:
        yield
    finally:
        setattr(sae, name, before)


def _scaled(sae: SparseAutoencoder, scale: float) -> Iterator[None]:
    before = sae.input_scale.clone()
    sae.input_scale.mul_(scale)
    try:
        yield
    finally:
        sae.input_scale.copy_(before)


def _transposed(sae: SparseAutoencoder, name: str) -> Iterator[None]:
    weight = getattr(sae, name).data
    before = weight.clone()
    weight.copy_(before.T)
    try:
        yield
    finally:
        weight.copy_(before)
