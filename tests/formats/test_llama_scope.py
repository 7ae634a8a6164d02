"""Llama Scope: its equation, written out, against the SAE that is read."""

import json
import math

import pytest
import torch
from safetensors.torch import save_file

from sae_lightning import formats
from sae_lightning.saes import SparseAutoencoder

D_IN, D_SAE, NORM = 5, 12, 8.0
CONFIG = {
    "d_model": D_IN,
    "d_sae": D_SAE,
    "act_fn": "jumprelu",
    "jump_relu_threshold": 0.25,
    "norm_activation": "dataset-wise",
    "dataset_average_activation_norm": {"in": NORM, "out": NORM},
    "sparsity_include_decoder_norm": True,
    "use_decoder_bias": True,
    "apply_decoder_bias_to_pre_encoder": False,
    "hook_point_in": "blocks.15.hook_resid_post",
    "hook_point_out": "blocks.15.hook_resid_post",
    "top_k": 3,
    "seed": 7,
}


def tensors(seed=0):
    draw = torch.Generator().manual_seed(seed)
    shapes = {"encoder.weight": (D_SAE, D_IN), "encoder.bias": (D_SAE,), "decoder.weight": (D_IN, D_SAE)}
    return {name: torch.randn(shape, generator=draw) for name, shape in {**shapes, "decoder.bias": (D_IN,)}.items()}


def saved(folder, own=None, **changes):
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    save_file(tensors() if own is None else own, folder / "checkpoints/final.safetensors")
    (folder / "hyperparams.json").write_text(json.dumps(CONFIG | changes))
    return folder


def by_equation(x, own, config):
    """Latents and reconstruction as the trainer computes them, with its scales applied and not folded."""
    scale = math.sqrt(D_IN) / config["dataset_average_activation_norm"]["in"]
    x = x * scale
    if config["apply_decoder_bias_to_pre_encoder"]:
        x = x - own["decoder.bias"]
    pre = x @ own["encoder.weight"].T + own["encoder.bias"]
    norms = own["decoder.weight"].norm(dim=0) if config["sparsity_include_decoder_norm"] else torch.ones(D_SAE)
    if config["act_fn"] == "jumprelu":
        latents = pre * (pre * norms > config["jump_relu_threshold"] * scale) * (pre > 0)
    elif config["act_fn"] == "topk":
        chosen = (pre * norms).relu().topk(config["top_k"], dim=1)
        latents = torch.zeros_like(pre).scatter(1, chosen.indices, chosen.values) / norms
    else:
        latents = pre.relu()
    return latents, (latents @ own["decoder.weight"].T + own["decoder.bias"]) / scale


def both(sae, x):
    code = sae.encode(x)
    return code.to_dense(), sae.decode(code)


@pytest.fixture
def x():
    return 4 * torch.randn(64, D_IN, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("is_centred", [False, True])
@pytest.mark.parametrize("with_norms", [False, True])
@pytest.mark.parametrize("activation", ["jumprelu", "topk", "relu"])
@torch.no_grad()
def test_equation(tmp_path, x, activation, with_norms, is_centred):
    changes = {"act_fn": activation, "sparsity_include_decoder_norm": with_norms}
    changes["apply_decoder_bias_to_pre_encoder"] = is_centred
    sae = SparseAutoencoder.load(saved(tmp_path, **changes))
    latents, reconstruction = by_equation(x, tensors(), CONFIG | changes)
    if activation == "topk" and with_norms:
        latents = latents * tensors()["decoder.weight"].norm(dim=0)
    torch.testing.assert_close(both(sae, x)[0], latents, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(both(sae, x)[1], reconstruction, rtol=1e-5, atol=1e-5)
    assert sae.apply_b_dec_to_input == is_centred


@torch.no_grad()
def test_a_pre_activation_at_the_threshold_is_off(tmp_path):
    """The pre-activation, its decoder norm of 2 and the scale are powers of two, so that both sides are exact."""
    own = {name: torch.zeros_like(value) for name, value in tensors().items()}
    own["encoder.bias"] += torch.tensor([0.125, 0.25, 0.5] * 4)
    own["decoder.weight"][0] = 2.0
    changes = {"d_model": 4, "dataset_average_activation_norm": {"in": 4.0, "out": 4.0}, "jump_relu_threshold": 1.0}
    own = {name: value[:4] if name == "decoder.bias" else value for name, value in own.items()}
    own["decoder.weight"], own["encoder.weight"] = own["decoder.weight"][:4], own["encoder.weight"][:, :4]
    own = {name: value.contiguous() for name, value in own.items()}
    sae = SparseAutoencoder.load(saved(tmp_path, own, **changes))
    assert sae.encode(torch.zeros(1, 4)).to_dense().tolist() == [[0.0, 0.0, 0.5] * 4]


def test_what_is_stated_and_named(tmp_path):
    (tmp_path / "lm_config.json").write_text('{"model_name": "meta-llama/Llama-3.1-8B"}')
    stored = formats.read(saved(tmp_path))
    assert stored.stated == {
        "hook": "blocks.15.hook_resid_post",
        "layer": 15,
        "k": 3,
        "seed": 7,
        "trained_as": "TopK",
        "input_scale": pytest.approx(math.sqrt(D_IN) / NORM),
        "model": "meta-llama/Llama-3.1-8B",
    }
    assert "divided by the decoder norms" in stored.folds[0]
    assert "activations were multiplied by 0.279508" in stored.folds[1]
    assert "units of its threshold" in stored.notes[0]
    top_k = formats.read(saved(tmp_path, act_fn="topk"))
    assert "a latent is its decoder norm times that of the file" in top_k.folds[0]


def test_from_the_folder_of_checkpoints_and_from_the_file(tmp_path):
    whole = SparseAutoencoder.load(saved(tmp_path))
    for place in (tmp_path / "checkpoints", tmp_path / "checkpoints/final.safetensors"):
        assert torch.equal(SparseAutoencoder.load(place).threshold, whole.threshold)


def test_no_decoder_bias(tmp_path):
    own = tensors()
    del own["decoder.bias"]
    assert not SparseAutoencoder.load(saved(tmp_path, own, use_decoder_bias=False)).b_dec.any()
    with pytest.raises(ValueError, match=r"lacks decoder\.bias"):
        formats.read(saved(tmp_path, own))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"use_glu_encoder": True}, "GLU encoder"),
        ({"act_fn": "topk", "top_k": None}, "top_k=None, expected a whole number"),
        ({"act_fn": "gelu"}, "act_fn gelu: expected one of jumprelu"),
        ({"d_sae": 13}, "d_sae=13 and the weights 12"),
        ({"jump_relu_threshold": None}, "jump_relu_threshold=None, expected a number"),
        ({"dataset_average_activation_norm": None}, "lack dataset_average_activation_norm"),
        ({"dataset_average_activation_norm": {"in": 0, "out": 1}}, "in=0, expected a number"),
        ({"norm_activation": "token-wise"}, "norm_activation token-wise"),
    ],
)
def test_refused(tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        formats.read(saved(tmp_path, **changes))


def test_wrong_tensors(tmp_path):
    own = tensors()
    with pytest.raises(ValueError, match=r"encoder\.weight has the shape \[5, 12\], .* axes are swapped"):
        formats.read(saved(tmp_path, {**own, "encoder.weight": own["encoder.weight"].T.contiguous()}))
    with pytest.raises(ValueError, match="has more, which this format does not know"):
        formats.read(saved(tmp_path, {**own, "more": own["encoder.bias"].clone()}))
    with pytest.raises(ValueError, match="k cannot be assumed"):
        formats.read(saved(tmp_path), {"k": 3})
