import pytest
import torch
from stitching.pairs import data, features, planted, random_sae

from sae_lightning.metrics import best_cosine
from sae_lightning.stitching.curve import INSERT, REST, START, SWAP, Stitcher, measure, schedule
from sae_lightning.stitching.swaps import components


def stitcher(small, large, change, novel, threshold=0.7, n_steps=4):
    cosine = best_cosine(large.W_dec.detach(), small.W_dec.detach())
    groups = components(small.W_dec.detach(), large.W_dec.detach(), threshold)
    return Stitcher(small, large, schedule(change, novel, *groups, cosine, n_steps))


def random_stitcher(**kwargs):
    small, large = random_sae(10, 1, k=3), random_sae(24, 2, k=4)
    with torch.no_grad():
        large.W_dec[:6] = small.W_dec[[0, 0, 1, 2, 2, 3]]
    change = torch.randn(24, generator=torch.Generator().manual_seed(5))
    return stitcher(small, large, change, change < -0.3, **kwargs), change


def test_begins_with_the_small_and_ends_with_the_large_sae():
    of, _ = random_stitcher()
    x = data(features(8)) + 0.2
    steps = [x_hat for x_hat, _ in of.steps(x)]
    small, large = of.small, of.large
    assert torch.allclose(steps[0], small(x), atol=1e-5)
    b_decs = large.b_dec / large.input_scale - small.b_dec / small.input_scale
    assert b_decs.abs().max() > 1e-3
    assert torch.allclose(steps[-1] + b_decs, large(x), atol=1e-5)
    assert of.end_deviation(x, steps[-1]) < 1e-5
    assert of.end_deviation(x, steps[-2]) > 1e-3


def test_every_step_is_the_decoding_of_its_latents():
    of, change = random_stitcher()
    x = data(features(8))
    small, large = (sae.encode(x).to_dense() / sae.input_scale for sae in (of.small, of.large))
    found = measure(of, iter(x.split(100)))
    assert found["n_samples"] == len(x)
    for step, (x_hat, active) in enumerate(of.steps(x)):
        kept, present = of.plan.drop_at > step, of.plan.insert_at <= step
        expected = (small * kept) @ of.small.W_dec + (large * present) @ of.large.W_dec
        assert torch.allclose(x_hat, expected + of.small.b_dec / of.small.input_scale, atol=1e-5)
        assert active == int(((small != 0) & kept).sum() + ((large != 0) & present).sum())
        row = found["steps"][step]
        assert row["mse"] == pytest.approx(float((x - x_hat).square().sum(1).mean()), rel=1e-4)
        assert row["explained_variance"] == pytest.approx(
            1 - float((x - x_hat).square().sum() / (x - x.mean(0)).square().sum()), abs=1e-5
        )
        assert (row["n_small"], row["n_large"]) == (int(kept.sum()), int(present.sum()))
        assert row["l0"] == pytest.approx(active / len(x))


def test_phases_insert_by_effect_then_swap_by_cosine_then_exchange_the_rest():
    of, change = random_stitcher()
    plan = of.plan
    assert list(dict.fromkeys(plan.phases)) == [START, INSERT, SWAP, REST]
    assert plan.phases.count(INSERT) == plan.phases.count(SWAP) == plan.phases.count(REST) == 4
    assert [plan.phases[step] for step in plan.ends] == [START, INSERT, SWAP, REST]
    novel = change < -0.3
    by_effect = change.argsort()[: int(novel.sum())]
    assert plan.insert_at[by_effect].diff().min() >= 0
    assert plan.insert_at[~novel].min() > plan.insert_at[novel].max() == 4
    of_small, of_large = components(of.small.W_dec.detach(), of.large.W_dec.detach(), 0.7)
    for component in range(int(of_small.max()) + 1):
        out, into = plan.drop_at[of_small == component], plan.insert_at[(of_large == component) & ~novel]
        assert len({*out.tolist(), *into.tolist()}) == 1
        assert 4 < out[0] <= 8
    assert (plan.drop_at[of_small < 0] > 8).all()
    assert (plan.insert_at[(of_large < 0) & ~novel] > 8).all()


def test_swapping_a_permuted_sae_changes_nothing():
    directions = features(6)
    small, large = planted(directions), planted(directions[torch.tensor([4, 2, 0, 1, 3, 5])])
    of = stitcher(small, large, torch.ones(6), torch.zeros(6, dtype=torch.bool), n_steps=10)
    assert of.plan.phases == [START] + [SWAP] * 6
    x = data(features(8))
    for x_hat, _ in of.steps(x):
        assert torch.allclose(x_hat, small(x), atol=1e-5)


def test_nothing_novel_and_no_component_leaves_one_phase():
    small, large = random_sae(10, 1, k=3), random_sae(24, 2, k=3)
    of = stitcher(small, large, torch.ones(24), torch.zeros(24, dtype=torch.bool), threshold=1.0)
    assert of.plan.phases == [START] + [REST] * 4
    of = stitcher(large, small, torch.ones(10), torch.ones(10, dtype=torch.bool), threshold=1.0)
    assert of.plan.phases == [START] + [INSERT] * 4 + [REST] * 4
    x = data(features(8))
    assert of.end_deviation(x, list(of.steps(x))[-1][0]) < 1e-5
