"""Whether two SAEs compute the same on activations that make them fire."""

import pytest
import torch
from stitching.pairs import D_IN, random_sae

from sae_lightning.exports.reading_back import N_ACTIVATIONS, compare, fitting_activations
from sae_lightning.saes import BatchTopK, Gated, JumpReLU, MatryoshkaBatchTopK, ReLU, SparseAutoencoder, TopK

VARIANTS = [(ReLU, {}), (TopK, {"k": 3}), (BatchTopK, {"k": 3}), (JumpReLU, {}), (Gated, {})]
VARIANTS += [(MatryoshkaBatchTopK, {"k": 3, "group_fractions": [0.5, 0.5]})]


def saved_twice(variant, kwargs, tmp_path):
    random_sae(24, 1, variant, **kwargs).save(tmp_path / "sae")
    return [SparseAutoencoder.load(tmp_path / "sae") for _ in range(2)]


@pytest.mark.parametrize(("variant", "kwargs"), VARIANTS)
def test_an_sae_is_the_same_as_itself_and_fires(variant, kwargs, tmp_path):
    comparison = compare(*saved_twice(variant, kwargs, tmp_path))
    assert comparison.is_same
    assert (comparison.largest, comparison.n_at_threshold) == (0, 0)
    assert 1 <= comparison.l0 <= 14, "about what it was made for"


@pytest.mark.parametrize("name", ["W_enc", "W_dec", "b_enc", "b_dec"])
@pytest.mark.parametrize(("variant", "kwargs"), VARIANTS)
def test_another_tensor_is_seen(variant, kwargs, name, tmp_path):
    sae, other = saved_twice(variant, kwargs, tmp_path)
    with torch.no_grad():
        tensor = getattr(other, name)
        tensor += 0.1 * torch.randn(tensor.shape) * tensor.abs().amax().clamp(min=1)
    assert not compare(sae, other).is_same


def test_a_lost_threshold_and_another_k_are_seen(tmp_path):
    sae, other = saved_twice(BatchTopK, {"k": 3}, tmp_path)
    other.threshold.fill_(1e-6)
    assert compare(sae, other).n_at_threshold > N_ACTIVATIONS / 2
    assert not compare(sae, other).is_same
    sae, other = saved_twice(TopK, {"k": 3}, tmp_path)
    other.k = 4
    assert not compare(sae, other).is_same


def test_a_latent_within_rounding_of_its_threshold_is_no_difference(tmp_path):
    sae, other = saved_twice(JumpReLU, {}, tmp_path)
    pre_acts = sae.pre_acts(fitting_activations(sae, N_ACTIVATIONS)).dense()
    with torch.no_grad():
        sae.threshold[0] = pre_acts[7, 0].clamp(min=0.01)
        other.threshold[0] = torch.nextafter(pre_acts[7, 0].clamp(min=0.01), torch.tensor(0.0))
    comparison = compare(sae, other)
    assert comparison.is_same
    assert comparison.n_at_threshold <= 1


def test_another_size_is_refused():
    with pytest.raises(ValueError, match=f"d_sae=10 and d_out={D_IN}, and the SAE {D_IN}, 24 and {D_IN}"):
        compare(random_sae(24, 1, TopK, k=3), random_sae(10, 1, TopK, k=3))
