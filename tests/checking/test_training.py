"""How much a check trains: tokens as they are said, and minutes with as many seeds as leave enough steps."""

from unittest.mock import Mock

import pytest
import torch

from sae_lightning.checking import cost
from sae_lightning.checking.budget import Budget
from sae_lightning.checking.plan import CheckedSAE
from sae_lightning.checking.training import begun_training, training_of
from sae_lightning.saes import TopK

MACHINE = cost.Machine(capture=0.0, replace=0.0, flops=1e6, bytes=1e9, memory=1e9)
SECONDS_A_TOKEN = 4 * 3 * 2 * 8 * 32 / 1e6
"""Of one seed: four SAEs, a step of each as long as three encodings."""
BATCH = 2048


@pytest.fixture
def one():
    sae = TopK(8, d_sae=32, k=3)
    sae.initialise(0, torch.randn(100, 8))
    return Mock(spec=CheckedSAE, sae=sae, l0=3.0)


def minutes_for(steps, n_seeds):
    """Return minutes that are just enough, beside what every check takes."""
    return (steps * BATCH * n_seeds * SECONDS_A_TOKEN * 1.01 + 12) / 60


def sizes(sae):
    return cost.Sizes([(sae, 3.0)], {}, 3, 100, 100, 0, 0, trained=12)


@pytest.mark.parametrize(("steps", "for_seeds", "n"), [(520, 3, 3), (400, 3, 2), (600, 2, 2), (400, 2, 1), (90, 1, 1)])
def test_with_minutes_there_are_as_many_seeds_as_leave_enough_steps(one, steps, for_seeds, n):
    training = training_of(
        Budget("minutes", minutes=minutes_for(steps, for_seeds)), one, [5, 6, 7], sizes(one.sae), MACHINE
    )
    assert list(training.seeds) == [5, 6, 7][:n]
    assert training.budget.tokens == training.remake.budget_tokens
    assert training.budget.tokens // BATCH == pytest.approx(steps * for_seeds / n, rel=0.05)
    assert len(training.notes) == (n < 3)
    assert all(f"{n} seed" in note and "not 3" in note for note in training.notes)


def test_with_tokens_all_seeds_are_kept(one):
    training = training_of(Budget("tokens", tokens=4096), one, [0, 1, 2], sizes(one.sae), MACHINE)
    assert training.budget.tokens == 4096
    assert list(training.seeds) == [0, 1, 2]
    assert not training.notes


def test_a_check_that_goes_on_keeps_its_seeds_and_says_so(one):
    begun = {"data": {"init_args": {"train_samples": 8192}}, "model": {"init_args": {"seeds": [0]}}}
    training = begun_training(Budget("minutes", minutes=1.0), one, 3, begun)
    assert training.budget.tokens == 8192
    assert training.seeds == [0]
    assert training.notes == ["Time is short: 1 seed and not 3, for 4 steps."]
