"""Gemma Scope 1 and 2: the equation written out, what is refused, and what is written."""

import json

import numpy as np
import pytest
import torch
from foreign_saes import D_IN, D_SAE, K, assert_computes, random_weights, samples, start
from safetensors.torch import save_file

from sae_lightning import formats
from sae_lightning.formats import gemma_scope
from sae_lightning.saes import BatchTopK, JumpReLU, MatryoshkaBatchTopK, ReLU, SparseAutoencoder, TopK
from sae_lightning.saes.saving import to_stored

HOOK = "model.layers.22.output"
CONFIG = {
    "hf_hook_point_in": HOOK, "hf_hook_point_out": HOOK, "width": D_SAE, "model_name": "google/gemma-3-1b-pt",
    "architecture": "jump_relu", "l0": 20, "affine_connection": False, "type": "sae",
}  # fmt: skip
FIRST, SECOND = "gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71", "resid_post/layer_22_width_16k_l0_small"


def weights(x):
    """Weights whose first latent is at its threshold exactly for the first sample."""
    tensors = random_weights() | {"threshold": torch.rand(D_SAE, generator=torch.Generator().manual_seed(2))}
    tensors["W_enc"][:, 0] = torch.tensor([1.0, 0, 0, 0, 0])
    tensors["b_enc"][0] = 0.25
    tensors["threshold"][0], x[0, 0] = 0.75, 0.5
    return tensors


def equation(x, W_enc, W_dec, b_enc, b_dec, threshold):
    pre_acts = x @ W_enc + b_enc
    latents = pre_acts.relu() * (pre_acts > threshold)
    return latents, latents @ W_dec + b_dec


def first(folder, lower=False, **changed):
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor for name, tensor in (weights(samples()) | changed).items() if tensor is not None}
    np.savez(folder / "params.npz", **{name.lower() if lower else name: t.numpy() for name, t in tensors.items()})
    return folder


def second(folder, config=CONFIG, **changed):
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor for name, tensor in (weights(samples()) | changed).items() if tensor is not None}
    save_file({name.lower(): tensor.contiguous() for name, tensor in tensors.items()}, folder / "params.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    "write",
    [lambda f, **w: first(f, **w), lambda f, **w: first(f, True, **w), lambda f, **w: second(f, **w)],
    ids=["1", "1 in lower case", "2"],
)
def test_their_equation(tmp_path, write):
    x = samples()
    tensors = weights(x)
    pre_acts = x @ tensors["W_enc"] + tensors["b_enc"]
    assert pre_acts[0, 0] == tensors["threshold"][0]
    assert (tensors["threshold"] > 0).all()
    assert ((pre_acts > 0) & (pre_acts <= tensors["threshold"])).sum() > 20
    assert_computes(write(tmp_path, **tensors), x, *equation(x, **tensors))


def test_thresholds_below_zero_select_what_is_positive(tmp_path):
    x = samples()
    tensors = weights(x)
    tensors["threshold"][3:5] = -0.5
    stored = formats.read(first(tmp_path, **tensors))
    assert stored.folds == ("2 thresholds below 0 became 0, which selects the same since latents are positive",)
    assert_computes(tmp_path, x, *equation(x, **tensors))


def test_half_precision_is_said(tmp_path):
    tensors = {name: tensor.bfloat16() for name, tensor in weights(samples()).items()}
    assert formats.read(second(tmp_path, **tensors)).dtype == "bfloat16"


def test_folders_say_what_the_first_is_of(tmp_path):
    stored = formats.read(first(tmp_path / FIRST))
    assert stored.stated == {
        "layer": 20, "l0": 71, "model": "google/gemma-2-2b", "hook": "blocks.20.hook_resid_post",
    }  # fmt: skip
    assert "called width_16k, and it has 12 latents" in str(stored.notes)
    assert "those of the repository's name" in str(stored.notes)
    assert formats.read(first(tmp_path / "gemma-scope-9b-it-att/layer_3")).stated == {
        "layer": 3, "model": "google/gemma-2-9b-it", "hook": "blocks.3.attn.hook_z",
    }  # fmt: skip
    assert formats.read(first(tmp_path / "downloads")).stated == {}


def test_an_embedding_sae_is_read_as_it_stands(tmp_path):
    stored = formats.read(first(tmp_path / "embedding/width_4k/average_l0_6"))
    assert torch.equal(stored.tensors["W_enc"], weights(samples())["W_enc"])
    assert "multiplies them by sqrt(d_in)" in str(stored.notes)
    assert stored.stated == {"l0": 6}


def test_the_configuration_says_what_the_second_is_of(tmp_path):
    stored = formats.read(second(tmp_path / SECOND))
    assert stored.stated == {"layer": 22, "model": "google/gemma-3-1b-pt", "hook": HOOK, "l0": 20}
    assert stored.notes == ("l0 is what its training aimed at",)
    assert stored.config == CONFIG


@pytest.mark.parametrize(
    ("kind", "hook"),
    [
        ("resid_post_all", HOOK),
        ("attn_out", "model.layers.22.self_attn.o_proj.input"),
        ("mlp_out", "model.layers.22.post_feedforward_layernorm.output"),
    ],
)
def test_without_a_configuration_the_folder_tells(tmp_path, kind, hook):
    stored = formats.read(second(tmp_path / kind / "layer_22_width_16k_l0_small", None))
    assert stored.stated == {"layer": 22, "hook": hook}
    assert f"told by its folder {kind}" in str(stored.notes)


def test_without_a_configuration_it_may_be_a_transcoder(tmp_path):
    folder = second(tmp_path / "downloads/layer_22_width_16k_l0_small", None)
    with pytest.raises(ValueError, match=r"no config.json, and a transcoder has the same.*assume variant=JumpReLU"):
        formats.read(folder)
    with pytest.raises(ValueError, match="assume variant=JumpReLU"):
        formats.read(folder, {"variant": "ReLU"})
    assert formats.read(folder, {"variant": "JumpReLU"}).assumed == {"variant": "JumpReLU"}


def test_nothing_is_to_be_assumed_where_the_file_says_it(tmp_path):
    with pytest.raises(ValueError, match="variant cannot be assumed"):
        formats.read(second(tmp_path), {"variant": "JumpReLU"})


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"type": "crosscoder"}, "of the type crosscoder"),
        ({"affine_connection": True}, "affine connection"),
        ({"architecture": "topk"}, "of the architecture topk"),
        ({"width": 16384}, "says d_sae=16384 and the weights 12"),
    ],
)
def test_what_the_configuration_calls_no_sae_is_refused(tmp_path, changed, expected):
    with pytest.raises(ValueError, match=expected):
        formats.read(second(tmp_path, CONFIG | changed))


def test_what_its_tensors_call_no_sae_is_refused(tmp_path):
    with pytest.raises(ValueError, match="an SAE with affine_skip_connection from input to output"):
        formats.read(second(tmp_path / "a", affine_skip_connection=torch.zeros(D_IN, D_IN)))
    with pytest.raises(ValueError, match="cross-layer transcoder or crosscoder"):
        formats.read(second(tmp_path / "b", W_dec=torch.zeros(D_SAE, 2, D_IN)))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"threshold": None}, "lacks threshold"),
        ({"scale": torch.ones(2)}, "has scale, which this format does not know"),
        ({"W_enc": torch.ones(D_SAE, D_IN)}, "W_enc has the shape .*its axes are swapped"),
        ({"W_dec": torch.ones(D_IN, D_SAE)}, "W_dec has the shape .*its axes are swapped"),
        ({"threshold": torch.ones(())}, "threshold has the shape"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, changed, expected):
    with pytest.raises(ValueError, match=expected):
        formats.read(first(tmp_path, **changed))


def test_two_files_are_too_many(tmp_path):
    second(first(tmp_path))
    with pytest.raises(ValueError, match=r"has params.npz and params.safetensors, of Gemma Scope 1 and 2"):
        formats.read(tmp_path)
    assert formats.read(tmp_path / "params.npz").config == {}


def test_the_way_back_is_bit_equal(tmp_path):
    x = samples()
    sae = start(JumpReLU, apply_b_dec_to_input=False, scale_input=False)
    sae.threshold.data.copy_(torch.rand(D_SAE))
    assert gemma_scope.write(to_stored(sae), tmp_path) == [tmp_path / "params.npz"]
    again = SparseAutoencoder.load(tmp_path)
    assert torch.equal(again.encode(x).to_dense(), sae.encode(x).to_dense())
    assert torch.equal(again(x), sae(x))


@pytest.mark.parametrize("subtracted", [True, False])
@pytest.mark.parametrize("variant", [JumpReLU, BatchTopK, MatryoshkaBatchTopK])
def test_what_is_written_computes_the_same(tmp_path, variant, subtracted):
    k = {} if variant is JumpReLU else {"k": K}
    x, sae = samples(), start(variant, apply_b_dec_to_input=subtracted, **k)
    sae.threshold.data.fill_(0.4)
    stored = gemma_scope.writable(to_stored(sae))
    folds = [variant is not JumpReLU and f"the threshold of the {variant.__name__}, 0.4,",
             subtracted and "b_enc -= b_dec @ W_enc, as b_dec is not subtracted"]  # fmt: skip
    assert len(stored.folds) == len(expected := [fold for fold in folds if fold])
    assert all(fold.startswith(said) for fold, said in zip(stored.folds, expected, strict=True))
    gemma_scope.write(to_stored(sae), tmp_path)
    assert set(np.load(tmp_path / "params.npz").files) == {"W_enc", "W_dec", "b_enc", "b_dec", "threshold"}
    assert_computes(tmp_path, x, sae.encode(x).to_dense(), sae(x))


@pytest.mark.parametrize(
    ("sae", "expected"),
    [
        (lambda: start(TopK, k=K), "SAEs with thresholds .*and this is a TopK"),
        (lambda: start(ReLU), "and this is a ReLU"),
        (lambda: start(JumpReLU, input_norm="unit_norm"), "has input_norm=unit_norm"),
        (lambda: start(BatchTopK, k=K), "this BatchTopK has no threshold yet"),
    ],
)
def test_what_it_cannot_express_is_not_written(tmp_path, sae, expected):
    with pytest.raises(ValueError, match=expected):
        gemma_scope.write(to_stored(sae()), tmp_path)
    assert not list(tmp_path.iterdir())
