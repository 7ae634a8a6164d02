import pytest
import torch
from torch.nn.functional import normalize

from sae_lightning.explain.related_latents import Related, meta_latents_of, nearest_latents, neighbours
from sae_lightning.saes import TopK

W_DEC = torch.tensor([[1.0, 0.0, 0.0], [4.0, 3.0, 0.0], [0.0, 2.0, 0.0], [-1.0, 0.0, 0.0]])


def test_neighbours_are_by_signed_cosine_and_not_the_latent_itself():
    of_last, of_first = neighbours(W_DEC, [3, 0], n=2)
    assert [of.latent for of in of_last] == [2, 1]
    assert [of.latent for of in of_first] == [1, 2]
    assert of_first[0].value == pytest.approx(0.8)
    assert len(neighbours(W_DEC, [0], n=9)[0]) == 3
    assert [of.latent for of in nearest_latents(W_DEC[0], W_DEC, n=9)] == [0, 1, 2, 3]


def test_meta_latents_are_told_with_those_who_share_them():
    meta = TopK(3, k=2, d_sae=3, init=None)
    meta.W_dec.data.copy_(torch.eye(3))
    meta.W_enc.data.copy_(torch.eye(3))
    [(found, explained)] = meta_latents_of(meta, W_DEC, [1], n_others=5)
    assert [of.latent for of in found] == [0, 1]
    assert [of.value for of in found] == pytest.approx([0.8, 0.6])
    assert found[0].others == [Related(0, 1.0)]
    assert found[1].others == [Related(2, 1.0)]
    assert explained == pytest.approx(1)
    meta.W_dec.data[1] = torch.tensor([0.0, 0.0, 1.0])  # 0.6 of the direction goes elsewhere
    rows = normalize(W_DEC, dim=1)
    expected = 1 - 2 * 0.36 / float((rows[1] - rows.mean(0)).square().sum())
    assert meta_latents_of(meta, W_DEC, [1], n_others=5)[0][1] == pytest.approx(expected)


def test_a_direction_may_have_no_meta_latents():
    meta = TopK(3, k=1, d_sae=2)
    meta.b_enc.data.fill_(-5)
    [(found, explained)] = meta_latents_of(meta, W_DEC, [0], n_others=5)
    assert found == []
    assert explained < 1
