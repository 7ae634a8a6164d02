"""Contracts that every variant keeps; a new subclass of SparseAutoencoder is picked up by itself."""

import copy
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback
from training import VARIANTS, fit

from sae_lightning.code import Code
from sae_lightning.saes import CovarianceMatched, DataPoints, Isotropic, SparseAutoencoder, TrueFeatures
from sae_lightning.sources import LogUniformProbability, SyntheticSource

pytestmark = pytest.mark.usefixtures("plain_or_fast")

D_IN, D_SAE, BATCH = 8, 64, 32


@pytest.fixture(params=VARIANTS, ids=lambda variant: variant.__name__)
def variant(request):
    return request.param


def started(variant, **kwargs):
    sae = variant(D_IN, d_sae=D_SAE, **kwargs)
    sae.initialise(0, torch.randn(sae.n_calibration_samples, D_IN, generator=torch.Generator().manual_seed(1)))
    return sae


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_weights_in_half_precision_are_refused(variant, tmp_path, precision):
    with pytest.raises(ValueError, match=f"trainer.precision={precision} keeps .* Take trainer.precision=bf16-mixed"):
        fit(started(variant), tmp_path, precision=precision)


def trained(variant, steps=5, **kwargs):
    sae = started(variant, **kwargs)
    optimizer = torch.optim.Adam(sae.parameters(), lr=1e-2)
    for step in range(steps):
        optimizer.zero_grad()
        sae.losses(torch.randn(BATCH, D_IN), step)["loss"].backward()
        sae.project_decoder_gradient()
        optimizer.step()
        sae.constrain()
    return sae


def test_there_are_variants():
    assert len(VARIANTS) >= 6


def test_shapes_and_dtypes(variant):
    sae = trained(variant).eval()
    x = torch.randn(BATCH, D_IN)
    code = sae.encode(x)
    assert isinstance(code, Code)
    assert (code.batch_size, code.d_sae) == (BATCH, D_SAE)
    assert sae.decode(code).shape == x.shape
    assert sae(x.reshape(4, 8, D_IN).bfloat16()).shape == (4, 8, D_IN)
    assert sae(x.bfloat16()).dtype == torch.bfloat16


def test_empty_batch(variant):
    sae = trained(variant).eval()
    assert sae(torch.zeros(0, D_IN)).shape == (0, D_IN)


def test_every_parameter_gets_a_gradient(variant):
    sae = started(variant)
    if hasattr(sae, "threshold") and sae.threshold.requires_grad:
        sae.bandwidth = 0.5
    sae.losses(torch.randn(256, D_IN), 0)["loss"].backward()
    for name, parameter in sae.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_no_gradient_is_kept_through_the_next_forward(variant, tmp_path):
    class Watch(Callback):
        kept = []

        def on_train_batch_start(self, trainer, pl_module, *args):
            self.kept.append([name for name, parameter in pl_module.named_parameters() if parameter.grad is not None])

    fit(started(variant), tmp_path, n=3, callbacks=[Watch()])
    assert Watch.kept == [[], [], []]


def test_no_two_parameters_share_storage(variant):
    tensors = [*started(variant).parameters(), *started(variant).buffers()]
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == len(tensors)


def test_training_lowers_the_loss_and_keeps_unit_norm(variant):
    torch.manual_seed(0)
    data = torch.randn(BATCH, D_IN)
    sae = started(variant)
    optimizer = torch.optim.Adam(sae.parameters(), lr=1e-2)
    losses = []
    for step in range(100):
        optimizer.zero_grad()
        loss = sae.losses(data, step)["loss"]
        loss.backward()
        optimizer.step()
        sae.constrain()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(D_SAE))


def test_projected_gradient_is_orthogonal_to_the_directions(variant):
    sae = started(variant)
    sae.losses(torch.randn(BATCH, D_IN), 0)["loss"].backward()
    sae.project_decoder_gradient()
    torch.testing.assert_close((sae.W_dec.grad * sae.W_dec).sum(1), torch.zeros(D_SAE), atol=1e-5, rtol=0)


def test_save_and_load_give_the_same_output(variant, tmp_path):
    sae = trained(variant).eval()
    sae.save(tmp_path / "sae")
    loaded = SparseAutoencoder.load(tmp_path / "sae")
    x = torch.randn(BATCH, D_IN)
    assert type(loaded) is variant
    torch.testing.assert_close(loaded(x), sae(x))
    assert torch.equal(loaded.encode(x).indices, sae.encode(x).indices)


def test_saving_folds_the_scale(variant, tmp_path):
    x = 40 * torch.randn(4096, D_IN) + 7
    sae = variant(D_IN, d_sae=D_SAE, scale_input=True)
    assert not sae.is_initialised
    sae.initialise(0, x)
    torch.testing.assert_close((x * sae.input_scale).square().sum(1).mean(), torch.tensor(1.0))
    optimizer = torch.optim.Adam(sae.parameters(), lr=1e-2)
    for step in range(3):
        optimizer.zero_grad()
        sae.losses(x[:BATCH], step)["loss"].backward()
        optimizer.step()
        sae.constrain()
    sae.eval()
    sae.save(tmp_path)
    loaded = SparseAutoencoder.load(tmp_path)
    assert loaded.input_scale == 1
    before, after = sae.encode(x[:BATCH]), loaded.encode(x[:BATCH])
    torch.testing.assert_close(after.to_dense(), before.to_dense() / sae.input_scale, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(loaded(x[:BATCH]), sae(x[:BATCH]), rtol=1e-4, atol=1e-3)
    assert sae.input_scale != 1, "saving must leave the SAE as it is"


def test_state_dict_holds_all_that_evaluation_needs(variant):
    sae = trained(variant).eval()
    other = variant(D_IN, d_sae=D_SAE, seed=5)
    other.load_state_dict(copy.deepcopy(sae.state_dict()))
    x = torch.randn(BATCH, D_IN)
    assert torch.equal(other.eval()(x), sae(x))


def test_evaluation_changes_nothing(variant):
    sae = trained(variant).eval()
    before = copy.deepcopy(sae.state_dict())
    sae(torch.randn(BATCH, D_IN))
    for name, tensor in sae.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("scale_input", [False, True])
def test_training_under_bf16_autocast_keeps_float32_weights(variant, scale_input):
    sae = started(variant, scale_input=scale_input)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = sae.losses(torch.randn(BATCH, D_IN), 0)["loss"]
    loss.backward()
    assert loss.dtype == torch.float32
    for name, parameter in sae.named_parameters():
        assert parameter.dtype == parameter.grad.dtype == torch.float32, name


def test_bf16_autocast_is_close_to_float32(variant):
    x = torch.randn(BATCH, D_IN)
    precise = started(variant).losses(x, 0)["loss"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = started(variant).losses(x, 0)["loss"]
    torch.testing.assert_close(rounded, precise, rtol=0.02, atol=0.0)
    assert rounded != precise


@pytest.mark.parametrize("init", [Isotropic(), CovarianceMatched(), DataPoints()], ids=lambda init: type(init).__name__)
@pytest.mark.parametrize("tied_init", [True, False])
def test_starts(variant, init, tied_init):
    one, same, other = (variant(D_IN, d_sae=D_SAE, init=init, tied_init=tied_init) for _ in range(3))
    samples = torch.randn(one.n_calibration_samples, D_IN)
    one.initialise(3, samples)
    same.initialise(3, samples)
    other.initialise(4, samples)
    assert torch.equal(one.W_dec, same.W_dec)
    assert not torch.equal(one.W_dec, other.W_dec)
    torch.testing.assert_close(one.W_dec.norm(dim=1), torch.ones(D_SAE))
    assert torch.equal(one.W_dec, one.W_dec_start)
    assert torch.equal(one.W_enc.T, one.W_dec) == tied_init


@pytest.mark.parametrize("d_sae", [4, 16, 20])
def test_an_oracle_starts_from_the_true_features(d_sae):
    init, source = TrueFeatures(), SyntheticSource(LogUniformProbability(), d_in=D_IN, n_features=16)
    with pytest.raises(ValueError, match="TrueFeatures needs the data"):
        init.directions(d_sae, D_IN, torch.Generator(), None)
    init.prepare(SimpleNamespace(source=source))
    directions = init.directions(d_sae, D_IN, torch.Generator().manual_seed(0), None)
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(d_sae))
    found = (directions @ source.features.T).max(1)
    torch.testing.assert_close(found.values[:16], torch.ones(min(d_sae, 16)))
    assert (source.firing_probabilities[found.indices[:16]].diff() <= 0).all(), "most frequent first"
    assert (found.values[16:] < 0.999).all()


def test_an_oracle_needs_known_features():
    with pytest.raises(ValueError, match="data=SimpleNamespace has none"):
        TrueFeatures().prepare(SimpleNamespace(source=None))


def test_dead_latents_are_counted_in_samples(variant):
    sae = started(variant)
    with torch.no_grad():
        sae.b_enc[7] = -100.0
        sae.losses(torch.randn(BATCH, D_IN), 0)
        sae.losses(torch.randn(5, D_IN), 1)
    assert sae.samples_since_fired[7] == BATCH + 5
    assert (sae.samples_since_fired == 0).any()
    sae.dead_after_samples = BATCH + 5
    assert sae.dead[7]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give exactly one"),
        ({"d_sae": 4, "expansion_factor": 2.0}, "give exactly one"),
        ({"d_sae": 0}, "d_sae=0"),
        ({"d_sae": 64, "aux_coefficient": -1.0}, "aux_coefficient=-1.0"),
    ],
)
def test_bad_arguments(variant, arguments, message):
    with pytest.raises(ValueError, match=message):
        variant(D_IN, **arguments)


def test_expansion_factor(variant):
    assert variant(D_IN, expansion_factor=8.0).d_sae == 64


def test_a_new_start_forgets_which_latents_fired(variant):
    sae = started(variant)
    sae.samples_since_fired.fill_(7)
    sae.initialise(1, torch.randn(sae.n_calibration_samples, D_IN))
    assert not sae.samples_since_fired.any()


def test_a_new_start_scales_anew(variant):
    sae = started(variant, scale_input=True)
    x = 100 * torch.randn(4096, D_IN)
    sae.initialise(1, x)
    torch.testing.assert_close((x * sae.input_scale).square().sum(1).mean(), torch.tensor(1.0))
