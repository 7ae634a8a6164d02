"""The verdict: for each metric and each baseline, does the SAE beat it?

A comparison is trained minus baseline, paired by seed within a run; see `statistics` for the intervals. Those of one
metric hold for all random baselines of the experiment at once (Bonferroni): the settings fix their number before
anything is measured, and other metrics do not count. The word follows from the interval that is shown:

- `beats` or `loses`: it leaves out 0;
- `equivalent`: it holds 0, and all of it lies within a margin, a share of what the trained SAE has above the floor;
- `unclear`: it holds 0 and more: these data cannot tell;
- `unknown`: there is none.

An interval of no width is no certainty: where nothing varies between the seeds, nothing says how much another seed
would, and the word is `unclear`. A published SAE with its controls is decided in the same way, with the interval of
`beyond_draws`, for all its controls at once. Each baseline is a question of its own: the best of several is never
taken. What is no random baseline (references, policies of the user's own) has the interval of a single comparison. A
baseline whose constraint never acted is the trained SAE again, and is left out; so is a control on a metric that cannot
see what it changed.
"""

import statistics
from collections.abc import Sequence

from sae_lightning import members
from sae_lightning.members import RANDOM_BASELINES, TRAINED, Tag
from sae_lightning.metric import MARGIN, NOT_CONVERGED_ABOVE
from sae_lightning.runs.measurements import Measurements, in_order
from sae_lightning.verdict.comparison import Comparison
from sae_lightning.verdict.differences import Pairing, between, difference_of, values_of
from sae_lightning.verdict.inactive import why_inactive, why_unseen
from sae_lightning.verdict.statistics import crossed, linearised

LOSS_FALL = "loss_fall"
"""The metric that says whether an SAE had converged."""


def decide(runs: Sequence[Measurements], margin: float = MARGIN) -> list[Comparison]:
    """Compare every metric that has a better way with every baseline that has it, in the order of tables.

    Args:
        runs: of one experiment; a family by its sizes (`Measurements.by_size`).
        margin: differences within this share of what the trained SAE has above the floor are equivalent.

    Raises:
        ValueError: if the margin is not between 0 and 1.
    """
    if not 0 <= margin < 1:
        raise ValueError(f"margin {margin}: expected a share from 0 to below 1, such as {MARGIN}")
    tags = list(dict.fromkeys(tag for run in runs for tag in run.values if run.better(tag)))
    comparisons: list[Comparison] = []
    for tag in in_order(runs, tags):
        policies = members.in_order(member.policy for run in runs for member in run.values.get(tag, ()))
        compared = (_compare(runs, tag, policy, margin) for policy in policies if policy != TRAINED)
        comparisons += [comparison for comparison in compared if comparison is not None]
    return comparisons


def better_way(runs: Sequence[Measurements], tag: Tag) -> str:
    """Return which way a metric with a verdict is better."""
    return next(better for run in runs if (better := run.better(tag)))


def floor_of(runs: Sequence[Measurements], tag: Tag, policy: str = "") -> float | None:
    """Return the mean floor over runs, of one policy where it has its own."""
    floors = [floor for run in runs if (floor := run.floor(tag, policy)) is not None]
    return statistics.fmean(floors) if floors else None


def _compare(runs: Sequence[Measurements], tag: Tag, baseline: str, margin: float) -> Comparison | None:
    published = published_of(runs, tag.part)
    random_names = {name for run in runs for name in run.controls} if published else {*RANDOM_BASELINES}
    is_random = baseline in random_names
    is_control = is_random and bool(published)
    if (pairing := Pairing.of(runs, tag, baseline, is_control)) is None:
        return None
    difference, n_items = difference_of(runs, tag, pairing)
    n_random = len({policy for run in runs for policy in run.of_part(tag.part)} & random_names)
    floor, is_better_higher = floor_of(runs, tag, TRAINED), better_way(runs, tag) == "higher"
    return Comparison(
        tag,
        baseline,
        statistics.fmean(pairing.trained.values()),
        statistics.fmean(pairing.others.values()),
        difference.among(n_random) if is_random else difference,
        is_better_higher,
        floor,
        floor_of(runs, tag, baseline),
        _margin(runs, tag, floor, is_better_higher, margin),
        pairing.n_seeds,
        n_items,
        is_random,
        all(run.is_reference(baseline) for run in runs if baseline in run.of_part(tag.part)),
        why_unseen(runs, tag, baseline) if is_control else why_inactive(runs, tag.part, baseline),
        tuple(policy for policy in (TRAINED, baseline) if _still_falls(runs, tag.part, policy)),
        published,
        _subject(runs, published),
        len(pairing.others) if is_control else 0,
    )


def published_of(runs: Sequence[Measurements], part: str) -> str:
    """Return the published SAE that stands in the place of the trained one in a part; empty where none does."""
    return next((run.reference_parts[part] for run in runs if part in run.reference_parts), "")


def _subject(runs: Sequence[Measurements], published: str) -> str:
    """Name the SAE that is compared; a published one by its name where there are several."""
    if not published:
        return f"the trained {runs[0].noun}"
    has_several = len({name for run in runs for name in run.reference_parts.values()}) > 1
    return members.policy_label(published) if has_several else f"the published {runs[0].noun}"


def _margin(
    runs: Sequence[Measurements], tag: Tag, floor: float | None, is_better_higher: bool, margin: float
) -> float | None:
    """Return the margin in the unit of the metric; None where the trained SAE is not clearly above the floor."""
    trained = values_of(runs, tag, TRAINED)
    if floor is None or not trained:
        return None
    gain = between(runs, tag, list(trained.values()), [floor] * len(trained))
    if len(trained) == 1:
        ((number, member),) = trained
        items = runs[number].items.get(tag)
        fractions = items.members.get(member) if items else None
        if fractions is None or len(fractions[0]) < 2:
            return None
        gain = crossed(linearised(*fractions)[None] - floor)
    is_above = gain.half > 0 and (gain.low > 0 if is_better_higher else gain.high < 0)
    return margin * abs(gain.mean) if is_above else None


def _still_falls(runs: Sequence[Measurements], part: str, policy: str) -> bool:
    falls = values_of(runs, Tag(LOSS_FALL, part), policy)
    return bool(falls) and statistics.fmean(falls.values()) > NOT_CONVERGED_ABOVE
