"""What is done to the decoder after each step takes little memory: seen at full size on meta tensors."""

import pytest
import torch
from temporaries import Temporaries

from sae_lightning.saes import decoder_norm
from sae_lightning.saes.decoder_norm import normalise_, remove_radial_


@pytest.mark.parametrize("n_numbers", [10, 2**17])
def test_parts_of_a_matrix_give_what_it_gives_at_once(n_numbers, monkeypatch):
    monkeypatch.setattr(decoder_norm, "_CPU_NUMBERS", n_numbers)
    W_dec, grad = torch.randn(7, 5), torch.randn(7, 5)
    expected = W_dec / W_dec.norm(dim=1, keepdim=True)
    normalise_(W_dec)
    torch.testing.assert_close(W_dec, expected)
    expected = grad - (grad * W_dec).sum(1, keepdim=True) * W_dec
    remove_radial_(grad, W_dec)
    torch.testing.assert_close(grad, expected)


def test_temporaries_are_a_fraction_of_the_decoder():
    W_dec, grad = (torch.empty(131_072, 4096, device="meta") for _ in range(2))
    with Temporaries() as made:
        normalise_(W_dec)
        remove_radial_(grad, W_dec)
    assert max(made.sizes) <= 2**25
