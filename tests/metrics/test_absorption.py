import pytest
import torch

from sae_lightning.metrics.absorption import absorption_fraction, is_fully_absorbed

COSINES = torch.tensor([0.9, 0.8, 0.5, 0.3, 0.2, 0.05, -0.6])
MAIN = torch.tensor([0])


def fraction(contributions, projection, main=MAIN):
    return float(absorption_fraction(torch.tensor([contributions]), COSINES, torch.tensor([projection]), main))


def is_full(contributions, projection, main_fires=False):
    fires = torch.tensor([main_fires])
    return bool(is_fully_absorbed(torch.tensor([contributions]), COSINES, torch.tensor([projection]), fires))


@pytest.mark.parametrize(
    ("contributions", "projection", "expected"),
    [
        ([1.0, 0, 0, 0, 0, 0, 0], 1.0, 0.0),  # the main latent does everything
        ([0.0, 1, 0, 0, 0, 0, 0], 1.0, 1.0),  # another one does
        ([-1.0, 1, 0, 0, 0, 0, 0], 1.0, 1.0),  # the main latent works against it
        ([1.0, 2, 0, 0, 0, 0, 0], 3.0, 2 / 3),
        ([1.0, 2, 0, 0, 0, 0, 0], 2.0, 1 / 2),  # no more than what the main latent leaves
        ([2.0, 2, 0, 0, 0, 0, 0], 2.0, 0.0),  # which is nothing here
        ([0.0, 0.3, 0, 0, 0, 0, 0], 1.0, 0.0),  # below 0.4 of the projection
        ([0.0, 0.15, 0.15, 0.15, 0, 0, 0], 1.0, 1.0),  # three together
        ([0.0, 0.12, 0.12, 0.12, 0.12, 0, 0], 1.0, 0.0),  # a fourth does not count
        ([0.0, 0, 0, 0, 0, 1, 0], 1.0, 0.0),  # not along the probe
        ([0.0, 1, 0, 0, 0, 0, 0], -1.0, 0.0),  # the activation itself points away from it
        ([0.0, 1, 0, 0, 0, 0, 0], 0.0, 0.0),
        ([0.0, 0, 0, 0, 0, 0, 0], 1.0, 0.0),  # nothing fires
    ],
)
def test_the_fraction_by_hand(contributions, projection, expected):
    assert fraction(contributions, projection) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("contributions", "projection", "main_fires", "expected"),
    [
        ([0.0, 0.4, 0, 0, 0, 0, 0], 1.0, False, True),
        ([0.0, 0.39, 0, 0, 0, 0, 0], 1.0, False, False),
        ([0.0, 0.2, 0.2, 0.2, 0, 0, 0], 1.0, False, False),  # one latent alone
        ([0.0, 1, 0, 0, 0, 0, 0], 1.0, True, False),
        ([0.0, 0, 0, 0, 0, 1, 0], 1.0, False, True),  # a smaller cosine is enough than for the fraction
        ([0.0, 0, 0, 0, 0, 0, 1], 1.0, False, False),  # but not a negative one
        ([0.0, 1, 0, 0, 0, 0, 0], -1.0, False, False),
        ([0.0, 0, 0, 0, 0, 0, 0], 1.0, False, False),
    ],
)
def test_full_absorption_by_hand(contributions, projection, main_fires, expected):
    assert is_full(contributions, projection, main_fires) == expected


def test_no_main_latent_and_fewer_latents_than_may_absorb():
    contributions, nobody = torch.tensor([[0.5, 0.0]]), torch.tensor([], dtype=torch.int64)
    found = absorption_fraction(contributions, torch.tensor([0.9, 0.9]), torch.tensor([1.0]), nobody)
    assert found.tolist() == [1.0]


def test_a_loop_over_words_and_latents_agrees():
    random = torch.Generator().manual_seed(0)
    contributions = torch.randn(200, 7, generator=random).relu() * COSINES.sign()
    projections, main = torch.randn(200, generator=random) + 1, torch.tensor([1, 4])
    found = absorption_fraction(contributions, COSINES, projections, main)
    full = is_fully_absorbed(contributions, COSINES, projections, (contributions[:, main] != 0).any(1))
    n_partial = 0
    words = zip(contributions.tolist(), projections.tolist(), found.tolist(), full.tolist(), strict=True)
    for row, projection, own, is_all in words:
        of_main = row[1] + row[4]
        others = sorted((c for i, c in enumerate(row) if i in (0, 2, 3) and c > 0), reverse=True)[:3]
        if of_main >= projection or sum(others) / projection < 0.4:
            expected = 0.0
        elif of_main <= 0:
            expected = 1.0
        else:
            taken = min(sum(others), projection - of_main)
            expected = taken / (taken + of_main)
            n_partial += 1
        assert own == pytest.approx(expected, abs=1e-6)
        best = max(range(7), key=row.__getitem__)
        enough = projection > 0 and COSINES[best] >= 0.025 and row[best] >= 0.4 * projection
        assert is_all == (row[1] == row[4] == 0 and enough)
    assert n_partial > 20
    assert 0 < sum(full.tolist()) < 200
