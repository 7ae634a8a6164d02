"""Massive activations: what the rule calls massive, and that a source reads and edits nothing at their positions."""

import math

import pytest
import tiny
import torch

from sae_lightning.sources import GaussianMatched, LanguageModelSource, NullSource, RandomRotation, TokenBatch
from sae_lightning.sources.massive import HookNorms, MassiveRule, norms_of_sample, row_norms
from sae_lightning.sources.replacing import edited_outputs


def rule(ratio, **medians):
    """A rule that knows these medians by the name of the hook."""
    return MassiveRule(ratio, lambda _: {name.strip("_"): HookNorms(median, 1) for name, median in medians.items()})


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    source = LanguageModelSource(tiny.save_sink_lm(tmp_path_factory.mktemp("sink")), "transformer.drop")
    source.massive = rule(10.0, _=2.0)
    return source


@pytest.fixture
def inputs():
    ids = torch.tensor([[1, 4, 5, 6], [1, 7, 8, 9]])
    return TokenBatch(ids, ids != 1)


def test_a_norm_above_the_multiple_of_the_median_is_massive():
    x = torch.tensor([[0.0, 2.0], [2.0, 0.0], [0.0, 30.0], [3.0, 0.0], [1.0, 0.0]])
    norms = norms_of_sample(x, 10.0, torch.tensor([5, 6, 1, 7, 8]), ["a", "b", "c", "d", "e"])
    assert (norms.median, norms.n, norms.n_massive, norms.largest) == (2.0, 5, 1, 30.0)
    squared = (x.double() - x.double().mean(0)).square().sum(1)
    assert norms.variance_share == pytest.approx(float(squared[2] / squared.sum()))
    assert (norms.places, norms.tokens) == ({"position 1": 1}, ["c"])
    kept = rule(10.0, _=2.0).keeps({"": torch.tensor([20.0, 20.1, math.inf, 0.0])})
    assert kept.tolist() == [True, False, False, True]


def test_a_position_that_is_massive_at_one_hook_stays_at_none():
    kept = rule(10.0, early=1.0, late=5.0).keeps(
        {"early": torch.tensor([5.0, 11.0, 5.0]), "late": torch.tensor([49.0, 5, 51])}
    )
    assert kept.tolist() == [True, False, False]


def test_norms_of_half_precision_do_not_overflow():
    x = torch.full((1, 4096), 2000.0, dtype=torch.float16)
    assert row_norms(x).item() == pytest.approx(2000 * 64)


def test_norms_are_measured_once_and_survive_in_a_state():
    calls = []
    first = MassiveRule(
        10.0, lambda ratio: calls.append(ratio) or {"": HookNorms(3.0, 10, 1, 99.0, 0.5, {"position 1": 1}, ["the"])}
    )
    assert not first.is_known
    assert first.limit() == first.limit() == 30.0
    assert calls == [10.0]
    second = MassiveRule(5.0, lambda _: pytest.fail("measured anew"))
    second.load_state_dict(first.state_dict())
    assert second.limit() == 15.0
    assert second.norms == first.norms
    (line,) = first.describe("tokens")
    assert "1 of the first 10 tokens (1 at position 1, such as 'the') have a norm above 10 times the median" in line
    assert "left out" in line
    first.keep_all()
    assert "They are kept" in first.describe("tokens")[0]
    assert rule(10.0, _=1.0).describe("tokens") == []


@pytest.mark.parametrize("ratio", [1.0, 0.0, -3.0, math.nan])
def test_a_ratio_that_leaves_out_half_of_all_is_refused(ratio):
    with pytest.raises(ValueError, match="max_norm_ratio=.*expected a finite number above 1"):
        MassiveRule(ratio, dict)


def test_capture_calls_massive_positions_not_valid(source, inputs):
    activations, mask = source.capture(inputs)
    assert row_norms(activations)[:, 1].min() > 20 * row_norms(activations)[:, 2:].max()
    assert mask.tolist() == [[False, False, True, True]] * 2
    assert torch.equal(source.valid(inputs, activations), mask)
    everything, tokens = source.with_massive(None).capture(inputs)
    assert torch.equal(everything, activations)
    assert torch.equal(tokens, inputs.mask)


def test_rules_do_not_follow_to_other_hooks_or_models(source):
    assert source.at("transformer.h.0").massive is None
    assert source.redrawn(0, embeddings=True).massive is None


def seen_by_the_model(source, act):
    """What the block above the hook gets while `act` runs the model."""
    seen = []
    handle = source.model.transformer.h[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    act()
    handle.remove()
    return seen[0]


def test_edits_pass_massive_activations_by(source, inputs):
    activations, _ = source.capture(inputs)
    seen = seen_by_the_model(source, lambda: source.replace(inputs, torch.zeros_like))
    assert torch.equal(seen[:, 1], activations[:, 1])
    assert (seen[:, [0, 2, 3]] == 0).all()
    read = []

    def edit(x):
        read.append(x)
        return torch.zeros_like(x)

    seen = seen_by_the_model(source, lambda: edited_outputs(source, inputs, edit, ""))
    assert torch.equal(seen[:, :2], activations[:, :2])
    assert (seen[:, 2:] == 0).all()
    assert torch.equal(read[0], activations[:, 2:].flatten(0, 1)), "the edit does not see them either"


def test_edits_have_gradients_elsewhere(source, inputs):
    step = torch.zeros(2, 4, 16, requires_grad=True)
    source.replace(inputs, lambda x: x + step).square().sum().backward()
    assert (step.grad[:, 1] == 0).all()
    assert (step.grad[:, 2] != 0).any()


def test_nulls_are_made_of_what_is_not_massive(source, inputs):
    sampled = source.capture(inputs)
    nulls = {"noise": GaussianMatched(2), "rotated": RandomRotation()}
    both = NullSource(source, nulls, lambda n: sampled[0][sampled[1]])
    activations, mask = both.capture(inputs)
    assert torch.equal(mask, sampled[1])
    assert row_norms(activations[..., 16:32])[:, 2:].max() < 20
    seen = seen_by_the_model(source, lambda: both.replace(inputs, lambda x: x, "noise"))
    assert torch.equal(seen[:, 1], sampled[0][:, 1])
    assert torch.equal(seen[:, 2:], activations[:, 2:, 16:32]), "with the noise that was captured"
    assert torch.equal(
        edited_outputs(both, inputs, torch.zeros_like, ""), edited_outputs(source, inputs, torch.zeros_like, "")
    )
