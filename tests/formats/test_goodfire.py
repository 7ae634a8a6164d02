"""Goodfire's files: the equation written out, and what is refused."""

import pytest
import torch
from foreign_saes import D_IN, D_SAE, assert_computes, random_weights, samples

from sae_lightning import formats

NAME = "Llama-3.1-8B-Instruct-SAE-l19.pth"


def tensors():
    weights = random_weights()
    return {
        "encoder_linear.weight": weights["W_enc"].T.contiguous(),
        "encoder_linear.bias": weights["b_enc"],
        "decoder_linear.weight": weights["W_dec"].T.contiguous(),
        "decoder_linear.bias": weights["b_dec"],
    }


def saved(path, **changed):
    torch.save({name: value for name, value in (tensors() | changed).items() if value is not None}, path)
    return path


@pytest.mark.parametrize("name", [NAME, "sae.pth", "Llama-3.3-70B-Instruct-SAE-l50.pt"])
def test_its_equation(tmp_path, name):
    x, (encoder, b_enc, decoder, b_dec) = samples(), tensors().values()
    latents = (x @ encoder.T + b_enc).relu()
    assert_computes(saved(tmp_path / name), x, latents, latents @ decoder.T + b_dec)
    assert formats.formats_in(tmp_path) == ["Goodfire"]


def test_the_name_says_what_it_is_of(tmp_path):
    stored = formats.read(saved(tmp_path / NAME))
    assert stored.stated == {"model": "Llama-3.1-8B-Instruct", "layer": 19}
    assert stored.notes == ("it is of the residual stream after block 19",)
    assert formats.read(saved(tmp_path / NAME).rename(tmp_path / "sae.pth")).stated == {}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"decoder_linear.bias": None}, "lacks decoder_linear.bias"),
        ({"threshold": torch.ones(D_SAE)}, "has threshold, which this format does not know"),
        ({"encoder_linear.weight": torch.ones(D_IN, D_SAE)}, "encoder_linear.weight .*its axes are swapped"),
        ({"decoder_linear.weight": torch.ones(D_SAE, D_IN)}, "decoder_linear.weight .*its axes are swapped"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, changed, expected):
    with pytest.raises(ValueError, match=expected):
        formats.read(saved(tmp_path / NAME, **changed))


def test_other_torch_files_are_not_theirs(tmp_path):
    assert formats.formats_in(saved(tmp_path / "ae.pt")) == []
    torch.save({"encoder.weight": torch.ones(2, 2)}, tmp_path / "other.pth")
    assert formats.formats_in(tmp_path / "other.pth") == []
