"""Controls of transcoders: what each has of the two spaces that a transcoder is of."""

import jaxtyping
import pytest
import torch
from torch.nn.functional import normalize

from sae_lightning.controls import (
    BestLinearMap,
    PermutedDecoder,
    RandomDecoder,
    RandomEncoder,
    RotatedDecoder,
    SkipPathAlone,
    default_controls,
    measured_l0,
    transcoder_controls,
)
from sae_lightning.members import Member
from sae_lightning.saes import JumpReLU, Pursuit, ReLU, SparseAutoencoder, TopK
from sae_lightning.saes.exported import ExportedSAEs

D_IN, D_OUT, D_SAE, N = 12, 9, 40, 1500
CONTROLS = transcoder_controls()
every_control = pytest.mark.parametrize("name", CONTROLS)


def sides(n=N, seed=0):
    """What goes into a small MLP, and what comes out."""
    weights = torch.Generator().manual_seed(9)
    mix, first, second = (torch.randn(*size, generator=weights) for size in ((D_IN, D_IN), (D_IN, 30), (30, D_OUT)))
    x = torch.randn(n, D_IN, generator=torch.Generator().manual_seed(seed)) @ mix + torch.linspace(-1, 1, D_IN)
    return x, (x @ first - 2).relu() @ second + 3


@torch.no_grad()
def transcoder(variant=TopK, **kwargs):
    """One that was not trained, with scales of its own on both sides and decoder rows of other norms than 1."""
    kwargs = ({"k": 4} if variant is TopK else {}) | {"skip": True} | kwargs
    sae = variant(D_IN, d_sae=D_SAE, d_out=D_OUT, scale_input=True, unit_norm_decoder=False, **kwargs)
    sae.initialise(1, *sides(4096, seed=3))
    sae.W_dec.mul_(0.5 + torch.rand(D_SAE, 1, generator=torch.Generator().manual_seed(2)))
    if sae.W_skip is not None:
        sae.W_skip.copy_(0.3 * torch.randn(D_IN, D_OUT, generator=torch.Generator().manual_seed(4)))
    if variant is JumpReLU:
        sae.threshold.fill_(0.45)
    if variant is ReLU:
        sae.b_enc.sub_(0.35)
    return sae.eval()


CASES = {
    "TopK": (TopK, {"skip": False}),
    "TopK with a skip path": (TopK, {}),
    "JumpReLU with a skip path": (JumpReLU, {}),
    "ReLU": (ReLU, {"skip": False}),
}


def case(name):
    variant, kwargs = CASES[name]
    return transcoder(variant, **kwargs)


def made(control, sae, l0=3.4, seed=0, samples=None):
    x, y = sides() if samples is None else samples
    own = control.new(sae)
    assert not own.is_initialised
    control.start(own, sae, x, l0, seed, y)
    return own


def explained_variance(y_hat, y):
    return 1 - float((y - y_hat).square().sum() / (y - y.mean(0)).square().sum())


def read_by(control, sae, x, y):
    return y if control.reads_target(sae) else x


@every_control
@pytest.mark.parametrize("of", CASES)
def test_l0_is_that_of_the_transcoder_and_answers_have_the_width_of_the_target(name, of):
    control, sae, (x, y), held_out = CONTROLS[name], case(of), sides(), sides(seed=5)
    l0 = measured_l0(sae, x)
    assert 1 < l0 < D_OUT
    if name == "skip_path_alone" and not sae.skip:
        with pytest.raises(ValueError, match="a control of transcoders with a skip path, and this has none"):
            control.check(sae, l0)
        return
    own = made(control, sae, l0=l0)
    if control.has_latents:
        assert measured_l0(own, read_by(control, sae, x, y)) == pytest.approx(l0, rel=0.02)
    else:
        assert measured_l0(own, x) == 0
    answers = own(read_by(control, sae, *held_out))
    assert answers.shape == (N, D_OUT)
    assert answers.isfinite().all()
    assert own.is_transcoder != control.reads_target(sae)
    assert own.skip == ((sae.skip and own.is_transcoder) or not control.has_latents)


@every_control
def test_the_same_seed_gives_the_same_bits_and_files_give_the_same_answers(name, tmp_path):
    control, sae, (x, y) = CONTROLS[name], case("JumpReLU with a skip path"), sides(200, seed=5)
    before = {key: tensor.clone() for key, tensor in sae.state_dict().items()}
    once, again, other = (made(control, sae, seed=seed) for seed in (3, 3, 4))
    assert all(torch.equal(tensor, again.state_dict()[key]) for key, tensor in once.state_dict().items())
    differs = any(not torch.equal(tensor, other.state_dict()[key]) for key, tensor in once.state_dict().items())
    assert control.is_random == differs
    assert all(torch.equal(tensor, before[key]) for key, tensor in sae.state_dict().items())
    once.save(tmp_path)
    loaded, read = SparseAutoencoder.load(tmp_path), read_by(control, sae, x, y)
    assert type(loaded) is type(once)
    torch.testing.assert_close(loaded(read), once(read), atol=1e-4, rtol=1e-4)
    if once.is_transcoder:
        assert torch.equal(once.W_enc_start, once.W_enc.T)


@pytest.fixture
def _without_type_checks():
    """As outside pytest, where the class alone looks at what it is given."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("_without_type_checks")
@every_control
def test_what_is_refused(name):
    control, sae, (x, y) = CONTROLS[name], case("TopK with a skip path"), sides(50)
    with pytest.raises(ValueError, match=r"^target_samples: expected \[n, d_out\] of a transcoder"):
        control.start(control.new(sae), sae, x, 3.0, 0)
    with pytest.raises(ValueError, match=r"^target_samples has the shape \[50, 12\]: expected .*d_out=9"):
        control.start(control.new(sae), sae, x, 3.0, 0, x)
    with pytest.raises(ValueError, match=r"^50 samples and 49 target_samples"):
        control.start(control.new(sae), sae, x, 3.0, 0, y[1:])
    with pytest.raises(ValueError, match=r"^l0=1000"):
        control.check(sae, 1000.0)


def test_controls_of_the_other_kind_are_refused():
    sae, plain = transcoder(), TopK(D_IN, d_sae=D_SAE, k=3)
    of_both = {"permuted_decoder", "random_encoder", "random_encoder_covariance"}
    for name, control in default_controls().items():
        if name not in of_both:
            with pytest.raises(ValueError, match="is a control of SAEs, and this is a transcoder"):
                control.check(sae, 3.0)
    for name, control in CONTROLS.items():
        if name not in {*of_both, "rotated_decoder"}:
            with pytest.raises(ValueError, match="is a control of transcoders, and this is an SAE"):
                control.check(plain, 3.0)
    x, _ = sides()
    with pytest.raises(ValueError, match="expected none of an SAE"):
        RandomEncoder().start(RandomEncoder().new(plain), plain, x, 3.0, 0, x)


def test_a_random_decoder_has_the_covariance_of_the_target_and_a_random_encoder_that_of_the_source():
    x, y = sides()
    x, y = x * torch.linspace(9, 0.1, D_IN), y * torch.linspace(0.1, 9, D_OUT)
    sae = transcoder(skip=False)
    sae.W_enc.data.mul_(torch.linspace(0.01, 5, D_IN)[:, None])

    def slope(rows):
        """The share of the first third of the dimensions, over that of the last."""
        third = rows.shape[1] // 3
        return float(rows[:, :third].square().sum() / rows[:, -third:].square().sum())

    assert slope(made(RandomEncoder("covariance"), sae, samples=(x, y)).W_enc.T) > 10
    assert 0.4 < slope(made(RandomEncoder("isotropic"), sae, samples=(x, y)).W_enc.T) < 2.5
    assert slope(made(RandomEncoder("own_directions"), sae, samples=(x, y)).W_enc.T) < 0.1
    for codes in ("regressed", "target_pursuit"):
        assert slope(made(RandomDecoder("covariance", codes), sae, samples=(x, y)).W_dec) < 0.1
        assert slope(made(RandomDecoder("own_rows", codes), sae, samples=(x, y)).W_dec) > 0.4


@pytest.mark.parametrize("skip", [False, True])
def test_the_decoder_of_a_random_encoder_is_the_best_and_never_below_its_linear_map(skip):
    sae, (x, y) = transcoder(skip=skip), sides()
    own = made(RandomEncoder(), sae)
    best, generator = explained_variance(own(x), y), torch.Generator().manual_seed(0)
    for tensor in (own.W_dec, own.b_dec):
        noise = 0.1 * tensor.std() * torch.randn(tensor.shape, generator=generator)
        tensor.data.add_(noise)
        assert explained_variance(own(x), y) < best
        tensor.data.sub_(noise)
    linear = explained_variance(made(BestLinearMap("full"), sae)(x), y)
    assert best > linear + 0.05 or not skip


@pytest.mark.parametrize("skip", [False, True])
def test_a_regressed_encoder_predicts_the_codes_of_its_random_decoder(skip):
    """It is far above what the same directions give with an encoder that has nothing to do with them."""
    sae, (x, y) = transcoder(skip=skip), sides(seed=5)
    own = made(RandomDecoder("covariance", "regressed"), sae, l0=4.0)
    bound = made(RandomDecoder("covariance", "target_pursuit"), sae, l0=4.0)
    assert torch.equal(own.W_dec, bound.W_dec)
    explained = explained_variance(own(x), y)
    assert 0.5 < explained < explained_variance(bound(y), y)
    order = torch.randperm(D_SAE, generator=torch.Generator().manual_seed(0))
    code = own.encode(x)
    own.W_dec.data = own.W_dec[order]
    assert explained_variance(own.decode(code), y) < explained - (0.01 if skip else 0.1)


def test_linear_maps_are_those_of_least_squares_and_of_their_rank():
    sae, (x, y) = transcoder(), sides()
    full, low = (made(BestLinearMap(rank), sae, l0=2.6) for rank in ("full", "l0"))
    centred = x - x.mean(0)
    solution = torch.linalg.lstsq(centred, y - y.mean(0)).solution
    torch.testing.assert_close(full(x), centred @ solution + y.mean(0), atol=0.02, rtol=0.01)
    assert torch.linalg.matrix_rank(low.W_skip, rtol=1e-4) == 3
    rank_of_truth = torch.linalg.svd(centred @ solution).S[3:].square().sum() / (y - y.mean(0)).square().sum()
    lost = explained_variance(full(x), y) - explained_variance(low(x), y)
    assert lost == pytest.approx(float(rank_of_truth), abs=1e-3)


def test_the_skip_path_alone_is_in_the_units_of_the_activations():
    """What the transcoder answers less what its latents add, up to a constant."""
    sae, (x, y) = transcoder(), sides()
    own = made(SkipPathAlone(), sae)
    code = sae.encode(x)
    without_latents = sae.decode(code.with_values(torch.zeros_like(code.values)))
    shift = own(x) - without_latents
    torch.testing.assert_close(shift, shift[:1].expand_as(shift), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(own(x).mean(0), y.mean(0), atol=1e-3, rtol=1e-3)


def test_a_permuted_and_a_rotated_decoder_have_the_latents_and_the_skip_path():
    sae, (x, _) = transcoder(), sides(100, seed=5)
    for control in (PermutedDecoder(), RotatedDecoder()):
        own = made(control, sae)
        assert torch.equal(own.encode(x).values, sae.encode(x).values)
        assert torch.equal(own.W_skip, sae.W_skip)
        torch.testing.assert_close(own.W_dec.norm(dim=1), sae.W_dec.norm(dim=1))
    angles, own_angles = (normalize(one.W_dec, dim=1) @ normalize(one.W_dec, dim=1).T for one in (sae, own))
    torch.testing.assert_close(own_angles, angles)
    assert (normalize(own.W_dec, dim=1) * normalize(sae.W_dec, dim=1)).sum(1).abs().mean() < 0.6


def test_what_is_shown_the_target_is_an_sae_of_it():
    sae = transcoder()
    own = made(CONTROLS["target_pursuit"], sae)
    assert isinstance(own, Pursuit)
    assert (own.d_in, own.d_out) == (D_OUT, D_OUT)
    members = {Member("published", 0, "source"): sae, Member("target_pursuit", 0, "source"): own}
    module = ExportedSAEs(members, {"source": D_IN, "target": D_OUT}, {"source": "target"})
    x, y = sides(5)
    for member, read in zip(members, (x, y), strict=True):
        assert torch.equal(module.activations_for(member, torch.cat([x, y], 1)), read)
        assert torch.equal(module.target_for(member, torch.cat([x, y], 1)), y)


@every_control
def test_the_cost_grows_with_what_is_measured(name):
    control, sae = CONTROLS[name], transcoder()
    small, large = control.cost(sae, 100, 100, 3.4), control.cost(sae, 100, 1000, 3.4)
    assert 0 < small.flops < large.flops
    assert small.memory <= large.memory
