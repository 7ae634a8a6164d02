"""Parts of the training step, each beside alternatives that were tried and dropped.

    python -m benchmarks.parts [--case a b c]

Each figure is the median of 15 runs in ms for a batch of 4096. The alternatives take turns in one process.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.peers import CASES
from benchmarks.report import print_note
from sae_lightning import cpu_settings
from sae_lightning.code import Code
from sae_lightning.kernels import PreActs, top_k_per_row
from sae_lightning.kernels.pre_acts import can_pack
from sae_lightning.kernels.sparse import sampled_times
from sae_lightning.saes.optimizers import speed_up

BATCH, BLOCK = 4096, 512

Ways = dict[str, tuple[Callable[[], object], int]]
"""Alternatives by name: the function to time, and how often a batch needs it."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs="+", choices=("a", "b", "c"), default=["a"])
    cases = parser.parse_args().case
    cpu_settings.speed_up_cpu()
    for name in cases:
        case = CASES[name]
        for title, ways in (
            ("encode product, by blocks of 512 rows", products(case.d_in, case.d_sae)),
            (f"the {case.k} largest of a row, without the product", selections(case.d_sae, case.k)),
            ("entries in order of latents", orders(case.d_sae, case.k)),
            ("gradient of the latents", latent_gradients(case.d_in, case.d_sae, case.k)),
            ("Adam on an encoder stored by latent", adam(case.d_in, case.d_sae)),
        ):
            print(f"case {name}, {title}")
            for way, ms in timed(ways).items():
                print(f"  {way:<55}{ms:8.1f}")


def timed(ways: Ways) -> dict[str, float]:
    """Return the median ms that each alternative takes for a whole batch."""
    times: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(17):
        for way, (run, _) in ways.items():
            start = time.perf_counter()
            run()
            if turn > 1:
                times[way].append(1e3 * (time.perf_counter() - start))
    return {way: ways[way][1] * statistics.median(times[way]) for way in ways}


def products(d_in: int, d_sae: int) -> Ways:
    """Return ways to compute the encode product: in float32 and bfloat16, with the result in different memory."""
    x, W, b = torch.randn(BLOCK, d_in), torch.randn(d_sae, d_in) * d_in**-0.5, torch.zeros(d_sae)
    out, four = torch.empty(BLOCK, d_sae), [torch.empty(BLOCK, d_sae) for _ in range(4)]

    def into_changing_memory() -> None:
        four.append(four.pop(0))
        torch.mm(x, W.T, out=four[0]).add_(b)

    def with_packed_encoder(dtype: torch.dtype) -> Callable[[], object]:
        x_cast, W_cast, b_cast = (tensor.to(dtype) for tensor in (x, W, b))
        packed = torch.ops.mkldnn._reorder_linear_weight(W_cast, BLOCK)
        return lambda: torch.ops.mkldnn._linear_pointwise(x_cast, packed, b_cast, "none", [], "")

    blocks = BATCH // BLOCK
    ways: Ways = {
        "addmm": (lambda: torch.addmm(b, x, W.T, out=out), blocks),
        "mm, then the bias": (lambda: torch.mm(x, W.T, out=out).add_(b), blocks),
        "the same into four blocks of memory in turn": (into_changing_memory, blocks),
    }
    for name, dtype in (
        ("oneDNN, encoder in its layout (ours)", torch.float32),
        ("the same in bfloat16 (ours, as a screen)", torch.bfloat16),
    ):
        if can_pack(dtype):
            ways[name] = (with_packed_encoder(dtype), blocks)
        else:
            print_note(f"left out, oneDNN does not pack {dtype} weights on this machine: {name}")
    return ways


def selections(d_sae: int, k: int) -> Ways:
    """Return ways to select the k largest entries of each row of a block that is in the cache."""
    block = torch.randn(BLOCK, d_sae)
    pre_acts = PreActs(block, torch.empty(d_sae, d_sae), torch.empty(d_sae), screen=False)
    pre_acts.blocks = lambda: iter([(0, block, None)])  # type: ignore[method-assign]

    def buckets() -> None:
        maxima = block.view(BLOCK, 16, d_sae // 16).amax(1)
        first = torch.topk(maxima, k, sorted=False).indices[:, None, :]
        candidates = (first + torch.arange(0, d_sae, d_sae // 16)[:, None]).flatten(1)
        torch.topk(block.gather(1, candidates), k, sorted=False)

    blocks = BATCH // BLOCK
    return {
        "torch.topk": (lambda: torch.topk(block, k, sorted=False), blocks),
        "numpy.partition (values only)": (lambda: np.partition(block.numpy(), d_sae - k, axis=1), blocks),
        "torch.topk of bucket maxima, then in the buckets": (buckets, blocks),
        "  the maxima alone, of 16 neighbours": (lambda: block.view(BLOCK, -1, 16).amax(2), blocks),
        "  the maxima alone, strided (ours)": (lambda: block.view(BLOCK, 16, -1).amax(1), blocks),
        "limit by numpy.partition of bucket maxima (ours)": (lambda: top_k_per_row(pre_acts, k), blocks),
    }


def orders(d_sae: int, k: int) -> Ways:
    """Return ways to order entries by latent: the permutation, and where each latent begins."""
    code = Code.from_rows(torch.randn(BATCH, k), torch.rand(BATCH, d_sae).topk(k).indices, d_sae)

    def sorted_by_torch() -> None:
        latents, _ = torch.sort(code.indices, stable=True)
        torch.searchsorted(latents, torch.arange(d_sae + 1))

    def counted() -> None:
        _ = Code(code.values, code.indices, code.offsets, d_sae).by_latent

    return {"torch.sort": (sorted_by_torch, 1), "by counting (ours)": (counted, 1)}


def latent_gradients(d_in: int, d_sae: int, k: int) -> Ways:
    """Return ways to compute `<grad[row], W_dec[latent]>` for each entry."""
    grad, W_dec = torch.randn(BATCH, d_in), torch.randn(d_sae, d_in)
    indices = torch.rand(BATCH, d_sae).topk(k).indices
    code = Code.from_rows(torch.randn(BATCH, k), indices, d_sae)
    rows = code.rows

    def by_row() -> None:
        torch.ops.aten._embedding_bag_per_sample_weights_backward(grad, W_dec, code.indices, code.offsets, rows, 0)

    def gathered() -> None:
        for start in range(0, BATCH, 256):
            part = slice(start, start + 256)
            torch.bmm(W_dec[indices[part]], grad[part, :, None])

    def by_latent() -> None:
        sampled_times(grad, W_dec, Code(code.values, code.indices, code.offsets, d_sae))

    return {
        "gathered rows and bmm": (gathered, 1),
        "embedding_bag's, by sample": (by_row, 1),
        "sampled_addmm by latent, with the order (ours)": (by_latent, 1),
    }


def adam(d_in: int, d_sae: int) -> Ways:
    """Return ways to take an Adam step on one matrix."""

    def optimizer(make: Callable[..., torch.optim.Optimizer], **kwargs: bool) -> torch.optim.Optimizer:
        parameter = torch.nn.Parameter(torch.randn(d_sae, d_in).T)
        parameter.grad = torch.randn(d_sae, d_in).T
        return make([parameter], **kwargs)

    return {
        "torch's default": (optimizer(torch.optim.Adam).step, 1),
        "fused, as the encoder lies (it is copied)": (optimizer(torch.optim.Adam, fused=True).step, 1),
        "fused, in order of memory (ours)": (optimizer(lambda p: speed_up(torch.optim.Adam(p))).step, 1),
    }


if __name__ == "__main__":
    main()
