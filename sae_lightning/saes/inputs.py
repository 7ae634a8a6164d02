"""Activations and latents that come from outside: shape, number format and device, and that they are finite.

A matrix product takes 48 numbers for two rows of 24 where it can, comparisons lose NaN, and a reconstruction then looks
like any other. So what is public looks at what it is given. Shapes cost nothing; a look at every number costs one pass
over the activations, which is little beside encoding them.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor


def check_shape(x: Any, width: int, name: str = "x", width_name: str = "d_in") -> None:
    """Check that this is a floating-point tensor [..., width].

    Args:
        x: what was given.
        width: size of its last dimension.
        name: what the caller calls it.
        width_name: what the caller calls the width.

    Raises:
        ValueError: says what was given and what was expected.
    """
    if not isinstance(x, Tensor):
        raise ValueError(f"{name} is of type {type(x).__name__}: expected a tensor [..., {width_name}={width}]")
    if not x.is_floating_point():
        raise ValueError(f"{name} holds {x.dtype}: expected floating-point numbers; convert it with .float()")
    if not x.dim() or x.shape[-1] != width:
        raise ValueError(f"{name} has the shape {list(x.shape)}: expected [..., {width_name}={width}]")


def check_device(x: Tensor, parameter: Tensor, name: str = "x") -> None:
    """Check that something is where the SAE is.

    Raises:
        ValueError: if it is elsewhere.
    """
    if x.device != parameter.device:
        raise ValueError(f"{name} is on {x.device} and the SAE on {parameter.device}: move one of them with .to(...)")


def check_finite(x: Tensor, name: str = "x") -> None:
    """Check that all numbers are finite.

    Raises:
        ValueError: says how many are not, and where the first of them is.
    """
    if problem := non_finite(x):
        raise ValueError(f"{name} {problem}: take these activations out, or find out where they come from")


def non_finite(x: Tensor) -> str:
    """Describe the numbers that are NaN or infinite; empty if there are none.

    >>> non_finite(torch.tensor([[1.0, 2.0], [float("nan"), 3.0]]))
    'has 1 number of 4 that is not finite, first nan at [1, 0]'
    """
    if not x.numel() or torch.isfinite(torch.stack(torch.aminmax(x.detach()))).all():  # both pass on NaN
        return ""
    places = (~torch.isfinite(x)).nonzero()
    first = places[0].tolist()
    numbers = "1 number" if len(places) == 1 else f"{len(places)} numbers"
    return f"has {numbers} of {x.numel()} that {'is' if len(places) == 1 else 'are'} not finite, first " + (
        f"{x[tuple(first)].item()} at {first}"
    )


def activations_in(batch: Any, width: int) -> Tensor:
    """Return the activations [n, width] of a batch, whatever loader it comes from.

    Args:
        batch: a tensor [..., width]; a tuple or list that begins with it, as a `TensorDataset` gives; or a mapping with
            one tensor of this width.
        width: of an activation.

    Raises:
        ValueError: if there is no such tensor, or it is empty.
    """
    if isinstance(batch, tuple | list) and batch:
        batch = batch[0]
    elif isinstance(batch, Mapping):
        fitting = [value for value in batch.values() if _has_width(value, width)]
        if len(fitting) != 1:
            raise ValueError(
                f"the batch is a mapping with the keys {list(batch)}: expected one tensor [..., {width}] in it and "
                f"found {len(fitting)}; give the loader a collate_fn that returns the activations"
            )
        batch = fitting[0]
    check_shape(batch, width, "the batch")
    if not batch.numel():
        raise ValueError(f"the batch has the shape {list(batch.shape)}: expected one activation or more")
    return batch.reshape(-1, width)


def first_activations(batches: Iterable[Any], n: int, width: int) -> Tensor:
    """Return the first n activations [n, d_in] of some batches, or all where there are fewer.

    Args:
        batches: see `activations_in`. The generators of torch are left as they were, so a loader that shuffles gives
            training the batches that it would have given without this.
        n: number of activations.
        width: of an activation.

    Raises:
        ValueError: if there is no batch, or one of another width.
    """
    rows: list[Tensor] = []
    with isolate_rng():
        for batch in batches:
            rows.append(activations_in(batch, width))
            if sum(map(len, rows)) >= n:
                break
    if not rows:
        raise ValueError("the training data have no batch: an SAE takes its start from the first ones")
    return torch.cat(rows)[:n].float()


def _has_width(value: Any, width: int) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.dim() > 0 and value.shape[-1] == width
