"""`InterpretationTask`: the texts from which a judge explains a latent, and those on which it predicts firing."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sae_lightning.interpretation.excerpts import Example, Excerpt, Excerpts
from sae_lightning.interpretation.firings import Counts, Firings

# Not a seed that somebody gives to data or SAEs.
SEED = 0x1A7E47


@dataclass(frozen=True)
class InterpretationTask:
    """Texts for one latent.

    Args:
        latent: its number.
        frequency: share of tokens on which it fires.
        shown: the excerpts on which it fires most strongly, the strongest first.
        contrast: random excerpts on which it does not fire; no text of shown or contrast is judged.
        judged: texts to judge, in random order.
        fires: whether the latent fires in each of them.
    """

    latent: int
    frequency: float
    shown: Sequence[Example]
    contrast: Sequence[Excerpt]
    judged: Sequence[Excerpt]
    fires: Sequence[bool]


@dataclass(frozen=True)
class TaskSettings:
    """How tasks are made: the settings of `AutoInterp` with the same names."""

    n_latents: int
    n_shown: int
    n_judged: int
    min_excerpts: int
    min_frequency: float


def choose_latents(counts: Counts, settings: TaskSettings, seed: int = SEED) -> tuple[list[int], float]:
    """Sample latents to interpret.

    They are taken in one random order for all members of a size, so that members share latents as far as these are
    alive.

    Returns:
        The latents, ascending, and the share of all latents that could have been sampled.
    """
    alive = (counts.frequency > settings.min_frequency) & (
        torch.minimum(counts.shown, counts.judged) >= settings.min_excerpts
    )
    order = torch.randperm(len(alive), generator=torch.Generator().manual_seed(seed))
    chosen = order[alive[order]][: settings.n_latents]
    return sorted(chosen.tolist()), float(alive.double().mean())


def make_task(
    latent: int,
    column: int,
    counts: Counts,
    firings: Firings,
    excerpts: Excerpts,
    settings: TaskSettings,
    seed: int = SEED,
) -> InterpretationTask:
    """Choose the texts for one latent.

    Judged are `n_judged` texts on which it fires, evenly spaced from the strongest to the weakest, and as many random
    ones on which it does not; fewer of both where there are fewer of one.

    Args:
        latent: its number.
        column: its place among the chosen latents.
        counts: of its member.
        firings: of its member.
        excerpts: the text.
        settings: how many texts.
        seed: of what is drawn.
    """
    generator = torch.Generator().manual_seed(seed + latent)
    activations = firings.activations(column, excerpts.ids.numel()).view(len(excerpts), excerpts.length)
    peaks = activations.amax(1)
    fires = (activations != 0).any(1)
    shown = _by_strength(excerpts.shown & fires, peaks)[: settings.n_shown]
    contrast = _shuffled(excerpts.shown & ~fires, generator)[: settings.n_judged]
    active = _by_strength(excerpts.judged & fires, peaks)
    inactive = _shuffled(excerpts.judged & ~fires, generator)
    # Half of each, so that any constant answer is correct in half of the texts.
    n = min(settings.n_judged, len(active), len(inactive))
    spaced = active[torch.linspace(0, len(active) - 1, n).round().long()]
    judged = torch.cat([spaced, inactive[:n]])[torch.randperm(2 * n, generator=generator)]
    return InterpretationTask(
        latent,
        float(counts.frequency[latent]),
        [Example(excerpts[i], tuple(activations[i].tolist())) for i in shown.tolist()],
        excerpts.take(contrast.tolist()),
        excerpts.take(judged.tolist()),
        fires[judged].tolist(),
    )


def _by_strength(which: Tensor, peaks: Tensor) -> Tensor:
    """Return the numbers of the excerpts that are True, the strongest first."""
    numbers = which.nonzero()[:, 0]
    return numbers[peaks[numbers].argsort(descending=True, stable=True)]


def _shuffled(which: Tensor, generator: torch.Generator) -> Tensor:
    """Return the numbers of the excerpts that are True, in random order."""
    numbers = which.nonzero()[:, 0]
    return numbers[torch.randperm(len(numbers), generator=generator)]
