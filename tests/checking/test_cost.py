"""What a check costs: sums that can be done by hand, and what is made smaller where memory is short."""

from dataclasses import replace

import pytest

from sae_lightning.checking.cost import Machine, Sizes, estimate, fitted, tokens_for
from sae_lightning.controls import PermutedDecoder, RandomEncoder
from sae_lightning.saes import TopK

MACHINE = Machine(capture=0.01, replace=0.1, flops=1e6, bytes=1e9, memory=1e12)
D_IN, D_SAE = 8, 32
SIZES = Sizes([(TopK(D_IN, d_sae=D_SAE, k=3), 3.0)], {}, 3, 1000, 100, 2, 0)
CONTROLS = {"random": RandomEncoder(), "permuted": PermutedDecoder()}


def test_reading_losses_and_encoding_are_counted_in_tokens():
    reading = (1000 + 100 * (2 + 2)) * 0.01
    losses = (4 + 1) * 100 * 0.1
    encoding = 2 * D_IN * D_SAE * (2 + 2) * 100 / 1e6
    assert estimate(SIZES, MACHINE).seconds == pytest.approx(10 + reading + losses + encoding)


def test_a_random_control_costs_as_often_as_it_is_drawn():
    one, three = (estimate(replace(SIZES, controls=CONTROLS, draws=draws), MACHINE) for draws in (1, 3))
    # Each further draw of the random encoder and of the permutation is made and stands in for the activations.
    sae = SIZES.saes[0][0]
    making = sum(control.cost(sae, 1000, 2 * 100, 3.0).seconds(1e6, 1e9) for control in CONTROLS.values())
    more = 2 * (making + 2 * 100 * 0.1)
    assert three.seconds - one.seconds == pytest.approx(more)
    assert three.disk == one.disk, "one draw is kept"
    assert (replace(SIZES, controls=CONTROLS, draws=3)).n_controls == 2 * 3


def test_a_transcoder_counts_both_its_sides():
    def memory(sae):
        return estimate(replace(SIZES, saes=[(sae, 3.0)]), MACHINE).memory

    # Encoder and decoder and the start of both, and 1000 samples of either side twice.
    wide = TopK(D_IN, d_sae=D_SAE, k=3, d_out=24)
    assert memory(wide) == 4 * (2 * (D_IN + 24) * D_SAE + 2 * 1000 * (D_IN + 24))
    assert memory(SIZES.saes[0][0]) == 4 * (3 * D_IN * D_SAE + 2 * 1000 * D_IN)


def test_minutes_become_the_tokens_that_take_them():
    sizes = replace(SIZES, trained=4)
    tokens = tokens_for(600.0, sizes, MACHINE)
    assert estimate(replace(sizes, train_tokens=tokens), MACHINE).seconds == pytest.approx(600, abs=0.1)
    assert tokens_for(1.0, sizes, MACHINE) == 1, "less than everything else takes"


def test_where_memory_is_short_there_are_fewer_draws_then_fewer_samples():
    sizes = replace(SIZES, controls=CONTROLS, control_samples=65_536)
    needs = {draws: estimate(replace(sizes, draws=draws), MACHINE).memory / 0.85 + 1 for draws in (2, 3)}
    assert fitted(sizes, replace(MACHINE, memory=needs[3])) == (sizes, [])
    smaller, notes = fitted(sizes, replace(MACHINE, memory=needs[2]))
    assert (smaller.draws, smaller.control_samples) == (2, 65_536)
    assert notes == ["Memory is short: draws is 2 and not 3."]
    smaller, notes = fitted(sizes, replace(MACHINE, memory=0.8 * needs[2]))
    assert (smaller.draws, smaller.control_samples) == (2, 32_768), "one draw is refused"
    assert notes[1] == "Memory is short: control_samples is 32,768 and not 65,536."
    with pytest.raises(ValueError, match="^memory: the check needs about .* name fewer --controls"):
        fitted(sizes, replace(MACHINE, memory=1000.0))
