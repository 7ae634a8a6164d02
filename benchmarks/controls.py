"""Seconds that each control of an SAE takes, made and measured, beside what `Control.cost` says before.

    python -m benchmarks.controls [--d_in 576] [--d_sae 4608] [--l0 32] [--n_samples 8192] [--n_held_out 4096]

Activations are sparse combinations of 4096 directions with a decaying spectrum, and noise; the SAE is an untrained
TopK, whose random directions say nothing of it. Costs are turned into seconds by the speed of a product and of a gather
that are timed here. On a CPU seconds are those of one core.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch.nn.functional import embedding_bag, normalize

from sae_lightning.controls import default_controls, measured_l0
from sae_lightning.saes import SparseAutoencoder, TopK


def main() -> None:
    """Print a line for each control."""
    parser = argparse.ArgumentParser(description=__doc__)
    sizes = {"d_in": 576, "d_sae": 4608, "l0": 32, "n_samples": 8192, "n_held_out": 4096}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    x = activations(arguments.n_samples + arguments.n_held_out, arguments.d_in).to(arguments.device)
    samples, held_out = x.split([arguments.n_samples, arguments.n_held_out])
    sae = TopK(arguments.d_in, k=arguments.l0, d_sae=arguments.d_sae).eval().to(arguments.device)
    speeds = flops_per_second(arguments.device), bytes_per_second(arguments.device)
    print(f"{arguments}: {speeds[0] / 1e9:.0f} GFLOP/s, {speeds[1] / 1e9:.1f} GB/s gathered")
    print("control, seconds to make, to measure, as told before; l0, explained variance of held-out activations")
    for name, control in default_controls().items():
        own = control.new(sae).to(arguments.device)
        make = timed(partial(control.start, own, sae, samples, float(arguments.l0), 0))
        measure = timed(partial(explained_variance, own, held_out))
        told = control.cost(sae, len(samples), len(held_out), float(arguments.l0)).seconds(*speeds)
        scores = f"{measured_l0(own, held_out):.2f} {explained_variance(own, held_out):.4f}"
        print(f"{name} {make:.1f} {measure:.1f} {told:.1f}; {scores}", flush=True)


def activations(n: int, d_in: int) -> torch.Tensor:
    """Return sparse combinations of directions with a decaying spectrum, and noise."""
    generator = torch.Generator().manual_seed(0)
    spectrum = torch.arange(1, d_in + 1) ** -0.5
    directions = normalize(torch.randn(4096, d_in, generator=generator) * spectrum, dim=1)
    chosen = torch.randint(4096, (n, 30), generator=generator)
    weights = torch.rand(n, 30, generator=generator).exp()
    x = embedding_bag(chosen, directions, mode="sum", per_sample_weights=weights)
    return x + 0.3 * torch.randn(n, d_in, generator=generator) * spectrum


def timed(function: Callable[[], object]) -> float:
    """Return the seconds that one call takes; on a CPU those of one core, whatever else the machine does."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    start = clock()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - start


def explained_variance(sae: SparseAutoencoder, x: torch.Tensor) -> float:
    """Return the share of the variance that is reconstructed, a few rows at a time."""
    error = sum(float((block - sae(block)).square().sum()) for block in x.split(4096))
    return 1 - error / float((x - x.mean(0)).square().sum())


def flops_per_second(device: str) -> float:
    """Return the speed of a product of the size of a block of pre-activations."""
    x, weight = torch.randn(512, 576, device=device), torch.randn(8192, 576, device=device)
    timed(lambda: x @ weight.T)
    return 10 * 2.0 * 512 * 576 * 8192 / timed(lambda: [x @ weight.T for _ in range(10)])


def bytes_per_second(device: str) -> float:
    """Return the speed at which the rows of a decoder are gathered and summed."""
    chosen, weight = torch.randint(8192, (4096, 32), device=device), torch.randn(8192, 576, device=device)
    timed(lambda: embedding_bag(chosen, weight, mode="sum"))
    seconds = timed(lambda: embedding_bag(chosen, weight, mode="sum"))
    return cast("int", chosen.numel()) * 576 * 4 / seconds


if __name__ == "__main__":
    main()
