"""Baselines that are the trained SAE again.

A freeze policy that never had to keep anything back gives the trained SAE. A control that changes the decoder alone has
the latents of the published SAE, and a metric of the latents cannot tell the two apart.
"""

from collections.abc import Sequence

from sae_lightning.members import TRAINED, Member, Tag
from sae_lightning.runs.measurements import Measurements

_SAME = "its constraint never acted: equal to the trained {} to the bit"
_WITHIN = "its constraint never acted: no direction reached the least cosine that it allows"
_LEAST_METRICS = 2
"""Without fingerprints: one metric may agree by chance, as a count does."""
_EQUAL = "equal to the published {} to the bit"
_SAME_LATENTS = "it has the latents of the published {}, and this metric sees nothing else"
_L0, _DEAD = "l0", "dead_fraction"
_LEAST_TELLING = 3
"""Metrics that have to agree to the bit where l0 is the same to all SAEs, as with a TopK."""


def why_inactive(runs: Sequence[Measurements], part: str, baseline: str) -> str:
    """Say why a baseline is no other SAE than the trained one; empty where it is, in at least one seed."""
    members = _of_policy(runs, part, baseline)
    if members and all(_is_trained(runs, run, member) for run, member in members):
        return _SAME.format(runs[0].noun)
    return _WITHIN if members and all(member in run.inactive for run, member in members) else ""


def why_unseen(runs: Sequence[Measurements], tag: Tag, control: str) -> str:
    """Say why a metric cannot differ between a published SAE and a control of it; empty where it can.

    That it agrees to the bit is not enough, since SAEs may agree on a share of a few examples: l0 and the share of dead
    latents have to agree, and more that agrees by chance seldom.
    """
    here = [pair for run in runs for pair in run.values.get(tag, {}).items()]
    if len({value for member, value in here if member.policy in (TRAINED, control)}) > 1:
        return ""
    published, *_ = _of_policy(runs, tag.part, TRAINED)
    draws = _of_policy(runs, tag.part, control)
    prints = [run.fingerprints.get(member) for run, member in (published, *draws)]
    if None not in prints and len(set(prints)) == 1:
        return _EQUAL.format(runs[0].noun)
    return _SAME_LATENTS.format(runs[0].noun) if all(_has_its_latents(published, draw) for draw in draws) else ""


def _of_policy(runs: Sequence[Measurements], part: str, policy: str) -> list[tuple[Measurements, Member]]:
    return [
        (run, member)
        for run in runs
        for member in dict.fromkeys(member for own in run.values.values() for member in own)
        if (member.policy, member.part) == (policy, part)
    ]


def _has_its_latents(published: tuple[Measurements, Member], draw: tuple[Measurements, Member]) -> bool:
    """Return whether a draw has the latents of the published SAE, as far as their metrics show."""
    values, others = _values(*published), _values(*draw)
    agree = {name: value for name, value in values.items() if others.get(name) == value}
    if not {_L0, _DEAD} & set(values) <= set(agree):
        return False
    telling = [name for name, value in agree.items() if not (2 * value).is_integer()]
    return _L0 in telling or len(telling) >= _LEAST_TELLING


def _values(run: Measurements, member: Member) -> dict[str, float]:
    """Return what a member has, by metrics of its part."""
    return {tag.metric: float(value) for tag, own in run.values.items() if (value := own.get(member)) is not None}


def _is_trained(runs: Sequence[Measurements], run: Measurements, member: Member) -> bool:
    trained = Member(TRAINED, member.seed, member.part)
    own = run.fingerprints.get(member)
    if own is not None:
        return own in {other.fingerprints.get(trained) for other in runs}
    pairs = [(values[member], values[trained]) for values in run.values.values() if {member, trained} <= set(values)]
    numbers = [(one, other) for one, other in pairs if one is not None]
    return len(numbers) >= _LEAST_METRICS and all(one == other for one, other in pairs)
