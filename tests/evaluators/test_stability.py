import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch.nn.functional import normalize

from sae_lightning.callbacks import MetricsFile
from sae_lightning.evaluators import SeedAgreement
from sae_lightning.evaluators.latent_scores import LatentScores, mean_over_draws
from sae_lightning.evaluators.seed_agreement import Directions, compared
from sae_lightning.evaluators.stability import Nearest, Stability
from sae_lightning.freeze import NoFreeze
from sae_lightning.members import Member
from sae_lightning.metrics import best_cosine
from sae_lightning.panel import SanityPanel
from sae_lightning.runs.latents import read_latents
from sae_lightning.saes import TopK

FIRST, SECOND, THIRD = (Member("trained", seed) for seed in range(3))
NAN = torch.nan


def rows(n, d_in, seed):
    return torch.randn(n, d_in, generator=torch.Generator().manual_seed(seed))


def test_stability_is_the_mean_over_other_seeds_of_the_latents_that_fire():
    nearest = [
        Nearest(torch.tensor([0.9, 0.1]), torch.tensor([0.2, 0.4, 0.6, 0.8])),
        Nearest(torch.tensor([0.7, 0.3]), torch.tensor([0.2, 0.4, 0.6, 0.8])),
        Nearest(torch.tensor([NAN, NAN]), torch.full((4,), NAN)),  # of that seed no latent fires
    ]
    stability = Stability.of(nearest, torch.tensor([False, True, True]))
    assert stability.latents.tolist() == pytest.approx([NAN, 0.8, 0.2], nan_ok=True)
    assert stability.random.tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert stability.median == pytest.approx(0.2)
    assert stability.random_median == pytest.approx(0.4)


def test_a_latent_is_stable_if_it_is_above_nearly_all_random_directions():
    random = torch.linspace(0, 1, 100, dtype=torch.float64)
    stability = Stability(torch.tensor([NAN, 0.0, 0.5, 0.97, 2.0], dtype=torch.float64), random)
    assert stability.share_below.tolist() == pytest.approx([NAN, 0, 0.5, 0.97, 1], nan_ok=True)
    assert stability.stable_fraction == 0.5
    dead = Stability(torch.full((3,), NAN, dtype=torch.float64), random)
    assert dead.stable_fraction != dead.stable_fraction
    assert dead.median != dead.median


def test_random_directions_are_as_stable_as_random_directions():
    spread = torch.linspace(0.2, 2, 32)  # a covariance with preferred directions

    def directions(n, seed):
        own = normalize(rows(n, 32, seed) * spread, dim=1)
        return Directions(own, own)

    pair = [(directions(1024, 3), directions(1024, 4))]
    found = compared(directions(500, 0), directions(600, 1), pair, to_match=False)
    stability = Stability.of([found.nearest[0]], torch.ones(500, dtype=torch.bool))
    assert stability.stable_fraction == pytest.approx(0.05, abs=0.04)
    assert stability.median == pytest.approx(stability.random_median, abs=0.01)
    isotropic = best_cosine(rows(500, 32, 5), directions(600, 1).decoder)
    assert abs(float(isotropic.median()) - stability.random_median) > 0.05, (
        "which is not the chance of other directions"
    )


def test_the_latents_that_another_seed_has_are_the_stable_ones(data, trainer, tmp_path):
    panel = SanityPanel(6, lambda d_in: TopK(d_in, k=3, d_sae=24), {"trained": NoFreeze()}, seeds=(0, 1, 2))
    saes = [panel.members[member] for member in (FIRST, SECOND, THIRD)]
    run = trainer(SeedAgreement(), MetricsFile(), logger=TensorBoardLogger(tmp_path))
    for sae in saes[1:]:
        sae.W_dec.data[:6] = 3 * saes[0].W_dec.data[6:12]  # of other length, under other numbers
    saes[2].b_enc.data[:3] = -1e3  # and there three of them never fire
    run.validate(panel, data, verbose=False)
    latents = read_latents(next(tmp_path.rglob("latents.safetensors")).parent, 0)
    fires = [sae.encode(data.x).firing_counts() > 0 for sae in saes]
    for number, member in enumerate((FIRST, SECOND, THIRD)):
        others = [other for other in range(3) if other != number]
        expected = torch.stack([best_cosine(saes[number].W_dec, saes[i].W_dec[fires[i]]) for i in others]).mean(0)
        expected = expected.where(fires[number], NAN).tolist()
        assert latents["stability"].members[member].tolist() == pytest.approx(expected, abs=1e-5, nan_ok=True)
        frequency = saes[number].encode(data.x).firing_counts() / len(data.x)
        assert latents["firing_frequency"].members[member].tolist() == pytest.approx(frequency.tolist())
    shared = latents["stability"].members[SECOND][:6][fires[1][:6].numpy()]
    assert len(shared) > 0
    assert shared.min() > latents["stability"].members[SECOND][6:][fires[1][6:].numpy()].min()
    above = latents["stability_above_random"].members[SECOND]
    assert ((above >= 0) == fires[1].numpy()).all()
    assert not any(values.is_quality for values in latents.values())
    measured = {name: float(value) for name, value in run.callback_metrics.items()}
    values = torch.from_numpy(latents["stability"].members[FIRST])
    assert measured["val/seed_stability/trained/0"] == pytest.approx(float(values.nanmedian()))
    assert measured["val/seed_mmcs/trained/0"] == pytest.approx(float(values.nanmean()))
    assert measured["val/seed_stable_fraction/floor"] == pytest.approx(0.05)
    assert measured["val/seed_stable_fraction/trained/0"] == pytest.approx(
        (latents["stability_above_random"].members[FIRST][fires[0].numpy()] > 0.95).mean()
    )


def test_draws_are_averaged_where_a_latent_was_measured():
    def scores(name, **members):
        return LatentScores(name, "", {Member(own, 0): torch.tensor(values) for own, values in members.items()})

    first = scores("accuracy", a=[1.0, NAN, NAN], b=[0.0, 0.0, 0.0])
    joined = mean_over_draws([first, scores("other", a=[2.0]), scores("accuracy", a=[0.5, 0.5, NAN])])
    assert [each.name for each in joined] == ["accuracy", "other"]
    accuracy = {member.policy: values.tolist() for member, values in joined[0].members.items()}
    assert accuracy == {"a": pytest.approx([0.75, 0.5, NAN], nan_ok=True), "b": [0, 0, 0]}
