"""SAEs of bartbussmann/BatchTopK and bartbussmann/matryoshka_sae, by their equations."""

import json
import math

import pytest
import torch

from sae_lightning.formats import formats_in, read
from sae_lightning.saes import SparseAutoencoder

D, M, K = 5, 12, 3
"""They undo the norm with std alone, we with std + 1e-5: reconstructions of up to 10 in units of it, times 1e-5."""
TYPES = ("vanilla", "topk", "batchtopk", "global-matryoshka-topk", "jumprelu")
BY_BATCH = TYPES[2:4]
VARIANTS = dict(zip(TYPES, ("ReLU", "TopK", "BatchTopK", "MatryoshkaBatchTopK", "JumpReLU"), strict=True))


def grid(*shape):
    """Multiples of 1/8: sums of products are exact, so thresholds can be hit exactly."""
    return torch.randint(-8, 9, shape) / 8


def weights(sae_type, draw=torch.randn):
    torch.manual_seed(0)
    tensors = {"W_enc": draw(D, M), "W_dec": draw(M, D), "b_enc": draw(M), "b_dec": draw(D)}
    if sae_type in BY_BATCH:
        tensors["threshold"] = torch.tensor(0.5)
    if sae_type == "jumprelu":
        tensors["jumprelu.log_threshold"] = draw(M)
    return tensors


def equation(sae_type, t, x, unit_norm=False, use_pre_enc_bias=False):
    """Return latents and reconstruction as the repositories define them."""
    mean, std = (x.mean(-1, keepdim=True), x.std(-1, keepdim=True)) if unit_norm else (0.0, 1.0)
    x = (x - mean) / (std + 1e-5) if unit_norm else x
    if sae_type == "vanilla":
        latents = ((x - t["b_dec"]) @ t["W_enc"] + t["b_enc"]).relu()
    elif sae_type == "jumprelu":
        pre = ((x - t["b_dec"] if use_pre_enc_bias else x) @ t["W_enc"] + t["b_enc"]).relu()
        latents = pre * (pre > t["jumprelu.log_threshold"].exp())
    else:
        acts = ((x - t["b_dec"]) @ t["W_enc"]).relu()
        if sae_type == "topk":
            top = acts.topk(K)
            latents = torch.zeros_like(acts).scatter(1, top.indices, top.values)
        else:
            latents = acts * (acts > t["threshold"])
    return latents, (latents @ t["W_dec"] + t["b_dec"]) * std + mean


def config_of(sae_type, **others):
    said = {"sae_type": sae_type, "act_size": D, "dict_size": M, "top_k": K, "input_unit_norm": False}
    said |= {"seed": 49, "batch_size": 64, "lr": 1e-4, "num_tokens": 1000, "l1_coeff": 0.01, "seq_len": 128}
    said |= {"dtype": "torch.float32", "model_name": "gpt2-small", "layer": 8, "hook_point": "blocks.8.hook_resid_pre"}
    said |= {"dataset_path": "openwebtext", "name": "gpt2_sae", "group_sizes": "[2, 3, 7]"}
    return said | others


def save(folder, tensors, config):
    folder.mkdir(exist_ok=True)
    torch.save(tensors, folder / "sae.pt")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def assert_computes(sae, x, latents, reconstruction, within=1e-5, undone_within=None):
    code = sae.encode(x)
    torch.testing.assert_close(code.to_dense(), latents, atol=within, rtol=within)
    undone_within = within if undone_within is None else undone_within
    torch.testing.assert_close(sae.decode(code), reconstruction, atol=undone_within, rtol=within)


@pytest.mark.parametrize("sae_type", TYPES)
@pytest.mark.parametrize("unit_norm", [False, True])
def test_each_class_computes_what_its_equation_says(tmp_path, sae_type, unit_norm):
    tensors = weights(sae_type)
    sae = SparseAutoencoder.load(save(tmp_path, tensors, config_of(sae_type, input_unit_norm=unit_norm)))
    assert type(sae).__name__ == VARIANTS[sae_type]
    assert sae.input_norm == ("layer_norm" if unit_norm else None)
    x = 10 * torch.randn(40, D) + 4 if unit_norm else 2 * torch.randn(40, D)
    expected = equation(sae_type, tensors, x, unit_norm)
    assert_computes(sae, x, *expected)


@pytest.mark.parametrize("sae_type", [*BY_BATCH, "jumprelu"])
def test_a_pre_activation_at_the_threshold_is_not_active(tmp_path, sae_type):
    tensors, x = weights(sae_type, grid), grid(40, D)
    if sae_type == "jumprelu":
        tensors["jumprelu.log_threshold"] = torch.zeros(M)
        tensors["b_enc"] = 1 - x[0] @ tensors["W_enc"]
    else:
        tensors["threshold"] = ((x[0] - tensors["b_dec"]) @ tensors["W_enc"]).amax()
    latents, reconstruction = equation(sae_type, tensors, x)
    assert not latents[0].any()
    assert latents.any()
    sae = SparseAutoencoder.load(save(tmp_path, tensors, config_of(sae_type)))
    assert_computes(sae, x, latents, reconstruction, within=0)


@pytest.mark.parametrize("sae_type", TYPES)
def test_the_bias_that_is_never_used_is_taken_out_by_name(tmp_path, sae_type):
    stored = read(save(tmp_path, weights(sae_type), config_of(sae_type)))
    unused = sae_type not in ("vanilla", "jumprelu")
    assert any("b_enc became 0" in fold for fold in stored.folds) == unused
    assert bool(stored.tensors["b_enc"].any()) != unused


@pytest.mark.parametrize("sizes", ["[2, 3, 7]", [2, 3, 7]])
def test_groups_are_written_as_text(tmp_path, sizes):
    config = config_of("global-matryoshka-topk", group_sizes=sizes, dict_size=99)  # it takes the sum of the groups
    sae = SparseAutoencoder.load(save(tmp_path, weights("global-matryoshka-topk"), config))
    assert sae.group_ends == [2, 5, 12]


def test_the_configuration_states_what_it_trained_on(tmp_path):
    config = config_of("batch-topk", name="run")
    stored = read(save(tmp_path / "run_200", weights("batchtopk"), config))
    assert stored.stated == {
        "model": "gpt2-small",
        "hook": "blocks.8.hook_resid_pre",
        "layer": 8,
        "context_length": 128,
        "dataset": "openwebtext",
        "batch_size": 64,
        "learning_rate": 1e-4,
        "seed": 49,
        "k": K,
        "tokens": 12800,
    }
    assert "tokens" not in read(save(tmp_path / "elsewhere", weights("batchtopk"), config)).stated


@pytest.mark.parametrize("sae_type", BY_BATCH)
def test_without_a_threshold_selection_is_by_batch(tmp_path, sae_type):
    tensors = weights(sae_type)
    del tensors["threshold"]
    save(tmp_path, tensors, config_of(sae_type))
    for assumed in ({}, {"variant": "ReLU"}):
        with pytest.raises(
            ValueError, match="has no threshold: .* selects by batch also after training; assume one, as"
        ):
            read(tmp_path, assumed)
    x = torch.randn(20, D)
    sae = SparseAutoencoder.load(tmp_path, {"threshold": 0.25})
    assert_computes(sae, x, *equation(sae_type, tensors | {"threshold": torch.tensor(0.25)}, x))


@pytest.mark.parametrize("unset", [0.0, math.nan])
def test_a_threshold_that_was_never_set_is_refused_or_assumed(tmp_path, unset):
    tensors = weights("batchtopk") | {"threshold": torch.tensor(unset)}
    save(tmp_path, tensors, config_of("batchtopk"))
    with pytest.raises(
        ValueError, match="never set one .*threshold=0.5, or variant=ReLU, which is what matryoshka_sae"
    ):
        read(tmp_path)
    x = torch.randn(20, D)
    sae = SparseAutoencoder.load(tmp_path, {"variant": "ReLU"})
    assert sae.provenance["imported"]["stated"]["trained_as"] == "BatchTopK"
    assert_computes(sae, x, *equation("batchtopk", tensors | {"threshold": torch.tensor(0.0)}, x))


def test_jump_relu_does_not_say_whether_it_subtracts_b_dec(tmp_path):
    tensors, x = weights("jumprelu"), torch.randn(40, D)
    save(tmp_path, tensors, config_of("jumprelu"))
    assert "use_pre_enc_bias=True" in read(tmp_path).notes[0]
    sae = SparseAutoencoder.load(tmp_path, {"apply_b_dec_to_input": True})
    assert_computes(sae, x, *equation("jumprelu", tensors, x, use_pre_enc_bias=True))


def without(name):
    return lambda tensors: tensors.pop(name)


@pytest.mark.parametrize(
    ("sae_type", "change", "others", "expected"),
    [
        ("topk", without("b_dec"), {}, "lacks b_dec"),
        ("topk", lambda t: t.update(W_skip=torch.eye(D)), {}, "has W_skip, which this format does not know"),
        ("topk", lambda t: t.update(W_enc=t["W_enc"].T), {}, "W_enc has the shape .*its axes are swapped"),
        ("topk", lambda t: t.update(threshold=torch.tensor(1.0)), {}, "sae_type=topk, and the weights have threshold"),
        ("jumprelu", without("jumprelu.log_threshold"), {}, "sae_type=jumprelu, and the weights have no threshold"),
        ("topk", dict, {"sae_type": "jumprelu"}, "sae_type=jumprelu, and the weights have no threshold"),
        ("topk", dict, {"act_size": 6}, "configuration says d_in=6 and the weights 5"),
        ("topk", dict, {"dict_size": 24}, "configuration says d_sae=24 and the weights 12"),
        ("topk", dict, {"sae_type": "matryoshka-transcoder"}, "sae_type=matryoshka-transcoder: .* no variant for it"),
        ("topk", dict, {"sae_type": "clt"}, "sae_type=clt: .* no variant for it"),
        ("global-matryoshka-topk", dict, {"group_sizes": "[2, 3]"}, "configuration says d_sae=5 and the weights 12"),
        ("global-matryoshka-topk", dict, {"group_sizes": "2304//4"}, "group_sizes=2304//4, expected sizes such as"),
        ("global-matryoshka-topk", dict, {"group_sizes": [12, 0]}, "expected sizes such as"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, sae_type, change, others, expected):
    tensors = weights(sae_type)
    change(tensors)
    with pytest.raises(ValueError, match=expected):
        read(save(tmp_path, tensors, config_of(sae_type) | others))


def test_a_configuration_that_lacks_k_is_named(tmp_path):
    config = config_of("topk")
    del config["top_k"]
    with pytest.raises(ValueError, match="top_k"):
        read(save(tmp_path, weights("topk"), config))


def test_other_configurations_are_not_of_this_format(tmp_path):
    assert formats_in(save(tmp_path, weights("vanilla"), {"act_size": D, "dict_size": M})) == []
    assert formats_in(save(tmp_path, weights("vanilla"), config_of("vanilla"))) == [
        "BatchTopK and matryoshka_sae (bartbussmann)"
    ]
