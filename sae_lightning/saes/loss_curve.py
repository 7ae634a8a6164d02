"""`LossCurve`: the training loss of every member in sections of the run, and how far it still falls.

A member whose loss still falls has not shown what it can do, and a baseline that learns more slowly than the trained
SAE loses for want of steps. The fall is measured where the learning rate was last at its highest: the last tenth of
the run before it decays against the tenth before that. A decay makes every loss fall by itself, also that of a member
that would learn no more however long it trained, and its end stops the others; neither says what a longer run would
bring. Under a schedule that has no such stretch (a cosine falls all along) it is the last two tenths of the steps so
far, and the fall holds what the falling rate brings too: an upper bound.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

SECTIONS = 40
"""Sections of a run."""
_TENTH = SECTIONS // 10
_SMALLEST = 1e-30
"""What a loss of 0 counts as."""
_HIGHEST = 0.99
"""Share of the highest learning rate from which on it counts as at its highest."""


class LossCurve:
    """Sums of log losses over the steps of each section, on the device where the losses are; nothing waits for them.

    They are those of one rank. Other ranks train on other batches of the same data, so one is enough.

    Args:
        n_steps: optimizer steps of the run.
        n_members: number of SAEs.
        device: of the losses.
    """

    def __init__(self, n_steps: int, n_members: int, device: torch.device | str = "cpu") -> None:
        dtype = torch.float32 if torch.device(device).type == "mps" else torch.float64
        self.n_steps = n_steps
        self.log_sums = torch.zeros(SECTIONS, n_members, dtype=dtype, device=device)
        self.counts = [0] * SECTIONS
        self.rates = [float("inf")] * SECTIONS
        """The lowest learning rate in each section."""

    def add(self, step: int, losses: Float[Tensor, " n_members"], rate: float) -> None:
        """Take in one batch.

        Args:
            step: optimizer steps before it.
            losses: of each member.
            rate: learning rate of the step.
        """
        section = min(step * SECTIONS // self.n_steps, SECTIONS - 1)
        self.log_sums[section] += losses.detach().to(self.log_sums.dtype).clamp_min(_SMALLEST).log()
        self.counts[section] += 1
        self.rates[section] = min(self.rates[section], rate)

    def fall(self) -> Float[Tensor, " n_members"] | None:
        """Return by what share of itself the loss falls in a tenth of the run, as the module's docstring says.

        Returns:
            One value for each member, negative where its loss rises; None before two tenths of the run.
        """
        n_done = max((i + 1 for i, count in enumerate(self.counts) if count), default=0)
        highest = max((rate for rate, count in zip(self.rates, self.counts, strict=True) if count), default=0.0)
        end = max((i + 1 for i in range(n_done) if self.counts[i] and self.rates[i] >= _HIGHEST * highest), default=0)
        if end < max(2 * _TENTH, n_done / 2):
            end = n_done
        before, last = (slice(end - 2 * _TENTH, end - _TENTH), slice(end - _TENTH, end))
        if end < 2 * _TENTH or not sum(self.counts[before]) or not sum(self.counts[last]):
            return None
        return 1 - self._mean(last) / self._mean(before)

    def last_tenth(self) -> Float[Tensor, " n_members"]:
        """Return the geometric mean of the losses of each member in the last tenth of the run, NaN before it."""
        return self._mean(slice(SECTIONS - _TENTH, SECTIONS))

    def _mean(self, sections: slice) -> Float[Tensor, " n_members"]:
        return (self.log_sums[sections].sum(0) / torch.tensor(sum(self.counts[sections]))).exp()

    def state_dict(self) -> dict[str, Any]:
        """Return everything, as a checkpoint holds it."""
        return {"n_steps": self.n_steps, "log_sums": self.log_sums, "counts": [*self.counts], "rates": [*self.rates]}

    @classmethod
    def of(cls, state: dict[str, Any], members: Sequence[int] | None = None) -> "LossCurve":
        """Return the curve of a checkpoint; older ones have the arithmetic mean of each section alone.

        Args:
            state: as `state_dict` returns it.
            members: numbers of those whose losses are kept; by default all.
        """
        if "sums" in state:
            counts = torch.tensor(state["counts"], device=state["sums"].device).unsqueeze(1)
            log_sums = counts * (state["sums"] / counts.clamp_min(1)).clamp_min(_SMALLEST).log()
        else:
            log_sums = state["log_sums"]
        if members is not None:
            log_sums = log_sums[:, list(members)]
        curve = cls(state["n_steps"], log_sums.shape[1], log_sums.device)
        curve.log_sums, curve.counts, curve.rates = log_sums.clone(), [*state["counts"]], [*state["rates"]]
        return curve

    def to(self, device: torch.device) -> None:
        """Move the sums to where the losses are."""
        self.log_sums = self.log_sums.to(device)
