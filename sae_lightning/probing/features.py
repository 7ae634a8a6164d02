"""The inputs of probes: latents, reconstructions, activations and random directions at the tokens of examples.

Latents stay sparse. A text's tokens are pooled for each latent (or dimension) by itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy.sparse import csr_matrix, vstack
from torch import Tensor

from sae_lightning.saes.base import SparseAutoencoder

Pooling: TypeAlias = Literal["mean", "max", "last"]

_TOKENS_AT_ONCE = 8192
_DIRECTIONS_AT_ONCE = 4096


@dataclass(frozen=True)
class Tokens:
    """Activations of the tokens of examples, one example after another.

    Args:
        activations: [n_tokens, d_in] in the dtype of the model, on the CPU.
        starts: where each example starts, and the number of tokens. An example without tokens, as where all of them
            are massive and left out, has zeros for its features.
        pooling: how the tokens of an example become one row.
    """

    activations: Tensor
    starts: Int64[np.ndarray, " n_examples_and_1"]
    pooling: Pooling

    def blocks(self, device: torch.device) -> Iterator[tuple[Float[Tensor, "n_tokens d_in"], np.ndarray]]:
        """Yield float32 activations of some examples at a time, and where each of these starts."""
        first = 0
        while first < len(self.starts) - 1:
            # As many examples as fit; one that is longer than that stands alone.
            last = int(np.searchsorted(self.starts, self.starts[first] + _TOKENS_AT_ONCE, "right")) - 1
            last = max(last, first + 1)
            starts = self.starts[first : last + 1]
            yield self.activations[starts[0] : starts[-1]].to(device).float(), starts - starts[0]
            first = last

    def pool(self, values: Float[np.ndarray, "n_tokens d"], starts: np.ndarray) -> Float[np.ndarray, "n_examples d"]:
        """Pool a row for each token into a row for each example."""
        lengths = np.diff(starts)
        if (lengths == 1).all():
            return values
        pooled = np.zeros((len(lengths), values.shape[1]), values.dtype)
        has_tokens = lengths > 0  # `reduceat` would give the others the row of their neighbour
        if self.pooling == "max":
            pooled[has_tokens] = np.maximum.reduceat(values, starts[:-1][has_tokens])
        else:
            sums = np.add.reduceat(values, starts[:-1][has_tokens])
            pooled[has_tokens] = sums / lengths[has_tokens, None].astype(np.float32)
        return pooled

    def pool_sparse(self, values: csr_matrix, starts: np.ndarray) -> csr_matrix:
        """Pool the rows of a sparse matrix."""
        n = len(starts) - 1
        if (np.diff(starts) == 1).all():
            return values
        if self.pooling == "max":
            none = csr_matrix((1, values.shape[1]), dtype=values.dtype)
            spans = pairwise(starts)
            return csr_matrix(vstack([values[begin:end].max(axis=0) if begin < end else none for begin, end in spans]))
        # The mean as a sparse product: row i has 1 / n_i at the tokens of example i.
        shares = np.repeat(1 / np.maximum(np.diff(starts), 1), np.diff(starts)).astype(np.float32)
        return csr_matrix(csr_matrix((shares, np.arange(starts[-1]), starts), (n, int(starts[-1]))) @ values)


def scaled_by_part(sae: SparseAutoencoder, tokens: Tokens) -> Tokens:
    """Return activations as a crosscoder scales its parts, so that none outweighs another; of any other SAE as is."""
    if not sae.crosscoder:
        return tokens
    return replace(tokens, activations=tokens.activations * sae.input_scale.to(tokens.activations.device))


def activation_features(tokens: Tokens) -> Float[np.ndarray, "n_examples d_in"]:
    """Return the activations themselves."""
    return np.concatenate([tokens.pool(x.numpy(), starts) for x, starts in tokens.blocks(torch.device("cpu"))])


def sae_features(sae: SparseAutoencoder, tokens: Tokens) -> tuple[csr_matrix, Float[np.ndarray, "n_examples d_in"]]:
    """Return latents [n_examples, d_sae] of an SAE, and its reconstructions."""
    latents, reconstructions = [], []
    for x, starts in tokens.blocks(sae.W_dec.device):
        code = sae.encode(x)
        parts = (part.detach().cpu().numpy() for part in (code.values, code.indices, code.offsets))
        latents.append(tokens.pool_sparse(csr_matrix(tuple(parts), (len(x), sae.d_sae)), starts))
        reconstructions.append(tokens.pool(sae.decode(code).detach().float().cpu().numpy(), starts))
    return csr_matrix(vstack(latents)), np.concatenate(reconstructions)


def random_features(
    directions: Float[Tensor, "n_directions d_in"], tokens: Tokens
) -> Iterator[Float[np.ndarray, "n_examples n_columns"]]:
    """Yield relu((x - mean) directions^T), some directions at a time; each fires for about half of the tokens."""
    device = directions.device
    mean = tokens.activations.double().mean(0).float().to(device)
    for some in directions.split(_DIRECTIONS_AT_ONCE):
        yield np.concatenate(
            [tokens.pool(((x - mean) @ some.T).relu().cpu().numpy(), starts) for x, starts in tokens.blocks(device)]
        )
