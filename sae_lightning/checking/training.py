"""How much a check trains: a budget becomes tokens, and minutes that are few become fewer seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sae_lightning.checking import cost
from sae_lightning.checking.budget import Budget
from sae_lightning.checking.configuration import policies_for
from sae_lightning.checking.plan import CheckedSAE
from sae_lightning.checking.remake import Remake, remake_of

_LEAST_STEPS = 500
"""With minutes there are fewer seeds rather than fewer steps than this."""


@dataclass(frozen=True)
class Training:
    """What is trained.

    Args:
        budget: in tokens.
        remake: the settings.
        seeds: of each policy.
        notes: what was made smaller, and why.
    """

    budget: Budget
    remake: Remake
    seeds: Sequence[int]
    notes: Sequence[str] = ()


def training_of(
    budget: Budget, one: CheckedSAE, seeds: Sequence[int], sizes: cost.Sizes, machine: cost.Machine
) -> Training:
    """Return what fits into a budget: as many tokens as it says, or as minutes leave.

    Args:
        budget: of the user.
        one: the SAE.
        seeds: that the user asks for; with minutes the first of them, as many as leave 500 steps, and at least one.
        sizes: of the check.
        machine: that it runs on.
    """
    if budget.tokens is not None:
        return Training(budget, remake_of(one.sae, one.l0, budget.tokens), seeds)
    for n in range(len(seeds), 0, -1):
        tokens = cost.tokens_for(
            60 * (budget.minutes or 0), replace(sizes, trained=len(policies_for(one.sae)) * n), machine
        )
        remake = remake_of(one.sae, one.l0, tokens)
        if tokens // remake.batch_size >= _LEAST_STEPS:
            break
    return Training(budget.with_tokens(tokens), remake, seeds[:n], _notes(n, len(seeds), remake))


def begun_training(budget: Budget, one: CheckedSAE, n_seeds: int, begun: Mapping[str, Any]) -> Training:
    """Return what is trained in a check that was begun before.

    Args:
        budget: of the user.
        one: the SAE.
        n_seeds: that the user asks for.
        begun: configuration of that check.
    """
    tokens = budget.tokens or int(begun["data"]["init_args"]["train_samples"])
    seeds, remake = begun["model"]["init_args"]["seeds"], remake_of(one.sae, one.l0, tokens)
    return Training(budget.with_tokens(tokens), remake, seeds, _notes(len(seeds), n_seeds, remake))


def _notes(n: int, n_wanted: int, remake: Remake) -> list[str]:
    if n == n_wanted:
        return []
    steps = remake.budget_tokens // remake.batch_size
    return [f"Time is short: {n} seed{'s' * (n > 1)} and not {n_wanted}, for {steps:,} steps."]
