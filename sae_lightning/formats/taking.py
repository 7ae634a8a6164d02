"""Take the tensors of an SAE out of a file: names, shapes, orientation and numbers are checked, nothing is guessed."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_OURS = {"W_enc": ("d m",), "W_dec": ("m d", "m o"), "W_skip": ("d o",)}
"""Our orientation of the matrices."""
_SIZES = {"d": "d_in", "m": "d_sae", "o": "d_out"}


def is_ours(ours: str, letters: str) -> bool:
    """Return whether a file has a tensor of ours in our orientation."""
    return letters in _OURS.get(ours, (letters,))


def of_transcoder(layout: Mapping[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """Return the layout of a transcoder, whose decoder is as wide as its target, from that of an SAE."""
    return {
        ours: (theirs, shape.replace("d", "o") if ours in ("W_dec", "b_dec") else shape)
        for ours, (theirs, shape) in layout.items()
    }


def take(
    where: Path | str,
    tensors: Mapping[str, Any],
    layout: Mapping[str, tuple[str, str]],
    *,
    d_in: int | None = None,
    d_sae: int | None = None,
    d_out: int | None = None,
    optional: Collection[str] = (),
    ignored: Collection[str] = (),
) -> tuple[dict[str, Tensor], str]:
    """Return tensors by our names and in our orientation, float32, and the number format that the file has.

    Args:
        where: for messages.
        tensors: what the file holds.
        layout: by our name the name in the file and its shape there: letters d (d_in), m (d_sae) and o (d_out) in
            order, such as "m d" for a matrix [d_sae, d_in]; "" for a single number.
        d_in: that the configuration states; checked.
        d_sae: that the configuration states; checked.
        d_out: that the configuration of a transcoder states; checked.
        optional: our names of what may be missing.
        ignored: names in the file that are known and not needed.

    Raises:
        ValueError: names what is missing, unknown, of another shape, no number format of weights, or not finite.
    """
    expected = {theirs for theirs, _ in layout.values() if theirs}
    missing = [theirs for ours, (theirs, _) in layout.items() if theirs not in tensors and ours not in optional]
    unknown = sorted(str(name) for name in tensors if name not in expected and name not in ignored)
    if missing or unknown:
        problem = [f"lacks {', '.join(missing)}"] if missing else []
        problem += [f"has {', '.join(unknown[:8])}, which this format does not know"] if unknown else []
        raise ValueError(f"{where} {' and '.join(problem)}: expected the tensors {', '.join(sorted(expected))}")
    present = {ours: entry for ours, entry in layout.items() if entry[0] in tensors}
    for _, (theirs, _) in present.items():
        if not isinstance(tensors[theirs], Tensor):
            raise ValueError(f"{where}: {theirs} is a {type(tensors[theirs]).__name__}, expected a tensor")
    sizes = _sizes(where, tensors, present, {"d": d_in, "m": d_sae, "o": d_out})
    taken: dict[str, Tensor] = {}
    for ours, (theirs, letters) in present.items():
        tensor = tensors[theirs]
        shape = [sizes[letter] for letter in letters.split()]
        if list(tensor.shape) != shape:
            named = ", ".join(f"{_SIZES[letter]}={sizes[letter]}" for letter in letters.split())
            swapped = list(tensor.shape) == shape[::-1] and len(shape) == 2
            raise ValueError(
                f"{where}: {theirs} has the shape {list(tensor.shape)}, expected [{named}]"
                + ("; its axes are swapped, so another program wrote it, or it is another format" if swapped else "")
            )
        if not tensor.is_floating_point():
            raise ValueError(f"{where}: {theirs} holds {tensor.dtype}, expected floating-point weights")
        number = tensor.float()
        if not torch.isfinite(number).all():
            n = int((~torch.isfinite(number)).sum())
            raise ValueError(
                f"{where}: {theirs} has {n} of {number.numel()} numbers that are NaN or infinite: the training "
                "diverged, or the file is damaged"
            )
        taken[ours] = (number if is_ours(ours, letters) else number.T).contiguous()
    return taken, str(tensors[layout["W_enc"][0]].dtype).removeprefix("torch.")


def _sizes(
    where: Path | str,
    tensors: Mapping[str, Tensor],
    layout: Mapping[str, tuple[str, str]],
    stated: Mapping[str, int | None],
) -> dict[str, int]:
    """Return the sizes from the vectors where there are any, else from the matrices; checked against what is said.

    Raises:
        ValueError: if the configuration says something else.
    """
    sizes: dict[str, int] = {}
    in_order = sorted(layout.values(), key=lambda entry: len(entry[1].split()))
    for theirs, letters in in_order:
        for letter, size in zip(letters.split(), tensors[theirs].shape, strict=False):
            sizes.setdefault(letter, size)
    for letter, said in stated.items():
        if said is not None and sizes.get(letter) != said:
            shapes = ", ".join(f"{theirs} {list(tensors[theirs].shape)}" for theirs, _ in layout.values())
            raise ValueError(
                f"{where}: the configuration says {_SIZES[letter]}={said} and the weights {sizes.get(letter)} "
                f"({shapes}): the two files do not belong together"
            )
    return sizes
