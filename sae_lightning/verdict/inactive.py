"""Baselines that are the trained SAE again, since their freeze policy never had to keep anything back."""

from collections.abc import Sequence

from sae_lightning.members import TRAINED, Member
from sae_lightning.runs.measurements import Measurements

_SAME = "its constraint never acted: equal to the trained SAE to the bit"
_WITHIN = "its constraint never acted: no direction reached the least cosine that it allows"
_LEAST_METRICS = 2
"""Without fingerprints: one metric may agree by chance, as a count does."""


def why_inactive(runs: Sequence[Measurements], part: str, baseline: str) -> str:
    """Say why a baseline is no other SAE than the trained one; empty where it is, in at least one seed."""
    members = [
        (run, member)
        for run in runs
        for member in dict.fromkeys(member for tag, own in run.values.items() if tag.part == part for member in own)
        if member.policy == baseline
    ]
    if members and all(_is_trained(runs, run, member) for run, member in members):
        return _SAME
    return _WITHIN if members and all(member in run.inactive for run, member in members) else ""


def _is_trained(runs: Sequence[Measurements], run: Measurements, member: Member) -> bool:
    trained = Member(TRAINED, member.seed, member.part)
    own = run.fingerprints.get(member)
    if own is not None:
        return own in {other.fingerprints.get(trained) for other in runs}
    pairs = [(values[member], values[trained]) for values in run.values.values() if {member, trained} <= set(values)]
    numbers = [(one, other) for one, other in pairs if one is not None]
    return len(numbers) >= _LEAST_METRICS and all(one == other for one, other in pairs)
