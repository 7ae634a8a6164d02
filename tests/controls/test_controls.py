"""What holds of every control: l0, determinism, saving, what is refused, and that the SAE itself is left alone."""

import math

import jaxtyping
import pytest
import torch
from controls.cases import CASES, D_IN, activations, case, made, sae_of, tensors

from sae_lightning.controls import PermutedDecoder, RandomDecoder, RandomEncoder, default_controls, measured_l0
from sae_lightning.saes import BatchTopK, Pursuit, ReLU, SparseAutoencoder, TopK

CONTROLS = default_controls()
every_control = pytest.mark.parametrize("name", CONTROLS)


def test_the_order_and_the_names():
    assert list(CONTROLS) == [
        "random_encoder",
        "random_encoder_covariance",
        "random_decoder_pursuit",
        "random_decoder_tied",
        "own_rows_pursuit",
        "own_rows_tied",
        "permuted_decoder",
        "principal_components",
        "raw_dimensions",
    ]
    assert len({control.controls_for for control in CONTROLS.values()}) == len(CONTROLS)


@every_control
@pytest.mark.parametrize("of", CASES)
def test_l0_is_that_of_the_sae_within_5_percent(name, of):
    sae = case(of)
    samples, held_out = activations(3000), activations(3000, seed=5)
    l0 = measured_l0(sae, samples)
    own = made(CONTROLS[name], sae, samples, l0=l0)
    assert own.input_norm == sae.input_norm
    assert measured_l0(own, samples) == pytest.approx(l0, rel=0.02)
    assert measured_l0(own, held_out) == pytest.approx(measured_l0(sae, held_out), rel=0.05)
    assert own(held_out).isfinite().all()
    if name.startswith("random_encoder") or name.endswith("tied") or name in ("principal_components", "raw_dimensions"):
        assert type(own) is (TopK if isinstance(sae, TopK) else BatchTopK)
        assert not isinstance(own, BatchTopK) or own.threshold > 0


@pytest.mark.usefixtures("plain_or_fast")
@pytest.mark.parametrize("name", [name for name in CONTROLS if name != "permuted_decoder"])
@pytest.mark.parametrize("l0", [0.3, 1.0, 3.4, 7.0, 11.5])
@pytest.mark.parametrize("variant", [TopK, ReLU])
def test_any_l0(name, l0, variant):
    samples = activations(500)
    own = made(CONTROLS[name], sae_of(variant), samples, l0=l0)
    # Eleven directions of twelve often explain all there is, and no twelfth points the way of what is left.
    assert measured_l0(own, samples) == pytest.approx(l0, rel=0.12 if isinstance(own, Pursuit) and l0 > 8 else 0.02)


@every_control
def test_the_same_seed_gives_the_same_bits(name):
    control, sae = CONTROLS[name], case("JumpReLU")
    before = tensors(sae)
    once, again, other = (tensors(made(control, sae, seed=seed)) for seed in (3, 3, 4))
    assert all(torch.equal(once[key], again[key]) for key in once)
    assert control.is_random != torch.equal(once["W_dec"], other["W_dec"])
    assert all(torch.equal(tensor, before[key]) for key, tensor in tensors(sae).items())
    assert sae.is_initialised


@every_control
@pytest.mark.parametrize("of", ["TopK layer_norm", "Gated"])
def test_saving_and_loading(name, of, tmp_path):
    own, x = made(CONTROLS[name], case(of), seed=6), activations(200, seed=5)
    own.save(tmp_path)
    loaded = SparseAutoencoder.load(tmp_path)
    assert type(loaded) is type(own)
    assert loaded.seed == 6
    assert torch.equal(loaded.W_dec_start, own.W_dec)
    torch.testing.assert_close(loaded(x), own(x))
    assert measured_l0(loaded, x) == measured_l0(own, x)


@every_control
def test_half_precision_and_leading_shapes(name):
    own = made(CONTROLS[name], case("BatchTopK center"))
    x = activations(12, seed=5)
    assert torch.equal(own(x.view(2, 6, D_IN)).view(12, D_IN), own(x))
    assert own(x.bfloat16()).dtype == torch.bfloat16
    assert own(torch.zeros(2, D_IN)).isfinite().all()
    assert own(x[:0]).shape == (0, D_IN)


@every_control
def test_what_is_refused(name):
    control, sae, x = CONTROLS[name], case("ReLU"), activations(50)
    for l0 in (0.0, -1.0, math.nan, 1000.0):
        with pytest.raises(ValueError, match=r"^l0="):
            control.start(control.new(sae), sae, x, l0, 0)
    with pytest.raises(ValueError, match=r"^seed=-1"):
        control.start(control.new(sae), sae, x, 3.0, -1)
    with pytest.raises(ValueError, match=r"^samples has the shape"):
        control.start(control.new(sae), sae, torch.randn(5, D_IN + 1), 3.0, 0)
    with pytest.raises(ValueError, match=r"^samples have the shape \[1, 12\]"):
        control.start(control.new(sae), sae, x[:1], 3.0, 0)
    x[3, 2] = math.nan
    with pytest.raises(ValueError, match=r"^samples has 1 number"):
        control.start(control.new(sae), sae, x, 3.0, 0)


@pytest.fixture
def _without_type_checks():
    """As outside pytest, where the class alone looks at what it is given."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("_without_type_checks")
def test_choices_that_there_are_not():
    with pytest.raises(ValueError, match="directions='own_rows': expected isotropic, covariance or own_directions"):
        RandomEncoder("own_rows")
    with pytest.raises(ValueError, match="directions='isotropic': expected covariance or own_rows"):
        RandomDecoder("isotropic")
    with pytest.raises(ValueError, match="codes='best': expected pursuit, tied, regressed, target_pursuit"):
        RandomDecoder("covariance", "best")
    sae = sae_of(ReLU)
    sae.W_dec.data[1:] = 0
    with pytest.raises(ValueError, match="nothing to permute"):
        made(PermutedDecoder(), sae)
    with pytest.raises(ValueError, match="1 decoder rows are not zero"):
        made(RandomDecoder("own_rows"), sae)
    with pytest.raises(ValueError, match="the samples are all the same"):
        made(RandomDecoder("covariance"), sae_of(ReLU), torch.ones(60, D_IN))
    with pytest.raises(ValueError, match="no samples"):
        measured_l0(sae, torch.empty(0, D_IN))


@every_control
def test_the_cost_grows_with_what_it_depends_on(name):
    control, sae = CONTROLS[name], case("ReLU")
    small, large = control.cost(sae, 100, 100, 3.4), control.cost(sae, 100, 1000, 3.4)
    assert 0 < small.flops < large.flops
    assert 0 < small.bytes < large.bytes
    assert small.memory <= large.memory
    assert small.seconds(1e9, 1e9) < (small + large).seconds(1e9, 1e9) < (large * 2).seconds(1e9, 1e9)
