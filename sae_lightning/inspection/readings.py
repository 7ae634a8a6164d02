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

from sae_lightning.inspection.activations import Measured, measure, sides
from sae_lightning.saes import ReLU, SparseAutoencoder
from sae_lightning.saes.input_norm import INPUT_NORMS

_TRIED_L0 = (16, 64, 256)
"""Of a plain ReLU whose threshold may be lost, where the file states no l0."""
_SCALES = (
    "on activations scaled to a mean norm of sqrt(d_in)",
    "on activations divided by what scales them to a norm of sqrt(d_in)",
    "on activations scaled to a mean squared norm of 1",
    "on activations multiplied by the root of their mean squared norm",
)
"""Of a transcoder each side has its own."""
BETTER = 0.7
"""A reading is better if what it leaves unexplained is below this share."""


@dataclass(frozen=True)
class Reading:
    """One way to read the weights.

    Args:
        words: what it takes them for, after "read ...".
        change: makes an SAE be read so, and undoes it.
        least: latents that are not above this are left out.
    """

    words: str
    change: Callable[[SparseAutoencoder], Iterator[None]]
    least: float = 0.0


@torch.no_grad()
def better_readings(
    sae: SparseAutoencoder, x: Float[Tensor, "n width"], stated_l0: float | None
) -> list[tuple[str, Measured]]:
    """Return the readings that explain clearly more of these activations, the best first.

    Args:
        sae: in evaluation mode; the same afterwards.
        x: raw activations, of a transcoder those of both sides.
        stated_l0: where the file states it a better reading has to be nearer to it.
    """
    own = measure(sae, [x])
    measured = [(reading.words, _measured(sae, x, reading)) for reading in _readings(sae, x, stated_l0)]
    return sorted(
        (one for one in measured if _is_better(one[1], own, stated_l0)), key=lambda one: -one[1].explained_variance
    )


def _is_better(other: Measured, own: Measured, stated_l0: float | None) -> bool:
    left, own_left = 1 - other.explained_variance, 1 - own.explained_variance
    if not left < BETTER * own_left or other.explained_variance <= 0:
        return False
    return stated_l0 is None or abs(other.l0 - stated_l0) <= abs(own.l0 - stated_l0) or own.explained_variance < 0


def _measured(sae: SparseAutoencoder, x: Tensor, reading: Reading) -> Measured:
    with contextmanager(reading.change)(sae):
        return measure(sae, [x], reading.least)


def _readings(sae: SparseAutoencoder, x: Tensor, stated_l0: float | None) -> Iterator[Reading]:
    words = "without subtracting b_dec" if sae.apply_b_dec_to_input else "with b_dec subtracted"
    if sae.d_in == sae.d_out:  # b_dec of a transcoder may lie in another space than what is read
        change = partial(_attribute, name="apply_b_dec_to_input", value=not sae.apply_b_dec_to_input)
        yield Reading(f"{words} from the input", change)
    for norm in () if sae.is_transcoder else (*INPUT_NORMS, None):
        if norm != sae.input_norm:
            words = f"with each activation normalised ({norm})" if norm else "without normalising each activation"
            yield Reading(words, partial(_attribute, name="input_norm", value=norm))
    scales = zip(*(_scales(side) for side in sides(sae, x)), strict=True)
    for words, (scale_in, scale_out) in zip(_SCALES, scales, strict=True):
        yield Reading(words, partial(_scaled, scale_in=scale_in, scale_out=scale_out))
    if isinstance(sae, ReLU) or not getattr(sae, "threshold", torch.ones(())).any():
        for l0 in _TRIED_L0 if stated_l0 is None else (stated_l0,):
            least = _least_for(sae, sides(sae, x)[0], l0)
            yield Reading(f"with a threshold of {least:.3g} on its latents", _unchanged, least)
    for name in ("W_enc", "W_dec", "W_skip"):
        if (weight := getattr(sae, name)) is not None and weight.shape[0] == weight.shape[1]:
            yield Reading(f"with {name} transposed", partial(_transposed, name=name))


def _scales(x: Float[Tensor, "n d"]) -> tuple[float, ...]:
    """Return what activations may be multiplied by, in the order of `_SCALES`."""
    norms = torch.linalg.vector_norm(x.double(), dim=1)
    to_root, to_one = x.shape[1] ** 0.5 / float(norms.mean()), float(norms.square().mean().rsqrt())
    return to_root, 1 / to_root, to_one, 1 / to_one


def _least_for(sae: SparseAutoencoder, x: Tensor, l0: float) -> float:
    """Return the threshold that leaves so many latents active on average."""
    values = sae.encode(x).values
    kept = min(int(l0 * len(x)), len(values) - 1)
    return float(values.sort(descending=True).values[kept])


def _unchanged(sae: SparseAutoencoder) -> Iterator[None]:
    yield


def _attribute(sae: SparseAutoencoder, name: str, value: object) -> Iterator[None]:
    before = getattr(sae, name)
    setattr(sae, name, value)
    try:
        yield
    finally:
        setattr(sae, name, before)


def _scaled(sae: SparseAutoencoder, scale_in: float, scale_out: float) -> Iterator[None]:
    scales = {sae.input_scale: scale_in} | ({sae.target_scale: scale_out} if sae.is_transcoder else {})
    before = {own: own.clone() for own in scales}
    for own, scale in scales.items():
        own.mul_(scale)
    try:
        yield
    finally:
        for own, value in before.items():
            own.copy_(value)


def _transposed(sae: SparseAutoencoder, name: str) -> Iterator[None]:
    weight = getattr(sae, name).data
    before = weight.clone()
    weight.copy_(before.T)
    try:
        yield
    finally:
        weight.copy_(before)
