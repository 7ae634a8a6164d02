"""Soft-frozen members whose constraint never acted, read from how far their directions moved."""

from collections.abc import Mapping, Sequence
from typing import Any

from sae_lightning.members import Member
from sae_lightning.runs.metrics_lines import Validation

_LEAST_COSINE = "cosine_to_start_min"
_RIM = 1e-4
"""A direction that was projected is as far as this from the least cosine that its policy allows, or nearer."""


def inactive_members(validations: Sequence[Validation], policies: Any, freeze: Any) -> frozenset[Member]:
    """Return the members that stayed within what their policy allows at every validation.

    Args:
        validations: of the run.
        policies: of its panel or family, as they stand in its settings; None for the default ones.
        freeze: the policy of a lone SAE.
    """
    given = policies if isinstance(policies, Mapping) else {}
    limits = {name: _min_cosine(own) for name, own in given.items()}
    inactive: dict[Member, bool] = {}
    for validation in validations:
        for tag, members in validation.values.items():
            if tag.metric != _LEAST_COSINE:
                continue
            for member, cosine in members.items():
                kind = validation.sizes.get(member.policy, ("", member.policy))[1]
                limit = limits.get(kind, _min_cosine(freeze) if freeze else _DEFAULTS.get(kind) if not given else None)
                is_within = limit is not None and cosine is not None and cosine > limit + _RIM
                inactive[member] = inactive.get(member, True) and is_within
    return frozenset(member for member, is_inactive in inactive.items() if is_inactive)


_DEFAULTS = {"soft_frozen_decoder": 0.8}
"""Of a panel whose settings name no policies."""


def _min_cosine(policy: Any) -> float | None:
    """Return the least cosine that a policy allows; None for one that is no soft freeze, or that freezes all."""
    arguments = policy.get("init_args") if isinstance(policy, Mapping) else None
    limit = (arguments or {}).get("min_cosine")
    return float(limit) if limit is not None and float(limit) < 1 else None
