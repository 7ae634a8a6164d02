"""Where `b_dec` starts: for a lone SAE and a panel, with each kind of data, in the units of training."""

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from torch.utils.data import DataLoader
from training import D_IN, VARIANTS, SaveAt, Stream, fit

from sae_lightning.freeze import Untrained
from sae_lightning.panel import SanityPanel
from sae_lightning.saes import (
    CovarianceMatched,
    DataPoints,
    GeometricMedian,
    Isotropic,
    Mean,
    SparseAutoencoder,
    TopK,
    Zero,
)

pytestmark = pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
D_SAE = 64


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


class KeepStart(Callback):
    """Keeps the parameters of every member as they are before the first step."""

    def on_train_start(self, trainer, module):
        self.b_dec = {member: sae.b_dec.detach().clone() for member, sae in module.members.items()}


def start_of(module, folder, **kwargs):
    start = KeepStart()
    fit(module, folder, n=1, callbacks=[start, *kwargs.pop("callbacks", [])], **kwargs)
    return start.b_dec


def far_away(n):
    return torch.randn(n, D_IN) + torch.arange(D_IN)


def test_mean_and_zero():
    x = far_away(4096)
    torch.testing.assert_close(Mean().location(x), x.double().mean(0))
    assert Zero().n_samples() == 0
    assert not Zero().location(x).any()


def test_the_geometric_median_has_the_least_mean_distance():
    x = torch.distributions.StudentT(1.5).sample((512, D_IN)) + torch.arange(D_IN)

    def distance(point):
        return (x.double() - point).norm(dim=1).mean()

    median = GeometricMedian().location(x)
    for _ in range(100):
        assert distance(median) <= distance(median + 0.01 * torch.randn(D_IN))


def test_a_few_massive_activations_move_the_mean_and_not_the_geometric_median():
    ordinary = far_away(1000)
    x = torch.cat([ordinary, torch.full((8, D_IN), 1e4)])
    assert (Mean().location(x) - ordinary.mean(0)).norm() > 100
    assert (GeometricMedian().location(x) - ordinary.mean(0)).norm() < 0.2


@pytest.mark.parametrize("x", [torch.ones(9, D_IN), torch.zeros(3, D_IN), torch.eye(D_IN)[:1]])
def test_the_geometric_median_of_equal_points_is_that_point(x):
    torch.testing.assert_close(GeometricMedian().location(x), x[0].double())


def test_the_geometric_median_that_lies_on_a_point_is_finite():
    x = torch.cat([torch.zeros(1, D_IN), torch.eye(D_IN), -torch.eye(D_IN)])  # the mean, where it begins, is a point
    torch.testing.assert_close(GeometricMedian().location(x), torch.zeros(D_IN, dtype=torch.float64))


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.__name__)
@pytest.mark.parametrize("scale_input", [False, True])
def test_every_variant_starts_at_the_location_in_the_units_of_training(variant, scale_input):
    x = far_away(4096)
    sae = variant(D_IN, d_sae=D_SAE, scale_input=scale_input)
    sae.initialise(0, x)
    expected = GeometricMedian().location(x).float() * sae.input_scale
    torch.testing.assert_close(sae.b_dec.detach(), expected)
    here = GeometricMedian().location(x).float()[None]
    torch.testing.assert_close(sae.pre_acts(here).x, torch.zeros(1, D_IN), atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.__name__)
def test_the_start_is_the_same_function_where_b_dec_is_not_subtracted(variant):
    x = far_away(4096)
    subtracts, keeps = (variant(D_IN, d_sae=D_SAE, apply_b_dec_to_input=applied) for applied in (True, False))
    for sae in (subtracts, keeps):
        sae.initialise(0, x)
    one, two = (sae.losses(x[:32], 0) for sae in (subtracts, keeps))
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("b_dec_init", [Zero(), Mean(), GeometricMedian()], ids=lambda init: type(init).__name__)
def test_all_members_of_a_panel_start_at_the_same_point(b_dec_init, tmp_path):
    panel = SanityPanel(D_IN, lambda d_in: TopK(d_in, d_sae=D_SAE, k=4, b_dec_init=b_dec_init), seeds=[0, 1])
    starts = start_of(panel, tmp_path)
    expected = b_dec_init.location(Stream().calibration_sample(4096)).float()
    assert len(starts) == 8
    for member, b_dec in starts.items():
        assert torch.equal(b_dec, expected), member


def test_a_part_starts_at_the_location_of_its_columns(tmp_path):
    panel = SanityPanel(D_IN, lambda d_in: TopK(d_in, d_sae=D_SAE, k=4), widths={"a": 3, "b": 5})
    sample = Stream().calibration_sample(4096)
    for member, b_dec in start_of(panel, tmp_path).items():
        own = sample[:, :3] if member.part == "a" else sample[:, 3:]
        assert torch.equal(b_dec, GeometricMedian().location(own).float()), member


def test_what_is_never_trained_starts_where_the_others_do(tmp_path):
    sae = TopK(D_IN, d_sae=D_SAE, k=4)
    [b_dec] = start_of(sae, tmp_path, callbacks=[Untrained()]).values()
    assert torch.equal(b_dec, GeometricMedian().location(Stream().calibration_sample(4096)).float())


def test_a_resumed_run_keeps_its_b_dec(tmp_path):
    first = TopK(D_IN, d_sae=D_SAE, k=4)
    fit(first, tmp_path, callbacks=[SaveAt(2, tmp_path / "2.ckpt")])
    saved = torch.load(tmp_path / "2.ckpt", weights_only=True)["state_dict"]["b_dec"]
    [b_dec] = start_of(TopK(D_IN, d_sae=D_SAE, k=4), tmp_path, ckpt_path=tmp_path / "2.ckpt").values()
    assert torch.equal(b_dec, saved)


def test_weights_that_were_loaded_are_kept(tmp_path):
    """From a file of one's own, before a fit that is not resumed."""
    loaded, other = TopK(D_IN, d_sae=D_SAE, k=4), TopK(D_IN, d_sae=D_SAE, k=4, seed=1)
    other.initialise(1, far_away(4096))
    loaded.load_state_dict(other.state_dict())
    [b_dec] = start_of(loaded, tmp_path).values()
    assert torch.equal(b_dec, other.b_dec)


def test_a_start_that_was_given_is_kept(tmp_path):
    given = TopK(D_IN, d_sae=D_SAE, k=4)
    x = far_away(10)
    given.initialise(0, x)
    assert torch.equal(start_of(given, tmp_path).popitem()[1], GeometricMedian().location(x).float())
    given.save(tmp_path / "sae")
    b_dec = given.b_dec.detach().clone()
    loaded = SparseAutoencoder.load(tmp_path / "sae").train()
    assert torch.equal(start_of(loaded, tmp_path).popitem()[1], b_dec)


def test_directions_that_were_set_by_hand_are_kept(tmp_path):
    sae = TopK(D_IN, d_sae=D_SAE, k=4)
    own = torch.nn.functional.normalize(torch.randn(D_SAE, D_IN), dim=1)
    with torch.no_grad():
        sae.W_dec.copy_(own)
    sae.W_dec.requires_grad_(False)
    b_dec = start_of(sae, tmp_path).popitem()[1]
    assert torch.equal(sae.W_dec, own)
    assert b_dec.any()


def fit_on(module, folder, *callbacks, **data):
    quiet = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False)
    trainer = Trainer(default_root_dir=folder, max_epochs=1, accelerator="cpu", callbacks=[*callbacks], **quiet)
    trainer.fit(module, **data)


@pytest.mark.parametrize("init", [Isotropic(), CovarianceMatched(), DataPoints()], ids=lambda init: type(init).__name__)
@pytest.mark.parametrize("scale_input", [False, True])
def test_every_start_works_on_a_plain_loader(init, scale_input, tmp_path):
    x = far_away(6000)
    sae = TopK(D_IN, d_sae=D_SAE, k=4, init=init, scale_input=scale_input)
    start = KeepStart()
    fit_on(sae, tmp_path, start, train_dataloaders=DataLoader(x, batch_size=1000))
    expected = TopK(D_IN, d_sae=D_SAE, k=4, init=init, scale_input=scale_input)
    expected.initialise(0, x[: sae.n_calibration_samples])
    assert torch.equal(sae.W_dec_start, expected.W_dec_start)
    assert torch.equal(sae.input_scale, expected.input_scale)
    assert torch.equal(start.b_dec.popitem()[1], expected.b_dec)


def test_a_datamodule_of_ones_own_needs_no_calibration_sample(tmp_path):
    x = far_away(300)

    class Own(LightningDataModule):
        def train_dataloader(self):
            return DataLoader(x, batch_size=100)

    start = KeepStart()
    fit_on(SanityPanel(D_IN, lambda d_in: TopK(d_in, d_sae=D_SAE, k=4)), tmp_path, start, datamodule=Own())
    for member, b_dec in start.b_dec.items():
        assert torch.equal(b_dec, GeometricMedian().location(x).float()), member


def test_looking_at_a_loader_moves_no_generator(tmp_path):
    x, seen = far_away(512), {}

    class Look(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            seen.setdefault(type(module.b_dec_init), batch.clone())

    for init in (Zero(), Mean()):
        torch.manual_seed(3)
        sae = TopK(D_IN, d_sae=D_SAE, k=4, b_dec_init=init)
        fit_on(sae, tmp_path, Look(), train_dataloaders=DataLoader(x, batch_size=64, shuffle=True))
    assert torch.equal(seen[Zero], seen[Mean])


def test_a_loader_without_a_batch_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the training data have no batch"):
        fit_on(TopK(D_IN, d_sae=D_SAE, k=4), tmp_path, train_dataloaders=DataLoader(torch.zeros(0, D_IN), batch_size=4))


def test_bad_arguments():
    with pytest.raises(ValueError, match="max_iterations=0"):
        GeometricMedian(max_iterations=0)
