"""Soft-frozen members whose constraint never acted, read from how far their directions moved."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sae_lightning.members import TRAINED, Member
from sae_lightning.runs.metrics_lines import Validation

_LEAST_COSINE = "cosine_to_start_min"
_RIM = 1e-4
"""A direction that was projected is as far as this from the least cosine that its policy allows, or nearer."""
NO_LIMIT = -math.inf
"""Least cosine of directions that no policy keeps back."""
_SOFT = "soft_frozen_decoder"
_DEFAULTS = {_SOFT: 0.8, TRAINED: NO_LIMIT}
"""Of a panel whose settings name no policies."""


def inactive_members(validations: Sequence[Validation], policies: Any, freeze: Any) -> frozenset[Member]:
    """Return the members that stayed within what their policy allows at every validation.

    Args:
        validations: of the run.
        policies: of its panel or family, as they stand in its settings; None for the default ones.
        freeze: the policy of a lone SAE.
    """
    limits = least_cosines(policies, freeze)
    inactive: dict[Member, bool] = {}
    for validation in validations:
        for tag, members in validation.values.items():
            if tag.metric != _LEAST_COSINE:
                continue
            for member, cosine in members.items():
                limit = limits.get(validation.sizes.get(member.policy, ("", member.policy))[1], NO_LIMIT)
                is_within = NO_LIMIT < limit < 1 and cosine is not None and cosine > limit + _RIM
                inactive[member] = inactive.get(member, True) and is_within
    return frozenset(member for member, is_inactive in inactive.items() if is_inactive)


def least_cosines(policies: Any, freeze: Any) -> dict[str, float]:
    """Return by policy the least cosine to its start that a direction may have; of a soft freeze, or of none at all.

    Args:
        policies: of a panel or family, as they stand in its settings; None for the default ones.
        freeze: the policy of a lone SAE.
    """
    if not isinstance(policies, Mapping):
        return _DEFAULTS if not freeze else least_cosines({_SOFT: freeze}, None)
    limits = {name: _least_cosine(own) for name, own in policies.items()}
    return {name: limit for name, limit in limits.items() if limit is not None}


def _least_cosine(policy: Any) -> float | None:
    """Return the limit of a soft freeze, or that there is none; None for another policy."""
    settings = policy if isinstance(policy, Mapping) else {}
    limit = (settings.get("init_args") or {}).get("min_cosine")
    if limit is None:
        return NO_LIMIT if str(settings.get("class_path")).endswith("NoFreeze") else None
    return float(limit)
