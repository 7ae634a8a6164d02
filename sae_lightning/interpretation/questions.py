"""Which latents a judge is asked about, and with which texts."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sae_lightning.interpretation.excerpts import Example, Excerpt, Excerpts
from sae_lightning.interpretation.firings import Counts, Firings

# Not a seed that somebody gives to data or SAEs.
_SEED = 0x1A7E47


@dataclass(frozen=True)
class Question:
    """What a judge is asked about one latent.

    Args:
        latent: its number.
        frequency: share of tokens on which it fires.
        shown: the excerpts on which it fires most strongly, the strongest first.
        contrast: random excerpts on which it does not fire; no text of shown or contrast is judged.
        judged: texts to judge, in random order.
        fires: the right answers.
    """

    latent: int
    frequency: float
    shown: Sequence[Example]
    contrast: Sequence[Excerpt]
    judged: Sequence[Excerpt]
    fires: Sequence[bool]


@dataclass(frozen=True)
class QuestionSettings:
    """How a question is made: the settings of `AutoInterp` with the same names."""

    n_latents: int
    n_shown: int
    n_judged: int
    min_excerpts: int
    min_frequency: float


def choose_latents(counts: Counts, settings: QuestionSettings) -> tuple[list[int], float]:
    """The latents to ask about, in ascending order, and the share of all latents that could have been chosen.

    The same random order of latents is gone through for every member of one size, so members are asked about the same
    numbers as far as these are alive.
    """
    alive = (counts.frequency > settings.min_frequency) & (
        torch.minimum(counts.shown, counts.judged) >= settings.min_excerpts
    )
    order = torch.randperm(len(alive), generator=torch.Generator().manual_seed(_SEED))
    chosen = order[alive[order]][: settings.n_latents]
    return sorted(chosen.tolist()), float(alive.double().mean())


def make_question(
    latent: int, column: int, counts: Counts, firings: Firings, excerpts: Excerpts, settings: QuestionSettings
) -> Question:
    """Texts for one chosen latent.

    Judged are `n_judged` texts on which it fires, evenly spaced from the strongest to the weakest, and as many random
    ones on which it does not; fewer of both where there are fewer of one.

    Args:
        latent: its number.
        column: which of the chosen latents it is.
        counts: of its member.
        firings: of its member.
        excerpts: the text.
        settings: how many texts.
    """
    generator = torch.Generator().manual_seed(_SEED + latent)
    activations = firings.of(column, excerpts.ids.numel()).view(len(excerpts), excerpts.length)
    peaks = activations.amax(1)
    fires = (activations != 0).any(1)
    shown = _by_strength(excerpts.shown & fires, peaks)[: settings.n_shown]
    contrast = _shuffled(excerpts.shown & ~fires, generator)[: settings.n_judged]
    active = _by_strength(excerpts.judged & fires, peaks)
    inactive = _shuffled(excerpts.judged & ~fires, generator)
    n = min(settings.n_judged, len(active), len(inactive))
    spaced = active[torch.linspace(0, len(active) - 1, n).round().long()]
    judged = torch.cat([spaced, inactive[:n]])[torch.randperm(2 * n, generator=generator)]
    return Question(
        latent,
        float(counts.frequency[latent]),
        [Example(excerpts[i], tuple(activations[i].tolist())) for i in shown.tolist()],
        excerpts.take(contrast.tolist()),
        excerpts.take(judged.tolist()),
        fires[judged].tolist(),
    )


def _by_strength(which: Tensor, peaks: Tensor) -> Tensor:
    """Their numbers, the strongest first."""
    numbers = which.nonzero()[:, 0]
    return numbers[peaks[numbers].argsort(descending=True, stable=True)]


def _shuffled(which: Tensor, generator: torch.Generator) -> Tensor:
    """Their numbers in random order."""
    numbers = which.nonzero()[:, 0]
    return numbers[torch.randperm(len(numbers), generator=generator)]
