"""SAEs that must not beat their nulls: the decoder of a good one permuted, and a random one.

    pip install eai-sparsify==1.3.3
    python -m benchmarks.check.altered CACHE OUT

CACHE holds activations as in `benchmarks.check`. Writes two folders into OUT:

dictionary_learning_permuted: OUT/dictionary_learning_batch_top_k, with the columns of its `decoder.weight` in another
    order. Its latents are those of the good SAE; their decoder directions belong to other latents.
sparsify_random: rows of W_dec are draws of N(0, C), C the covariance of the activations, at unit norm; the encoder is
    s W_dec, with the factor s that fits best after TopK; b_dec is the mean. sparsify's own class writes it.
"""

import os
import shutil
import sys
from pathlib import Path

os.environ["SPARSIFY_DISABLE_TRITON"] = "1"  # read when sparsify is imported

import torch
from sparsify import SparseCoder, SparseCoderConfig
from sparsify.__main__ import RunConfig
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.check.activations import CachedBatches

D_SAE, K, N_FIT = 4608, 32, 8192


def write_permuted(good: Path, folder: Path) -> None:
    """Copy an SAE of dictionary_learning, with its decoder directions at other latents."""
    shutil.copytree(good, folder, dirs_exist_ok=True)
    weights = torch.load(folder / "ae.pt", weights_only=True)
    order = torch.randperm(weights["decoder.weight"].shape[1], generator=torch.Generator().manual_seed(0))
    weights["decoder.weight"] = weights["decoder.weight"][:, order].contiguous()
    torch.save(weights, folder / "ae.pt")


def directions(samples: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Return n unit rows [n, d_in], drawn from N(0, covariance of samples [m, d_in]) and scaled."""
    weights = torch.randn(n, len(samples), generator=generator)
    return normalize(weights @ (samples - samples.mean(0)), dim=1)


@torch.no_grad()
def random_coder(samples: Tensor, generator: torch.Generator) -> SparseCoder:
    """Return a coder of random directions, its encoder tied to them by one fitted factor."""
    coder = SparseCoder(samples.shape[1], SparseCoderConfig(num_latents=D_SAE, k=K))
    W_dec = directions(samples, D_SAE, generator)
    coder.b_dec.copy_(samples.mean(0))
    coder.W_dec.copy_(W_dec)
    coder.encoder.weight.copy_(W_dec)
    code = coder.encode(samples)
    part = coder.decode(code.top_acts, code.top_indices) - coder.b_dec
    factor = (part * (samples - coder.b_dec)).sum() / part.pow(2).sum()
    coder.encoder.weight.mul_(factor)
    return coder


def write_random(batches: CachedBatches, folder: Path) -> None:
    """Write the random coder as a run of sparsify with one hookpoint."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randperm(len(batches.samples), generator=generator)[:N_FIT]
    coder, data, hookpoint = random_coder(batches.samples[rows], generator), batches.data, f"layers.{batches.layer}"
    coder.save_to_disk(folder / hookpoint)
    run = RunConfig(coder.cfg, model=data["model"], dataset=batches.text, ctx_len=data["context_length"])
    run.hookpoints = [hookpoint]
    run.save_json(folder / "config.json")


def main(cache: Path, out: Path) -> None:
    """Write both."""
    write_random(CachedBatches(cache, N_FIT), out / "sparsify_random")
    write_permuted(out / "dictionary_learning_batch_top_k", out / "dictionary_learning_permuted")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
