"""What the progress bar says of the training."""

from functools import partial

import torch

from sae_lightning.callbacks.progress import _known, training_values
from sae_lightning.freeze import FrozenDecoder, NoFreeze
from sae_lightning.members import LoggedName
from sae_lightning.panel import SanityPanel
from sae_lightning.saes import TopK

SMALL = partial(TopK, k=2, d_sae=16)


def logged(panel, **values):
    """Each value, and one more for every further SAE of the panel."""
    return {
        str(LoggedName.of("train", name, member)): torch.tensor(value + number)
        for name, value in values.items()
        for number, member in enumerate(panel.all_trained_members)
    }


def test_values_are_means_over_the_saes_that_are_trained_freely():
    panel = SanityPanel(8, SMALL, {"trained": NoFreeze(), "frozen_decoder": FrozenDecoder()}, seeds=[0, 1])
    members = list(panel.all_trained_members)
    free = [number for number, member in enumerate(members) if member.policy == "trained"]
    assert len(free) == 2
    values = training_values(logged(panel, loss=4.0, l0=2.0, aux=1.0), panel)
    mean = sum(free) / 2
    assert values == {"loss": 4.0 + mean, "l0": 2.0 + mean}, "in the order of the bar, without what it does not show"


def test_values_are_those_of_all_where_none_is_trained_freely():
    panel = SanityPanel(8, SMALL, {"frozen_decoder": FrozenDecoder()}, seeds=[0, 1])
    assert training_values(logged(panel, loss=4.0), panel) == {"loss": 4.5}
    assert training_values({}, panel) == {}


def test_a_number_of_steps_that_has_no_end_is_not_known():
    assert [_known(n) for n in (3, 3.0, float("inf"), -1)] == [3, 3, 0, 0]
