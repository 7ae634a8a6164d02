"""OpenAI's files: both activations by the equation written out, tied models, and what is refused."""

import pytest
import torch
from foreign_saes import D_IN, D_SAE, K, assert_computes, random_weights, samples, top_k

from sae_lightning import formats

TOP_K = {"activation": "TopK", "activation_state_dict": {"k": K, "postact_fn": "ReLU"}}


def tensors():
    weights = random_weights()
    return {
        "pre_bias": weights["b_dec"],
        "latent_bias": weights["b_enc"],
        "encoder.weight": weights["W_enc"].T.contiguous(),
        "decoder.weight": weights["W_dec"].T.contiguous(),
        "stats_last_nonzero": torch.zeros(D_SAE, dtype=torch.long),
        "latents_activation_frequency": torch.ones(D_SAE),
        "latents_mean_square": torch.zeros(D_SAE),
    }


def saved(path, **changed):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({name: value for name, value in (tensors() | changed).items() if value is not None}, path)
    return path


@pytest.mark.parametrize("activation", [{}, {"activation": "ReLU", "activation_state_dict": {}}])
def test_the_equation_of_relu(tmp_path, activation):
    x, weights = samples(), tensors()
    latents = ((x - weights["pre_bias"]) @ weights["encoder.weight"].T + weights["latent_bias"]).relu()
    reconstruction = latents @ weights["decoder.weight"].T + weights["pre_bias"]
    assert_computes(saved(tmp_path / "8.pt", **activation), x, latents, reconstruction)


def test_the_equation_of_topk_normalises_each_activation(tmp_path):
    x, weights = 3 * samples() + 1, tensors()
    mean = x.mean(1, keepdim=True)
    std = (x - mean).std(1, keepdim=True)
    normalised = (x - mean) / (std + 1e-5)
    latents = top_k((normalised - weights["pre_bias"]) @ weights["encoder.weight"].T + weights["latent_bias"]).relu()
    reconstruction = (latents @ weights["decoder.weight"].T + weights["pre_bias"]) * std + mean
    assert_computes(saved(tmp_path / "8.pt", **TOP_K), x, latents, reconstruction)


def test_a_tied_model_decodes_with_its_encoder(tmp_path):
    x, weights = samples(), tensors()
    tied = {"decoder.weight": None, "decoder.linear.weight": weights["encoder.weight"]}
    latents = ((x - weights["pre_bias"]) @ weights["encoder.weight"].T + weights["latent_bias"]).relu()
    reconstruction = latents @ weights["encoder.weight"] + weights["pre_bias"]
    path = saved(tmp_path / "8.pt", **tied)
    assert_computes(path, x, latents, reconstruction)
    assert formats.read(path).notes == ("it is tied: its decoder is its encoder",)


def test_folders_say_what_it_is_of(tmp_path):
    stored = formats.read(saved(tmp_path / "resid_post_mlp_v5_32k/autoencoders/8.pt", **TOP_K))
    assert stored.stated == {"hook": "resid_post_mlp_v5_32k", "layer": 8, "k": K}
    assert formats.read(saved(tmp_path / "8.pt")).stated == {}


def test_k_may_be_a_tensor(tmp_path):
    state = {"k": torch.tensor(2), "postact_fn": "ReLU"}
    assert formats.read(saved(tmp_path / "8.pt", **TOP_K | {"activation_state_dict": state})).settings["k"] == 2


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"activation": "Identity"}, "has the activation 'Identity': this library has no variant"),
        (TOP_K | {"activation_state_dict": {"k": K, "postact_fn": "Identity"}}, "a TopK followed by 'Identity'"),
        (TOP_K | {"activation_state_dict": {"postact_fn": "ReLU"}}, "has k=None .*expected 1 to 12"),
        (TOP_K | {"activation_state_dict": {"k": 13, "postact_fn": "ReLU"}}, "has k=13 .*expected 1 to 12"),
        ({"encoder.weight": None}, "lacks encoder.weight"),
        ({"encoder.bias": torch.ones(D_SAE)}, "has encoder.bias, which this format does not know"),
        ({"encoder.weight": torch.ones(D_IN, D_SAE)}, "encoder.weight has the shape .*its axes are swapped"),
        ({"decoder.weight": torch.ones(D_SAE, D_IN)}, "decoder.weight has the shape .*its axes are swapped"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, changed, expected):
    with pytest.raises(ValueError, match=expected):
        formats.read(saved(tmp_path / "8.pt", **changed))


def test_nothing_is_to_be_assumed(tmp_path):
    with pytest.raises(ValueError, match="k cannot be assumed"):
        formats.read(saved(tmp_path / "8.pt", **TOP_K), {"k": 2})
