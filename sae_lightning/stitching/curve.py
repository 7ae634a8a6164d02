"""From the small SAE to the large one: novel latents are inserted, then components swapped, then the rest exchanged.

Each step changes which latents of both SAEs make the reconstruction; `b_dec` stays that of the small SAE. At the end
the latents are those of the large SAE, and so is the reconstruction, up to `b_dec`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sae_lightning.code import Code
from sae_lightning.kernels import sparse_decode
from sae_lightning.metrics.functional import (
    explained_variance_compute,
    moments_merge,
    moments_update,
    squared_error_update,
)
from sae_lightning.saes import SparseAutoencoder, Stitched
from sae_lightning.stitching.insertion import in_raw_units

START, INSERT, SWAP, REST = "small SAE", "novel inserted", "components swapped", "the rest exchanged"


@dataclass(frozen=True)
class Schedule:
    """The step at which each latent comes in or goes out; step 0 is the small SAE.

    Args:
        phases: what each step does, `START` first.
        insert_at: step at which each latent of the large SAE comes in.
        drop_at: step at which each latent of the small SAE goes out.
    """

    phases: list[str]
    insert_at: Int64[Tensor, " d_large"]
    drop_at: Int64[Tensor, " d_small"]

    @property
    def ends(self) -> list[int]:
        """The last step of every phase."""
        n = len(self.phases)
        return [step for step in range(n) if step == n - 1 or self.phases[step + 1] != self.phases[step]]


def schedule(
    change: Float[Tensor, " d_large"],
    is_novel: Bool[Tensor, " d_large"],
    small_components: Int64[Tensor, " d_small"],
    large_components: Int64[Tensor, " d_large"],
    best_cosine: Float[Tensor, " d_large"],
    n_steps: int,
) -> Schedule:
    """Plan the curve.

    Args:
        change: dMSE of each latent alone; novel latents come in from the lowest, and so do those that are left.
        is_novel: which latents of the large SAE are inserted first.
        small_components: component of each latent of the small SAE, -1 if it has none.
        large_components: component of each latent of the large SAE.
        best_cosine: of each latent of the large SAE to the small one; components are swapped from the highest.
        n_steps: most steps in each phase.
    """
    phases = [START]
    insert_at, drop_at = torch.zeros_like(large_components), torch.zeros_like(small_components)

    def steps(order: Tensor, phase: str) -> Tensor:
        """Add a phase; return the step of each entry of the order, which are spread evenly over its steps."""
        n = min(n_steps, len(order))
        first = len(phases)
        phases.extend([phase] * n)
        return first + torch.arange(len(order), device=order.device) * n // max(1, len(order))

    novel = is_novel.nonzero()[:, 0]
    novel = novel[change[novel].argsort(stable=True)]
    insert_at[novel] = steps(novel, INSERT)

    n_components = int(small_components.max()) + 1 if len(small_components) else 0
    nearest = best_cosine.new_full((n_components,), -1.0)
    connected = large_components >= 0
    nearest.scatter_reduce_(0, large_components[connected], best_cosine[connected], "amax")
    order = nearest.argsort(descending=True, stable=True)
    step_of = torch.zeros_like(order)
    step_of[order] = steps(order, SWAP)
    swapped = connected & ~is_novel
    insert_at[swapped] = step_of[large_components[swapped]]
    drop_at[small_components >= 0] = step_of[small_components[small_components >= 0]]

    left_in, left_out = (insert_at == 0).nonzero()[:, 0], (drop_at == 0).nonzero()[:, 0]
    left_in = left_in[change[left_in].argsort(stable=True)]
    first = len(phases)
    longer, shorter = (left_in, left_out) if len(left_in) >= len(left_out) else (left_out, left_in)
    longer_steps = steps(longer, REST)  # the longer list sets the number of steps, the shorter is spread over them
    n = len(phases) - first
    shorter_steps = first + torch.arange(len(shorter), device=shorter.device) * n // max(1, len(shorter))
    is_in_longer = longer is left_in
    insert_at[left_in] = longer_steps if is_in_longer else shorter_steps
    drop_at[left_out] = shorter_steps if is_in_longer else longer_steps
    return Schedule(phases, insert_at, drop_at)


class Stitcher:
    """Reconstructions at every step of a schedule.

    Args:
        small: the SAE at the start, in evaluation mode.
        large: the SAE at the end.
        plan: what changes when.
    """

    def __init__(self, small: SparseAutoencoder, large: SparseAutoencoder, plan: Schedule) -> None:
        self.small, self.large, self.plan = small, large, plan

    def steps(self, x: Float[Tensor, "batch d_in"]) -> Iterator[tuple[Float[Tensor, "batch d_in"], int]]:
        """Yield reconstruction and number of active latents of a batch at each step, from 0.

        Each step adds to the reconstruction of the step before only what has changed.
        """
        small, large = in_raw_units(self.small, x), in_raw_units(self.large, x)
        x_hat = _contribution(small, self.small) + self.small.b_dec.detach() / self.small.input_scale
        active = int(small.l0().sum())
        drops, inserts = self.plan.drop_at[small.indices], self.plan.insert_at[large.indices]
        yield x_hat, active
        for step in range(1, len(self.plan.phases)):
            inserted, dropped = large.where(inserts == step), small.where(drops == step)
            x_hat = x_hat + _contribution(inserted, self.large) - _contribution(dropped, self.small)
            active += int(inserted.l0().sum()) - int(dropped.l0().sum())
            yield x_hat, active

    def latents_at(self, step: int) -> tuple[list[int], list[int]]:
        """Return which latents of the small SAE, and which of the large one, are in use at a step."""
        kept, present = self.plan.drop_at > step, self.plan.insert_at <= step
        return kept.nonzero()[:, 0].tolist(), present.nonzero()[:, 0].tolist()

    def sae(self, step: int) -> Stitched:
        """Return the SAE at a step: one with the latents that are in use there."""
        return Stitched(self.small, self.large, *self.latents_at(step))

    @torch.no_grad()
    def end_deviation(self, x: Float[Tensor, "batch d_in"], x_hat: Float[Tensor, "batch d_in"]) -> float:
        """Return the largest distance of the last step to the large SAE with the small one's `b_dec`.

        It is relative to the mean norm of x.
        """
        large, small = self.large, self.small
        expected = large.decode(large.encode(x)) - large.b_dec / large.input_scale + small.b_dec / small.input_scale
        return float((x_hat - expected).norm(dim=1).max() / x.norm(dim=1).mean())


def measure(stitcher: Stitcher, batches: Iterator[Float[Tensor, "batch d_in"]]) -> dict[str, Any]:
    """Measure error and sparsity at every step.

    Args:
        stitcher: both SAEs and the schedule.
        batches: activations, on the SAEs' device.

    Returns:
        `steps`, a row for each with `phase`, how many latents of either SAE are in use (`n_small`, `n_large`), `mse`
        (summed over dimensions), `explained_variance` and `l0`; `small` and `large`, the same of the SAEs themselves;
        and `end_deviation`.
    """
    plan = stitcher.plan
    saes = {"small": stitcher.small, "large": stitcher.large}
    errors = [torch.zeros((), dtype=torch.float64) for _ in plan.phases]
    active = [0] * len(plan.phases)
    ends: dict[str, list[Any]] = {name: [torch.zeros((), dtype=torch.float64), 0] for name in saes}
    moments, deviation = [], 0.0
    for x in batches:
        moments.append(moments_update(x).cpu())
        for step, (x_hat, n_active) in enumerate(stitcher.steps(x)):
            errors[step] += squared_error_update(x, x_hat).cpu()
            active[step] += n_active
        deviation = max(deviation, stitcher.end_deviation(x, x_hat))
        for name, sae in saes.items():
            code = sae.encode(x)
            ends[name][0] += squared_error_update(x, sae.decode(code)).cpu()
            ends[name][1] += int(code.l0().sum())
    merged = moments_merge(torch.stack(moments))
    n = float(merged[0])

    def row(error: Tensor, n_active: int) -> dict[str, float]:
        return {
            "mse": float(error) / n,
            "explained_variance": float(explained_variance_compute(error, merged)),
            "l0": n_active / n,
        }

    rows = [
        {
            "phase": phase,
            "n_small": int((plan.drop_at > step).sum()),
            "n_large": int((plan.insert_at <= step).sum()),
            **row(errors[step], active[step]),
        }
        for step, phase in enumerate(plan.phases)
    ]
    return {
        "steps": rows,
        **{name: row(*sums) for name, sums in ends.items()},
        "n_samples": int(n),
        "end_deviation": deviation,
    }


def _contribution(code: Code, sae: SparseAutoencoder) -> Tensor:
    return sparse_decode(code.values, code, sae.W_dec.detach())
