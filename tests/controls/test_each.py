"""What each control is by itself."""

import numpy as np
import pytest
import torch
from controls.cases import CASES, D_IN, D_SAE, activations, case, explained_variance, made, sae_of
from sklearn.decomposition import PCA
from torch.nn.functional import normalize

from sae_lightning.controls import PermutedDecoder, PrincipalComponents, RandomDecoder, RandomEncoder, RawDimensions
from sae_lightning.saes import BatchTopK, ReLU, TopK


@pytest.mark.parametrize("of", CASES)
def test_a_permuted_decoder_has_the_same_latents_and_norms(of):
    sae, x = case(of), activations(300, seed=5)
    own = made(PermutedDecoder(), sae)
    assert type(own) is type(sae)
    code, same = sae.encode(x), own.encode(x)
    assert torch.equal(code.values, same.values)
    assert torch.equal(code.indices, same.indices)
    torch.testing.assert_close(own.W_dec.norm(dim=1), sae.W_dec.norm(dim=1))
    cosines = normalize(own.W_dec, dim=1) @ normalize(sae.W_dec, dim=1).T
    source = cosines.argmax(1)
    assert sorted(source.tolist()) == list(range(sae.d_sae))
    assert (source != torch.arange(sae.d_sae)).all()
    torch.testing.assert_close(cosines.max(1).values, torch.ones(sae.d_sae))
    assert not torch.allclose(own(x), sae(x))


def test_rows_of_zeros_stay_where_they_are():
    sae = sae_of(ReLU)
    sae.W_dec.data[[2, 7]] = 0
    own = made(PermutedDecoder(), sae)
    assert (~own.W_dec.any(1)).nonzero()[:, 0].tolist() == [2, 7]


@pytest.mark.parametrize("of", ["TopK", "ReLU", "ReLU unit_norm"])
def test_a_random_encoder_has_the_decoder_that_suits_it_best(of):
    sae, x = case(of), activations()
    own = made(RandomEncoder(), sae)
    torch.testing.assert_close(own.W_enc.norm(dim=0), torch.ones(D_SAE))
    best = explained_variance(own, x)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in (own.W_dec, own.b_dec):
            for _ in range(3):
                noise = 0.1 * torch.randn(tensor.shape, generator=generator)
                code = own.encode(x)
                tensor += noise
                assert 1 - _share_left(own, code, x) < best
                tensor -= noise
        tied = normalize(own.W_enc.T, dim=1)
        for scale in (0.3, 0.5, 1.0):
            own.W_dec.copy_(scale * tied)
            assert explained_variance(own, x) < best - 0.02


def _share_left(sae, code, x):
    return float((x - sae.decode(code)).square().sum() / (x - x.mean(0)).square().sum())


def test_isotropic_directions_ignore_the_data_and_others_do_not():
    x = activations() * torch.linspace(5, 0.1, D_IN)
    own_rows = sae_of(ReLU)
    own_rows.W_dec.data.mul_(torch.linspace(0.1, 5, D_IN))
    spread = {
        "isotropic": made(RandomEncoder("isotropic"), own_rows, x).W_enc.T,
        "covariance": made(RandomEncoder("covariance"), own_rows, x).W_enc.T,
        "of the data": made(RandomDecoder("covariance", "tied"), own_rows, x).W_dec,
        "own": made(RandomDecoder("own_rows", "pursuit"), own_rows, x).W_dec,
    }
    first, last = slice(0, D_IN // 3), slice(2 * D_IN // 3, D_IN)
    ratio = {name: float(rows[:, first].square().sum() / rows[:, last].square().sum()) for name, rows in spread.items()}
    assert 0.5 < ratio["isotropic"] < 2
    assert min(ratio["covariance"], ratio["of the data"]) > 10
    assert ratio["own"] < 0.1


@pytest.mark.parametrize("directions", ["covariance", "own_rows"])
@pytest.mark.parametrize("of", ["TopK", "JumpReLU", "BatchTopK center"])
def test_pursued_codes_are_better_than_tied_ones(directions, of):
    sae, held_out = case(of), activations(1000, seed=5)
    pursued, tied = (made(RandomDecoder(directions, codes), sae) for codes in ("pursuit", "tied"))
    assert torch.equal(pursued.W_dec, tied.W_dec)
    assert explained_variance(pursued, held_out) > explained_variance(tied, held_out) + 0.05
    cosines = (normalize(tied.W_enc.T, dim=1) * tied.W_dec).sum(1)
    torch.testing.assert_close(cosines, torch.ones(D_SAE))
    assert pursued.W_dec.data_ptr() == pursued.W_enc.data_ptr() == pursued.W_dec_start.data_ptr()


@pytest.mark.parametrize("of", ["TopK", "JumpReLU"])
def test_the_scale_of_a_tied_encoder_is_the_best(of):
    own, x = made(RandomDecoder("covariance", "tied"), case(of), l0=4.0), activations()
    code = own.encode(x)
    left = _share_left(own, code, x)
    for factor in (0.95, 1.05):
        assert _share_left(own, code.with_values(factor * code.values), x) > left
    own.b_dec.data += 0.05
    assert _share_left(own, code, x) > left


@pytest.mark.parametrize("variant", [TopK, ReLU])
def test_principal_components_explain_what_those_of_sklearn_do(variant):
    x = activations()
    own = made(PrincipalComponents(), sae_of(variant), x, l0=float(D_IN))
    assert own.d_sae == 2 * D_IN
    assert explained_variance(own, x) == pytest.approx(1.0, abs=0.01)
    reference = PCA().fit(x.double().numpy())
    cosines = (own.W_dec[:D_IN].detach().double().numpy() * reference.components_).sum(1)
    np.testing.assert_allclose(np.abs(cosines), 1, atol=1e-5)
    assert torch.equal(own.W_dec[:D_IN], -own.W_dec[D_IN:])


@pytest.mark.parametrize("control", [PrincipalComponents(), RawDimensions()])
def test_the_k_largest_coordinates_are_what_a_topk_keeps(control):
    x = activations()
    own = made(control, sae_of(TopK), x, l0=3.0)
    coordinates = (x - x.mean(0)) @ own.W_dec[:D_IN].T
    kept = coordinates.abs().topk(3).indices
    x_hat = torch.zeros_like(coordinates).scatter(1, kept, coordinates.gather(1, kept)) @ own.W_dec[:D_IN] + x.mean(0)
    torch.testing.assert_close(own(x), x_hat, atol=1e-4, rtol=1e-4)


def test_a_threshold_that_would_be_negative_is_raised_with_the_bias():
    own = made(RandomEncoder(), sae_of(ReLU), l0=30.0)  # of 40: more than are positive
    assert isinstance(own, BatchTopK)
    assert own.threshold > 0
    x = activations()
    assert float(own.encode(x).l0().double().mean()) == pytest.approx(30.0, rel=1e-3)
    assert (own.encode(x).values > 0).all()
