import numpy as np
import pytest
import torch
from stitching.pairs import data, features, planted, random_sae

from sae_lightning.saes import BatchTopK, ReLU, TopK
from sae_lightning.stitching.insertion import CLASSES, InsertionSums, in_raw_units
from sae_lightning.verdict.statistics import crossed, linearised


def insertions(small, large, x, block=16, batch=100):
    sums = InsertionSums(large.W_dec.detach(), block)
    for part in x.split(batch):
        sums.update(in_raw_units(large, part), part - small.decode(small.encode(part)))
    return sums.compute()


def names(found):
    return [CLASSES[label] for label in found.labels]


@pytest.mark.parametrize("variant", [ReLU, TopK, BatchTopK])
def test_closed_form_equals_inserting_each_latent(variant):
    x = data(features(8), n=300) + 0.3
    sizes = {} if variant is ReLU else {"k": 3}
    small, large = (random_sae(n, seed, variant, x, **sizes) for n, seed in ((10, 1), (24, 2)))
    assert small.input_scale != 1
    found = insertions(small, large, x)
    residual = x - small.decode(small.encode(x))
    dense = large.encode(x).to_dense() / large.input_scale
    for j in range(large.d_sae):
        inserted = (residual - dense[:, j : j + 1] * large.W_dec[j]).double().square().sum(1)
        expected = (inserted - residual.double().square().sum(1)).mean()
        assert found.change[j].item() == pytest.approx(expected.item(), abs=1e-6)
        scales = [c * dense[:, j : j + 1] * large.W_dec[j] for c in np.linspace(0, 20, 4001)] if j < 3 else []
        gains = [(residual.square().sum() - (residual - of).square().sum()).item() / len(x) for of in scales]
        if gains and max(gains) > gains[-1]:
            assert found.gain[j].item() == pytest.approx(max(gains), abs=1e-4)
    assert found.firings.tolist() == (dense != 0).sum(0).tolist()
    assert found.n_samples == len(x)


def test_intervals_are_those_of_the_linearised_blocks():
    x = data(features(8), n=300)
    small, large = random_sae(10, 1, k=3), random_sae(24, 2, k=3)
    found = insertions(small, large, x, block=16, batch=100)  # the last block of each batch has 4 samples
    residual = (x - small.decode(small.encode(x))).double()
    dense = large.encode(x).to_dense().double() / large.input_scale.double()
    for j in range(large.d_sae):
        change = (residual - dense[:, j : j + 1] * large.W_dec[j].double()).square().sum(1) - residual.square().sum(1)
        blocks = [block for part in change.detach().split(100) for block in part.split(16)]
        sums, lengths = np.array([float(of.sum()) for of in blocks]), np.array([float(len(of)) for of in blocks])
        expected = crossed(linearised(sums, lengths)[None])
        assert found.low[j].item() == pytest.approx(expected.low, abs=1e-6)
        assert found.high[j].item() == pytest.approx(expected.high, abs=1e-6)


def test_intervals_are_as_wide_as_those_of_drawing_blocks_again():
    """What a bootstrap over blocks says, to a tenth, without its noise."""
    x = data(features(8), n=1600)
    small, large = random_sae(10, 1, k=3), random_sae(24, 2, k=3)
    found = insertions(small, large, x, block=16, batch=160)
    residual = (x - small.decode(small.encode(x))).double()
    dense = large.encode(x).to_dense().double() / large.input_scale.double()
    drawn = torch.randint(100, (4000, 100), generator=torch.Generator().manual_seed(6))
    often = [j for j in range(large.d_sae) if found.firings[j] > 150]
    assert len(often) > 3
    for j in often:
        change = (residual - dense[:, j : j + 1] * large.W_dec[j].double()).square().sum(1) - residual.square().sum(1)
        again = change.detach().view(100, 16).mean(1)[drawn].mean(1)
        low, high = again.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
        assert found.high[j].item() - found.low[j].item() == pytest.approx(high - low, rel=0.1)
        assert found.low[j].item() == pytest.approx(low, abs=0.1 * (high - low))


def test_those_and_only_those_that_were_added_are_novel():
    directions = features(8)
    shuffled = torch.randperm(8, generator=torch.Generator().manual_seed(3))
    large = planted(torch.cat([directions[shuffled], directions[:1]]), dead=8)
    found = insertions(planted(directions[:5]), large, data(directions))
    assert names(found) == ["novel" if of >= 5 else "reconstruction" for of in shuffled.tolist()] + ["dead"]


def test_a_permuted_sae_has_nothing_novel():
    directions = features(8)
    found = insertions(planted(directions[:5]), planted(directions[torch.tensor([3, 1, 4, 0, 2])]), data(directions))
    assert names(found) == ["reconstruction"] * 5


def test_extremes():
    directions = features(6)
    x = data(directions)
    found = insertions(planted(directions[:5]), planted(directions[[5, 0]], dead=1), x)
    residual = x - planted(directions[:5])(x)
    assert found.change[0].item() == pytest.approx(-residual.square().sum(1).mean().item(), rel=1e-5)
    assert found.change[1].item() == found.low[1].item() == found.high[1].item() == found.gain[1].item() == 0


def test_a_latent_of_the_wrong_size_has_its_gain_at_another_scale():
    directions = features(6)
    x = data(directions)
    small = planted(directions[:5])
    large = planted(directions[5:], encoder=3 * directions[5:])
    found = insertions(small, large, x)
    assert names(found) == ["reconstruction"]
    assert found.gain[0].item() == pytest.approx((x - small(x)).square().sum(1).mean().item(), rel=1e-5)


def test_a_latent_that_helps_in_one_block_only_is_undecided():
    directions = features(6)
    x = data(directions[:5])
    x[:16] += directions[5]
    found = insertions(planted(directions[:5]), planted(directions[5:]), x)
    assert found.change[0] < 0
    assert names(found) == ["undecided"]
