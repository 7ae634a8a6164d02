"""What is particular about decoder directions as data; the contract of all datamodules is in test_datamodules.py."""

import json
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Trainer
from torch.nn.functional import normalize

from sae_lightning.datamodules import DecoderDirections
from sae_lightning.datamodules.decoder_directions import endless_order
from sae_lightning.evaluators import Reconstruction
from sae_lightning.freeze import NoFreeze
from sae_lightning.panel import SanityPanel
from sae_lightning.saes import CovarianceMatched, TopK
from sae_lightning.sources import GaussianMatched, RandomDirections

D_IN, D_SAE = 8, 40


def save(folder, d_in=D_IN, d_sae=D_SAE, seed=0, dead=(), W_dec=None):
    sae = TopK(d_in, k=2, d_sae=d_sae, seed=seed)
    if W_dec is not None:
        sae.W_dec.data.copy_(W_dec)
    sae.samples_since_fired[list(dead)] = sae.dead_after_samples
    sae.save(folder)
    return str(folder)


def data(*saes, **kwargs):
    return DecoderDirections(list(saes), **{"batch_size": 8, "train_samples": 80} | kwargs)


def test_rows_are_the_directions_of_all_saes_with_unit_norm(tmp_path):
    one, two = save(tmp_path / "one"), save(tmp_path / "two", d_sae=24, seed=1)
    rows = data(one, two).rows
    assert rows.shape == (64, D_IN)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(64))
    torch.testing.assert_close(rows[40:], TopK(D_IN, k=2, d_sae=24, seed=1).W_dec.detach())


def test_the_norm_of_a_direction_does_not_matter(tmp_path):
    W_dec = TopK(D_IN, k=2, d_sae=D_SAE).W_dec.detach()
    scaled = W_dec * torch.linspace(0.1, 9, D_SAE)[:, None]
    as_it_is, other = data(save(tmp_path / "one")).rows, data(save(tmp_path / "two", W_dec=scaled)).rows
    torch.testing.assert_close(other, as_it_is)


def test_dead_latents_are_dropped_on_request(tmp_path):
    folder = save(tmp_path / "sae", dead=[3, 7])
    whole = data(folder).rows
    alive = [i for i in range(D_SAE) if i not in (3, 7)]
    assert len(whole) == D_SAE
    assert torch.equal(data(folder, drop_dead=True).rows, whole[alive])
    TopK.load(folder).save(tmp_path / "again")
    assert len(data(str(tmp_path / "again"), drop_dead=True).rows) == D_SAE - 2


def test_a_pass_has_each_row_once_and_another_order():
    order = endless_order(10, 0, 0, 30).view(3, 10)
    assert torch.equal(order.sort(1).values, torch.arange(10).expand(3, -1))
    assert not torch.equal(order[0], order[1])
    assert torch.equal(torch.cat([endless_order(10, 0, 0, 7), endless_order(10, 0, 7, 30)]), order.flatten())
    assert not torch.equal(endless_order(10, 1, 0, 10), order[0])


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_share_all_rows(tmp_path, world_size):
    folder, ranks = save(tmp_path / "sae", d_sae=37), []
    for rank in range(world_size):
        ranks.append(data(folder))
        ranks[-1].trainer = SimpleNamespace(
            global_rank=rank, world_size=world_size, strategy=SimpleNamespace(root_device="cpu")
        )
    validated = [list(datamodule.val_dataloader()) for datamodule in ranks]
    assert len({len(batches) for batches in validated}) == 1
    assert all(0 < len(batch) <= 8 for batches in validated for batch in batches)
    seen = torch.cat([batch for batches in validated for batch in batches])
    expected = data(folder).rows
    assert torch.equal(seen.unique(dim=0), expected.unique(dim=0))
    assert len(seen) == 37
    trained = [list(datamodule.train_dataloader()) for datamodule in ranks]
    in_turn = torch.cat([batch for batches in zip(*trained, strict=True) for batch in batches])
    assert torch.equal(in_turn, expected[endless_order(37, 0, 0, len(in_turn))])


def test_nulls_are_as_many_fixed_rows_of_unit_norm(tmp_path):
    mixing = torch.randn(D_IN, D_IN, generator=torch.Generator().manual_seed(1))
    W_dec = normalize(torch.randn(2000, D_IN, generator=torch.Generator().manual_seed(2)) @ mixing, dim=1)
    nulls = {"isotropic": RandomDirections(), "gaussian": GaussianMatched()}
    datamodule = data(save(tmp_path / "sae", d_sae=2000, W_dec=W_dec), nulls=nulls)
    assert datamodule.null_parts == ("isotropic", "gaussian")
    assert datamodule.widths == {"": D_IN, "isotropic": D_IN, "gaussian": D_IN}
    real, isotropic, gaussian = datamodule.rows.split(D_IN, 1)
    torch.testing.assert_close(real, W_dec)
    for part in (isotropic, gaussian):
        torch.testing.assert_close(part.norm(dim=1), torch.ones(2000))
        assert (part * real).sum(1).mean().abs() < 0.1
    second = [part.T @ part / 2000 for part in (real, isotropic, gaussian)]
    assert (second[1] - torch.eye(D_IN) / D_IN).abs().max() < 0.02
    # Making unit rows of Gaussian ones evens out a part of the covariance; in 8 dimensions it shows.
    assert (second[2] - second[0]).norm() < 0.3 * (second[1] - second[0]).norm()
    batches = torch.cat(list(datamodule.train_dataloader()))
    assert len(torch.cat([batches, datamodule.rows]).unique(dim=0)) == 2000, "a null has rows of its own, not new ones"


def test_nulls_of_a_resumed_run_are_those_of_its_checkpoint(tmp_path):
    folder = save(tmp_path / "sae")
    first, second = (data(folder, nulls={"gaussian": GaussianMatched()}) for _ in range(2))
    next(iter(first.train_dataloader()))
    state = first.state_dict()
    state["nulls"]["gaussian"]["mean"] += 1  # as another machine may compute it
    second.calibration_sample(5)
    second.load_state_dict(state)
    assert not torch.equal(second.rows, first.rows)


def test_validation_in_inference_mode_leaves_rows_that_can_be_trained_on(tmp_path):
    datamodule = data(save(tmp_path / "sae"), nulls={"gaussian": GaussianMatched()})
    with torch.inference_mode():
        next(iter(datamodule.val_dataloader()))
    assert not datamodule.rows.is_inference()


def test_as_many_meta_latents_as_rows_explain_all_with_one_each(tmp_path):
    datamodule = data(save(tmp_path / "sae"))
    meta = TopK(D_IN, k=1, d_sae=D_SAE)
    meta.W_dec.data.copy_(datamodule.rows)
    meta.W_enc.data.copy_(datamodule.rows.T)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = Trainer(callbacks=[Reconstruction()], default_root_dir=tmp_path, **quiet)
    trainer.validate(meta, datamodule, verbose=False)
    assert trainer.callback_metrics["val/explained_variance/trained/0"] == pytest.approx(1, abs=1e-6)
    meta.b_enc.data.fill_(-9)
    meta.b_dec.data.copy_(datamodule.rows.mean(0))
    trainer.validate(meta, datamodule, verbose=False)
    assert trainer.callback_metrics["val/explained_variance/trained/0"] == pytest.approx(0, abs=1e-6)


def panel(seeds, widths=None, init=None):
    return SanityPanel(
        D_IN, lambda d_in: TopK(d_in, k=2, d_sae=10, init=init), {"trained": NoFreeze()}, None, seeds, widths
    )


def fit_for_a_step(module, datamodule, folder):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = Trainer(
        accelerator="cpu", logger=False, default_root_dir=folder, max_steps=1, num_sanity_val_steps=0, **quiet
    )
    trainer.fit(module, datamodule)


def test_a_meta_sae_that_starts_where_an_sae_did_is_warned_of(tmp_path):
    trained = normalize(torch.randn(D_SAE, D_IN, generator=torch.Generator().manual_seed(9)), dim=1)
    bases = [save(tmp_path / "other", seed=4), save(tmp_path / "base", W_dec=trained)]
    nulls = {"isotropic": RandomDirections()}
    datamodule = data(*bases, nulls=nulls)
    with pytest.warns(UserWarning, match="starts from the directions that") as caught:
        fit_for_a_step(panel([0, 1], datamodule.widths), datamodule, tmp_path)
    messages = [str(warning.message) for warning in caught]
    [message] = [message for message in messages if "starts from" in message]
    assert "meta-SAE trained/0 starts" in message
    assert f"{bases[1]} started from" in message
    with pytest.warns(UserWarning, match="meta-SAE trained/4 starts from the directions that .*other"):
        fit_for_a_step(TopK(D_IN, k=2, d_sae=10, seed=4), data(*bases), tmp_path)


def test_other_starts_are_not_warned_of(tmp_path):
    """Another seed; the same seed and another kind of start; a family, which draws each size by itself."""
    base, family = save(tmp_path / "base"), save(tmp_path / "family", seed=1_000_003)
    fit_for_a_step(panel([1]), data(base, family), tmp_path)  # warnings are errors in tests
    fit_for_a_step(panel([0], init=CovarianceMatched()), data(base), tmp_path)
    fit_for_a_step(TopK(D_IN, k=2, d_sae=10, seed=0), data(family), tmp_path)


def test_wrong_input(tmp_path):
    one, wide = save(tmp_path / "one"), save(tmp_path / "wide", d_in=9)
    with pytest.raises(ValueError, match=r"saes=\[\]: expected one folder or more, each once"):
        data()
    with pytest.raises(ValueError, match="each once"):
        data(one, one)
    with pytest.raises(ValueError, match=r"nowhere does not exist: expected a folder or weight file"):
        data(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="one has d_in=8, .*wide has d_in=9; expected SAEs of the same activations"):
        data(one, wide)
    with pytest.raises(ValueError, match="batch_size=41: expected at most 40, the decoder directions that there are"):
        data(one, batch_size=41)
    with pytest.raises(ValueError, match="decoder directions that are zero"):
        data(save(tmp_path / "zero", W_dec=torch.zeros(D_SAE, D_IN)))
    manifest = json.loads((tmp_path / "one/sae.json").read_text())
    del manifest["dead"]
    (tmp_path / "one/sae.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"drop_dead=true, but .* does not say which latents are dead"):
        data(one, drop_dead=True)
