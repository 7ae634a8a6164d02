import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from sae_lightning.probing.features import Tokens, activation_features, random_features, sae_features
from sae_lightning.saes import TopK

STARTS = np.array([0, 3, 4, 9, 12])


@pytest.fixture(params=["mean", "max"])
def tokens(request):
    return Tokens(torch.randn(12, 6, generator=torch.Generator().manual_seed(0)), STARTS, request.param)


def pooled(tokens, values):
    how = {"mean": lambda of: of.mean(0), "max": lambda of: of.max(0)}[tokens.pooling]
    return np.stack([how(values[begin:end]) for begin, end in zip(STARTS[:-1], STARTS[1:], strict=True)])


@pytest.mark.parametrize("at_once", [1, 5, 100])
def test_rows_are_pooled_latents_however_tokens_are_read(tokens, at_once, monkeypatch):
    monkeypatch.setattr("sae_lightning.probing.features._TOKENS_AT_ONCE", at_once)
    sae = TopK(6, k=3, d_sae=24)
    latents, x_hat = sae_features(sae, tokens)
    assert isinstance(latents, csr_matrix)
    code = sae.encode(tokens.activations)
    assert latents.toarray() == pytest.approx(pooled(tokens, code.to_dense().numpy()), abs=1e-6)
    assert x_hat == pytest.approx(pooled(tokens, sae.decode(code).numpy()), abs=1e-6)
    assert activation_features(tokens) == pytest.approx(pooled(tokens, tokens.activations.numpy()), abs=1e-6)


def test_random_directions_come_in_parts_and_fire_for_half(tokens, monkeypatch):
    monkeypatch.setattr("sae_lightning.probing.features._DIRECTIONS_AT_ONCE", 10)
    directions = torch.randn(24, 6, generator=torch.Generator().manual_seed(1))
    parts = list(random_features(directions, tokens))
    assert [part.shape for part in parts] == [(4, 10), (4, 10), (4, 4)]
    x = tokens.activations
    expected = ((x - x.mean(0)) @ directions.T).relu()
    assert np.concatenate(parts, 1) == pytest.approx(pooled(tokens, expected.numpy()), abs=1e-5)


def test_activations_stay_in_the_dtype_of_the_model():
    tokens = Tokens(torch.ones(2, 6, dtype=torch.bfloat16), np.array([0, 1, 2]), "mean")
    ((block, starts),) = tokens.blocks(torch.device("cpu"))
    assert block.dtype == torch.float32
    assert starts.tolist() == [0, 1, 2]


@pytest.mark.parametrize("pooling", ["mean", "max"])
@pytest.mark.parametrize("starts", [[0, 2, 2, 3], [0, 0, 1, 3], [0, 1, 3, 3]])
def test_an_example_without_tokens_has_zeros(pooling, starts):
    """Its tokens were massive and left out; the number of tokens may be that of the examples all the same."""
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    tokens = Tokens(x, np.array(starts), pooling)
    expected = np.zeros((3, 6), np.float32)
    for i, (begin, end) in enumerate(zip(starts[:-1], starts[1:], strict=True)):
        if begin < end:
            expected[i] = x[begin:end].mean(0) if pooling == "mean" else x[begin:end].amax(0)
    assert activation_features(tokens) == pytest.approx(expected, abs=1e-6)
    assert tokens.pool_sparse(csr_matrix(x.numpy()), tokens.starts).toarray() == pytest.approx(expected, abs=1e-6)
