import pytest
import torch
from torch.nn.functional import normalize

from sae_lightning.datamodules import DecoderDirections
from sae_lightning.evaluators import MetaLatents, Reconstruction
from sae_lightning.freeze import NoFreeze
from sae_lightning.members import Member
from sae_lightning.metrics import best_cosine
from sae_lightning.panel import SanityPanel
from sae_lightning.saes import TopK
from sae_lightning.sources import RandomDirections

D_IN, M, N, D_SAE = 32, 24, 276, 48


def unit(n, seed, d_in=D_IN):
    return normalize(torch.randn(n, d_in, generator=torch.Generator().manual_seed(seed)), dim=1)


def save(folder, W_dec):
    sae = TopK(W_dec.shape[1], k=2, d_sae=len(W_dec), seed=99)
    sae.W_dec.data.copy_(W_dec)
    sae.save(folder)
    return str(folder)


@pytest.fixture
def atoms():
    return unit(M, seed=1001)  # no seed of an SAE, which would start from them


@pytest.fixture
def data(tmp_path, atoms):
    """Each direction of the base is the normalised sum of two of M directions; beside it isotropic ones."""
    pairs = torch.rand(N, M, generator=torch.Generator().manual_seed(1002)).topk(2).indices
    base = save(tmp_path / "base", normalize(atoms[pairs].sum(1), dim=1))
    nulls = {"isotropic": RandomDirections()}
    return DecoderDirections([base], batch_size=N, train_samples=400 * N, nulls=nulls)


@pytest.fixture
def panel(data):
    sae = {"k": 2, "d_sae": D_SAE, "dead_after_samples": 2000, "optimizer": lambda of: torch.optim.Adam(of, lr=3e-3)}
    return SanityPanel(data.d_in, lambda d_in: TopK(d_in, **sae), {"trained": NoFreeze()}, widths=data.widths)


def test_planted_directions_are_found_and_isotropic_ones_are_not(panel, data, atoms, tmp_path, trainer):
    smaller = [save(tmp_path / "smaller", atoms), save(tmp_path / "unrelated", unit(40, seed=1007))]
    run = trainer(Reconstruction(), MetaLatents(smaller, k=2), max_steps=200, val_check_interval=200)
    run.fit(panel, data)
    logged = {name.removeprefix("val/"): float(value) for name, value in run.callback_metrics.items()}
    assert best_cosine(atoms, panel.members[Member("trained", 0)].W_dec.detach()).mean() > 0.93
    assert logged["explained_variance/trained/0"] > 0.95
    assert logged[f"meta_best_cosine_{M}/trained/0"] > 0.75
    assert logged[f"meta_share_above_0.7_{M}/trained/0"] > 0.7
    assert logged["pursuit_explained_variance/trained/0"] > 0.95
    assert logged[f"pursuit_explained_variance_{M}/trained/0"] > 0.75
    assert logged["pursuit_explained_variance_40/trained/0"] < 0.6
    assert logged["explained_variance@isotropic/trained/0"] < 0.6
    assert logged[f"meta_best_cosine_{M}@isotropic/trained/0"] == pytest.approx(
        logged[f"meta_best_cosine_{M}@isotropic/floor"], abs=0.05
    )
    assert logged["pursuit_explained_variance@isotropic/trained/0"] < 0.6
    assert logged["pursuit_explained_variance/floor"] < 0.6
    assert logged[f"meta_share_above_0.7_{M}/floor"] < 0.2
    assert logged["base_nearest_cosine/base/0"] > logged["base_nearest_cosine/floor"] + 0.1
    assert logged["base_nearest_cosine@isotropic/base/0"] == pytest.approx(
        logged["base_nearest_cosine@isotropic/floor"], abs=0.02
    )


def test_the_rows_as_dictionary_explain_all_with_one_each(data, trainer):
    data.source = data.source.source  # without nulls
    sae = TopK(D_IN, k=1, d_sae=N)
    sae.W_dec.data.copy_(data.rows)
    evaluator = MetaLatents(k=1, n_rows=100)
    before = torch.get_rng_state()
    trainer(evaluator).validate(sae, data, verbose=False)
    assert torch.equal(torch.get_rng_state(), before)
    scores = evaluator.measured["pursuit_explained_variance"]
    trained = Member("trained", 0)
    assert scores.members[trained] == pytest.approx(1, abs=1e-9)
    assert scores.items.numerators[trained].shape == (100,)
    assert scores.floor[trained] < 0.5


def test_wrong_input(data, synthetic, sae, tmp_path, trainer):
    with pytest.raises(ValueError, match="k=0: expected a whole number, 1 or more"):
        MetaLatents(k=0)
    with pytest.raises(ValueError, match="n_rows=1: expected a whole number, 2 or more"):
        MetaLatents(n_rows=1)
    with pytest.raises(ValueError, match="MetaLatents needs a meta-SAE, and data=SyntheticDataModule"):
        trainer(MetaLatents()).validate(sae, synthetic, verbose=False)
    data.source = data.source.source
    meta = TopK(D_IN, k=2, d_sae=12)
    narrow = save(tmp_path / "narrow", unit(8, 0, d_in=5))
    one, two = save(tmp_path / "one", unit(8, 0)), save(tmp_path / "two", unit(8, 1))
    for evaluator, message in (
        (MetaLatents(k=13), "k=13: expected at most 12 for 12 meta-latents in 32 dimensions"),
        (MetaLatents([narrow]), "narrow has d_in=5, and the directions of the base 32"),
        (MetaLatents([one, two]), "two have 8 latents, by which metrics are named"),
        (MetaLatents([str(tmp_path / "nowhere")]), r"nowhere does not exist: expected a folder or weight file"),
    ):
        with pytest.raises(ValueError, match=message):
            trainer(evaluator).validate(meta, data, verbose=False)


def test_a_smaller_sae_of_the_same_seed_is_warned_of(data, tmp_path, trainer):
    data.source = data.source.source
    TopK(D_IN, k=2, d_sae=8, seed=0).save(tmp_path / "same")
    with pytest.warns(UserWarning, match="same has seed 0, and so has a meta-SAE"):
        trainer(MetaLatents([str(tmp_path / "same")])).validate(TopK(D_IN, k=2, d_sae=12), data, verbose=False)
