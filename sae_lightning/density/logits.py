"""How many logits a direction of the residual stream reaches: the density of `direction @ W_U`.

The final norm's gain, and LayerNorm's centring, are folded into W_U, and the mean over the vocabulary is removed, since
adding a number to all logits changes no probability. Left out are the norm's division, which is one number for a token
and changes no measure here, biases, a soft cap on logits, and the blocks between the hook and the head.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sae_lightning.metrics import evenly_spaced_rows
from sae_lightning.metrics.density import excess_kurtosis, gini, hoyer, participation_ratio, share_above, top_mass
from sae_lightning.sources import LanguageModelSource, TokenBatch

N_DIRECTIONS = 512
"""Most directions of a dictionary that are measured, evenly spaced."""
_BLOCK_ENTRIES = 2**24

MEASURES: dict[str, Callable[[Tensor], Tensor]] = {
    "above_10_percent_of_rms": partial(share_above, rms_factor=0.1),
    "above_50_percent_of_rms": partial(share_above, rms_factor=0.5),
    "hoyer": hoyer,
    "participation_ratio": participation_ratio,
    "excess_kurtosis": excess_kurtosis,
    "gini": gini,
    "top_1_percent_mass": top_mass,
}


@dataclass(frozen=True)
class Unembedding:
    """The map from the residual stream to the logits.

    Args:
        W_U: [d, vocabulary], norm folded in, mean over the vocabulary removed.
        norm: name of the norm that was folded in; empty where none stands before the head.
    """

    W_U: Float[Tensor, "d vocabulary"]
    norm: str


@torch.no_grad()
def read_unembedding(source: LanguageModelSource) -> Unembedding | None:
    """Return the model's head with the norm before it; None if no head of the model maps activations to tokens.

    The head of a masked model reads a transformation of the activations, that of an encoder-decoder only the decoder's.
    """
    head = source.model.get_output_embeddings()
    if head is None or source.no_next_token:
        return None
    W_U = head.weight.float().T
    name, norm = _norm_before(source, head)
    if norm is not None:
        gain, centres = _gain(norm, head.weight.shape[1], head.weight)
        W_U = gain[:, None] * W_U
        W_U = W_U - W_U.mean(0) if centres else W_U
    return Unembedding(W_U - W_U.mean(1, keepdim=True), name)


def _norm_before(source: LanguageModelSource, head: nn.Module) -> tuple[str, nn.Module | None]:
    """Return name and module of the norm whose output the head reads: the last module with a weight [d].

    It is found by running the model, since its name and place differ between architectures.
    """
    d = source.model.get_input_embeddings().weight.shape[1]
    outputs: list[tuple[str, nn.Module, int]] = []
    matches: list[tuple[str, nn.Module]] = []

    def keep(name: str, module: nn.Module, output: Any) -> None:
        if isinstance(output, Tensor):
            outputs.append((name, module, output.data_ptr()))

    def compare(_: nn.Module, args: tuple[Any, ...]) -> None:
        matches.extend((name, module) for name, module, pointer in outputs if pointer == args[0].data_ptr())

    handles = [
        module.register_forward_hook(lambda module, _, output, name=name: keep(name, module, output))
        for name, module in source.model.named_modules()
        if getattr(getattr(module, "weight", None), "shape", None) == (d,)
    ]
    handles.append(head.register_forward_pre_hook(compare))
    two = TokenBatch(torch.zeros(1, 2, dtype=torch.int64), torch.ones(1, 2, dtype=torch.bool))
    try:
        source.replace(two, lambda x: x, next(iter(source.hooks)))
    finally:
        for handle in handles:
            handle.remove()
    return matches[-1] if matches else ("", None)


def _gain(norm: nn.Module, d: int, like: Tensor) -> tuple[Float[Tensor, " d"], bool]:
    """Return what the norm multiplies each coordinate with, and whether it subtracts their mean.

    The norm is run on known inputs, since the weight of some (Gemma) is the gain less 1.
    """
    signs = torch.ones(d, dtype=like.dtype, device=like.device)
    signs[1::2] = -1
    up, down, ones, zeros = (norm(x[None, None])[0, 0].float() for x in (signs, -signs, signs.abs(), 0 * signs))
    centres = bool((ones - zeros).abs().max() < 0.1 * (up - zeros).abs().max())
    return (up - down) / 2 * signs.float(), centres


def density_of(bases: Mapping[str, Float[Tensor, "n d"]], unembedding: Unembedding | None) -> list[dict[str, Any]]:
    """Return the mean density of directions by name: of their coordinates, and of what they add to the logits.

    Args:
        bases: directions by name, of which at most `N_DIRECTIONS` are measured.
        unembedding: onto the logits; None leaves them out.

    Returns:
        Rows with the name `directions`, the `reading` (coordinates or logits), and each of `MEASURES`.
    """
    table = []
    for name, directions in bases.items():
        for reading, onto in (("coordinates", None), ("logits", unembedding)):
            if reading == "logits" and onto is None:
                continue
            width = directions.shape[1] if onto is None else onto.W_U.shape[1]
            blocks = evenly_spaced_rows(directions, N_DIRECTIONS).float().split(max(1, _BLOCK_ENTRIES // width))
            values = [block if onto is None else block @ onto.W_U for block in blocks]
            means = {
                measure: float(torch.cat([function(block) for block in values]).nanmean())
                for measure, function in MEASURES.items()
            }
            table.append({"directions": name, "reading": reading} | means)
    return table
