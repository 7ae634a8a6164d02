"""Which latents probes on a single latent read, and how well each of these tells its class."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from scipy.sparse import csr_matrix
from torch import Tensor

from sae_lightning.evaluators.latent_scores import LatentScores
from sae_lightning.members import Member
from sae_lightning.probing.probe import mean_difference
from sae_lightning.probing.problems import Problem


@dataclass(frozen=True)
class ProbedLatents:
    """What probes on single latents did on one task.

    Args:
        read: [n_problems] which latent the probe of each problem reads.
        accuracy: [n_problems] of that probe on held-out examples; nan where these have one answer alone.
        fires: [d_sae] whether a latent fires on any example; a probe on one that does not reads nothing.
    """

    read: Int64[np.ndarray, " n_problems"]
    accuracy: Float[np.ndarray, " n_problems"]
    fires: Bool[np.ndarray, " d_sae"]

    @classmethod
    def of(
        cls, latents: csr_matrix, problems: Sequence[Problem], accuracy: Float[np.ndarray, " n_problems"]
    ) -> "ProbedLatents":
        """Find the latents that `top_columns` puts first.

        Args:
            latents: [n_examples, d_sae].
            problems: that were probed.
            accuracy: [n_problems] of the probes on one latent.
        """
        active = latents.indices[latents.data != 0]  # a TopK row may hold zeros
        fires = np.bincount(active, minlength=latents.shape[1]) > 0
        return cls(np.abs(mean_difference(latents, problems)).argmax(0), accuracy, fires)


def probed_latent_scores(tasks: Mapping[Member, Sequence[ProbedLatents]]) -> Iterator[LatentScores]:
    """Yield for each latent how many probes read it, and their mean accuracy; nothing without probes on one latent.

    Args:
        tasks: of one draw, for each member; none of a member without such probes.
    """
    counts, accuracies = {}, {}
    for member, of_tasks in tasks.items():
        if of_tasks:
            counts[member], accuracies[member] = _of_member(of_tasks)
    if counts:
        yield LatentScores("probe_choices", "probes on one latent that choose it", counts)
        yield LatentScores("probe_accuracy", "accuracy of the probes that choose it", accuracies)


def _of_member(tasks: Sequence[ProbedLatents]) -> tuple[Tensor, Tensor]:
    """Return [d_sae] counts, nan for latents that fire in no task, and [d_sae] accuracies, nan for those not read."""
    fires = np.any([task.fires for task in tasks], 0)
    read = np.concatenate([task.read for task in tasks])
    accuracy = np.concatenate([task.accuracy for task in tasks])
    known = fires[read] & np.isfinite(accuracy)
    counts = np.bincount(read[known], minlength=len(fires))
    sums = np.bincount(read[known], accuracy[known], len(fires))
    means = np.divide(sums, counts, out=np.full(len(fires), np.nan), where=counts > 0)
    return torch.from_numpy(np.where(fires, counts, np.nan)), torch.from_numpy(means)
