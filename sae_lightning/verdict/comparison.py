"""`Comparison`: a metric against a baseline, with the interval and the word that follows from it."""

import math
from dataclasses import dataclass

from sae_lightning.members import Tag
from sae_lightning.verdict.differences import ROUNDING
from sae_lightning.verdict.statistics import Difference

BEATS, LOSES, EQUIVALENT, UNCLEAR = "beats", "loses", "equivalent", "unclear"
UNKNOWN, INACTIVE = "unknown", "inactive"
WORDS = (BEATS, EQUIVALENT, UNCLEAR, LOSES, UNKNOWN, INACTIVE)
"""What the trained or published SAE does to a baseline, in the order of tables; `unknown` where there is no interval,
`inactive` where the baseline is no other SAE."""


@dataclass(frozen=True)
class Comparison:
    """One metric against one baseline.

    Args:
        tag: the metric.
        baseline: name of the policy, the control or what is no SAE.
        trained: mean over seeds.
        value: mean of the baseline.
        difference: trained minus baseline, with the interval that decides.
        is_better_higher: whether more of the metric is better.
        floor: floor of the trained SAE; None without one.
        baseline_floor: floor of the baseline.
        margin: largest difference that is called equivalent; None without a floor, or where the trained SAE is not
            clearly above it.
        n_seeds: pairs of seeds; 1 of a published SAE.
        n_items: evaluation items that entered the interval, 0 for seeds alone.
        is_random: one of the random baselines, or of the controls of a published SAE, for all of which the intervals
            hold at once.
        is_reference: no SAE, such as `pca`.
        inactive: why the baseline is no other SAE than the trained one; empty where it is.
        not_converged: which of the two had not converged.
        published: name of the published SAE that stands in the place of the trained one; empty for one trained here.
        subject: what that, or the trained SAE, is called in a sentence.
        n_draws: draws of the control; 0 where the baseline is none.
    """

    tag: Tag
    baseline: str
    trained: float
    value: float
    difference: Difference
    is_better_higher: bool
    floor: float | None = None
    baseline_floor: float | None = None
    margin: float | None = None
    n_seeds: int = 0
    n_items: int = 0
    is_random: bool = False
    is_reference: bool = False
    inactive: str = ""
    not_converged: tuple[str, ...] = ()
    published: str = ""
    subject: str = "the trained SAE"
    n_draws: int = 0

    @property
    def verdict(self) -> str:
        """The word, which follows from the interval: one of `WORDS`."""
        low, high = self.difference.low, self.difference.high
        if self.inactive:
            return INACTIVE
        if math.isnan(low):
            return UNKNOWN
        if not self.varies:
            return UNCLEAR
        if low > 0 or high < 0:
            return BEATS if (low > 0) == self.is_better_higher else LOSES
        return EQUIVALENT if self.is_within_margin else UNCLEAR

    @property
    def varies(self) -> bool:
        """Whether anything in the data says how much the difference varies; an interval of no width says nothing."""
        scale = max(abs(self.trained), abs(self.value))
        return not self.difference.half <= ROUNDING * scale

    @property
    def has_interval(self) -> bool:
        """Whether there is an interval to show: one that has a width, against an SAE that is another one."""
        return self.verdict not in (UNKNOWN, INACTIVE) and self.varies

    @property
    def is_within_margin(self) -> bool:
        """Whether the whole interval lies within the margin."""
        most = max(abs(self.difference.low), abs(self.difference.high))
        return self.margin is not None and self.varies and most <= self.margin

    @property
    def share(self) -> float | None:
        """The baseline's value above its floor as a share of the trained SAE's; None where that is not above it."""
        if self.floor is None or self.baseline_floor is None:
            return None
        gain = self.trained - self.floor
        return (self.value - self.baseline_floor) / gain if (gain if self.is_better_higher else -gain) > 0 else None

    @property
    def share_in_percent(self) -> str:
        """The share in percent, empty where there is none; of a trained SAE hardly above its floor the limit alone."""
        if self.share is None:
            return ""
        if abs(self.share) >= 10:
            return ">999%" if self.share > 0 else "<-999%"
        return f"{self.share:.0%}"

    @property
    def notes(self) -> list[str]:
        """What limits the comparison, in short."""
        names = [f"not converged: {', '.join(self.not_converged)}"] if self.not_converged else []
        return [*self.limits, *names]

    @property
    def limits(self) -> list[str]:
        """What limits the comparison by itself, whether or not its SAEs had converged."""
        notes = [self.inactive] if self.inactive else []
        if not math.isnan(self.difference.half):
            if not (self.varies or self.inactive):
                notes.append(f"no variation between {self._repeated}, so nothing says how sure it is")
            if self.has_one_degree:
                two = {"draws": self.n_draws, "seeds": self.n_seeds}.get(self._repeated) == 2
                notes.append(f"two {self._repeated if two else 'items or evaluator seeds'}: one degree of freedom")
            notes += self._over()
        return notes

    @property
    def _repeated(self) -> str:
        """What there are several of."""
        if not self.published:
            return "seeds"
        return "draws" if self.n_draws > 1 else "items" if self.n_items else "evaluator seeds"

    def _over(self) -> list[str]:
        """Say over what the interval is, where that is not seeds."""
        if not self.published:
            return ["one seed: over evaluation items"] if self.n_seeds == 1 else []
        if not self.has_interval:
            return []
        draws = [f"{self.n_draws} draws of the control"] if self.n_draws > 1 else []
        items = ["evaluation items"] if self.n_items else []
        return [f"over {' and '.join(draws + items) or 'evaluator seeds'}"]

    @property
    def has_one_degree(self) -> bool:
        """Whether part of the interval rests on one degree of freedom, as between two seeds."""
        return self.has_interval and any(df == 1 for variance, df in self.difference.parts if variance)
