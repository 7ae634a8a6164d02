"""Is an SAE read right? Findings in weights, other readings, and the sentences that follow."""

import pytest
import torch

from sae_lightning.inspection.activations import Measured, measure
from sae_lightning.inspection.readings import better_readings
from sae_lightning.inspection.report import Inspection
from sae_lightning.inspection.weights import check_weights
from sae_lightning.saes import JumpReLU, ReLU, TopK

D_IN, D_SAE = 64, 128
FAR = torch.tensor([3.0, -3.0] * 32)


@pytest.fixture(scope="module")
def x():
    """Sums of three of 128 directions, far from the origin."""
    draw = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(D_SAE, D_IN, generator=draw), dim=1)
    strengths = torch.zeros(4096, D_SAE)
    chosen = torch.rand(4096, D_SAE, generator=draw).topk(3, dim=1).indices
    strengths.scatter_(1, chosen, 9 + torch.rand(4096, 3, generator=draw))
    return strengths @ directions + FAR


@pytest.fixture
def transcoder(x):
    """A transcoder to another space that knows what answers to these directions, on top of a linear map."""
    draw = torch.Generator().manual_seed(1)
    sae = TopK(D_IN, d_sae=D_SAE, k=3, d_out=32, skip=True)
    sae.initialise(0, x, torch.randn(len(x), 32))
    with torch.no_grad():
        sae.W_skip.copy_(0.2 * torch.randn(D_IN, 32, generator=draw))
        sae.b_dec.fill_(1.0)
    return sae.eval()


@pytest.fixture
def sae(x):
    """An SAE that has these directions."""
    draw = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(D_SAE, D_IN, generator=draw), dim=1)
    sae = TopK(D_IN, d_sae=D_SAE, k=3)
    sae.initialise(0, x)
    with torch.no_grad():
        sae.W_dec.copy_(directions)
        sae.W_enc.copy_(directions.T)
        sae.b_dec.copy_(FAR)
    return sae.eval()


def inspection(sae, x, **stated):
    sae.provenance = {"imported": {"format": "plain", "stated": stated}}
    l0 = stated.get("l0", getattr(sae, "k", None))
    return Inspection(sae, "sae", check_weights(sae), measure(sae, [x]), "x", better=better_readings(sae, x, l0))


def test_measured_is_what_the_sae_does(sae, x):
    measured = measure(sae, x.split(1000))
    error = (sae(x) - x).square().sum() / (x - x.mean(0)).square().sum()
    assert measured.n == len(x)
    assert measured.l0 == pytest.approx(float(sae.encode(x).l0().double().mean()))
    assert measured.explained_variance == pytest.approx(1 - float(error), abs=1e-5)
    assert measured.never_active == int((sae.encode(x).firing_counts() == 0).sum())


def test_a_transcoder_is_measured_against_its_target(transcoder, x):
    target = transcoder(x) + torch.randn(len(x), 32, generator=torch.Generator().manual_seed(2))
    both = torch.cat([x, target], 1)
    measured = measure(transcoder, both.split(1000))
    error = (transcoder(x) - target).square().sum() / (target - target.mean(0)).square().sum()
    assert 0.5 < measured.explained_variance == pytest.approx(1 - float(error), abs=1e-5)
    assert measured.l0 == pytest.approx(float(transcoder.encode(x).l0().double().mean()))
    found = inspection(transcoder, both, l0=3.0)
    assert found.verdict() == ["It does what it states."]
    assert "explained variance of the target" in found.text()
    assert "encoder_decoder_cosine" not in found.weights.values, "directions of two spaces"


def test_a_transcoder_whose_scales_were_never_folded_in(transcoder, x):
    """Weights for both sides at a mean norm of the root of their width."""
    target = 9 * transcoder(x)
    scales = [side.shape[1] ** 0.5 / float(side.norm(dim=1).mean()) for side in (x, target)]
    with torch.no_grad():
        transcoder.b_enc.mul_(scales[0])
        transcoder.W_enc.mul_(scales[1] * 9 / scales[0])
        transcoder.b_enc.mul_(scales[1] * 9 / scales[0])
        transcoder.W_skip.mul_(scales[1] * 9 / scales[0])
        transcoder.b_dec.mul_(scales[1] * 9)
    readings = better_readings(transcoder, torch.cat([x, target], 1), 3.0)
    assert readings[0][0] == "on activations scaled to a mean norm of sqrt(d_in)"
    assert readings[0][1].explained_variance > 0.99
    assert float(transcoder.target_scale) == float(transcoder.input_scale) == 1.0, "as it was"


def test_a_right_reading_does_what_it_states(sae, x):
    verdict = inspection(sae, x, l0=3.0).verdict()
    assert verdict == ["It does what it states."]


def test_weights_that_are_fine_have_no_findings(sae):
    assert check_weights(sae).findings == []


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        (lambda sae: sae.W_dec.copy_(sae.W_dec.roll(1, 0)), "no more alike than random ones"),
        (lambda sae: sae.W_dec[:4].zero_(), "4 of 128 decoder directions are zero"),
        (lambda sae: sae.W_enc[:, :2].zero_(), "2 of 128 encoder directions are zero"),
        (lambda sae: sae.W_dec[5:8].copy_(sae.W_dec[:3]), "3 of 128 decoder directions are there more than once"),
    ],
)
def test_findings_in_the_weights(sae, damage, finding):
    with torch.no_grad():
        damage(sae)
    assert finding in " ".join(check_weights(sae).findings)


def test_thresholds_that_are_all_zero():
    sae = JumpReLU(D_IN, d_sae=D_SAE, scale_input=False)
    with torch.no_grad():
        sae.threshold.zero_()
    assert "every threshold is 0" in " ".join(check_weights(sae).findings)


def flipped_b_dec(sae, x):
    sae.apply_b_dec_to_input = False


def never_scaled(sae, x):
    """Weights for activations of norm sqrt(d_in), whose scale was never folded in."""
    scale = D_IN**0.5 / float(x.norm(dim=1).mean())
    sae.b_dec.data.mul_(scale)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (flipped_b_dec, "with b_dec subtracted from the input"),
        (never_scaled, "on activations scaled to a mean norm of sqrt"),
    ],
)
def test_a_wrong_reading_is_told_with_its_likely_cause(sae, x, damage, words):
    damage(sae, x)
    found = inspection(sae, x, l0=3.0, explained_variance=0.9)
    assert found.verdict()[0].startswith("It does not do what it states")
    assert words in found.verdict()[1]
    assert found.better[0][1].explained_variance > 0.5


def test_a_row_norm_that_was_forgotten(x):
    sae = TopK(D_IN, d_sae=D_SAE, k=3, input_norm="layer_norm", scale_input=False)
    sae.initialise(0, x)
    sae.eval().input_norm = None
    others = dict(better_readings(sae, x, 3.0))
    sae.input_norm = "layer_norm"
    assert others["with each activation normalised (layer_norm)"] == measure(sae, [x])


def test_a_lost_threshold(sae, x):
    plain = ReLU(D_IN, d_sae=D_SAE)
    plain.load_state_dict({name: value for name, value in sae.state_dict().items() if name in plain.state_dict()})
    found = inspection(plain.eval(), x, l0=3.0)
    assert "with a threshold of" in found.verdict()[1]


def test_readings_leave_the_sae_as_it_was(sae, x):
    before = {name: value.clone() for name, value in sae.state_dict().items()}
    better_readings(sae, x, 3.0)
    assert all(torch.equal(value, before[name]) for name, value in sae.state_dict().items())
    assert (sae.apply_b_dec_to_input, sae.input_norm) == (True, None)


def test_other_hooks_are_named_where_nothing_else_helps(sae, x):
    worse, better = (Measured(10, 3.0, value, 0) for value in (-1.0, 0.9))
    sae.provenance = {"imported": {"stated": {"l0": 3.0}}}
    found = Inspection(sae, "sae", check_weights(sae), worse, "x", other_hooks={"layers.3": better})
    assert "another hook. At layers.3 it explains 0.900" in found.verdict()[1]
    found = Inspection(sae, "sae", check_weights(sae), worse, "x", other_hooks={"layers.3": worse})
    assert "the model or its text be another" in found.verdict()[1]


@pytest.mark.parametrize(
    ("stated", "given", "says"),
    [
        ("blocks.8.hook_resid_pre", "model.layers.7", None),
        ("blocks.8.hook_resid_pre", "model.layers.8", "the output of block 7; this was measured at model.layers.8"),
        ("somewhere", "model.layers.8", "are these one place?"),
        ("model.layers.8", "model.layers.8", None),
    ],
)
def test_the_place_that_is_stated_and_the_one_that_was_measured(sae, x, stated, given, says):
    sae.provenance = {"imported": {"stated": {"hook": stated, "l0": 3.0}}}
    found = Inspection(sae, "sae", check_weights(sae), measure(sae, [x]), "x", hooks=(given,))
    assert (says is None and found.verdict() == ["It does what it states."]) or says in found.verdict()[-1]
