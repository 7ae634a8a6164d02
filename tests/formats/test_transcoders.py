"""Transcoders of other libraries: their equations written out, what is refused, and what is written.

What SAELens and sparsify computed from files of their own is compared beside their SAEs, see `files/`.
"""

import json
import math

import pytest
import torch
from foreign_saes import assert_computes
from formats import test_gemma_scope as gemma_scope
from formats import test_llama_scope as llama_scope
from formats import test_llamascopium as llamascopium
from formats import test_saelens as saelens
from formats import test_sparsify as sparsify
from safetensors.torch import load_file

from sae_lightning import formats, saes
from sae_lightning.formats import dictionary_learning
from sae_lightning.formats import gemma_scope as gemma_scope_format
from sae_lightning.formats import saelens as saelens_format
from sae_lightning.formats import sparsify as sparsify_format
from sae_lightning.saes import SparseAutoencoder
from sae_lightning.saes.saving import to_stored

D_IN, D_OUT, D_SAE, K = 5, 4, 12, 3
DRAW = torch.Generator().manual_seed(3)
W_SKIP = torch.randn(D_IN, D_IN, generator=DRAW)
X = 2 * torch.randn(64, D_IN, generator=DRAW) + 1
IN, OUT = "model.layers.22.pre_feedforward_layernorm.output", "model.layers.22.post_feedforward_layernorm.output"
GEMMA_2 = gemma_scope.CONFIG | {"hf_hook_point_in": IN, "hf_hook_point_out": OUT}
LLAMA = {"hook_point_in": "blocks.15.ln2.hook_normalized", "hook_point_out": "blocks.15.hook_mlp_out"}


def gemma(folder, affine, config=GEMMA_2):
    """A transcoder of Gemma Scope 2, with its affine path or without."""
    tensors = {"affine_skip_connection": W_SKIP} if affine else {}
    return gemma_scope.second(folder, None if config is None else config | {"affine_connection": affine}, **tensors)


def llama(folder):
    norms = {"dataset_average_activation_norm": {"in": 8.0, "out": 2.0}}
    return llama_scope.saved(folder, **LLAMA, **norms)


def scopium(folder):
    own = llamascopium.tensors()
    own[f"dataset_average_activation_norm.{LLAMA['hook_point_in']}"] = torch.tensor(8.0)
    own[f"dataset_average_activation_norm.{LLAMA['hook_point_out']}"] = torch.tensor(2.0)
    return llamascopium.saved(folder, own, **LLAMA)


def assert_is_transcoder(folder, latents, answer, hooks):
    """It computes this, says what it reads and where it answers, and stays so when it is saved as one of ours."""
    assert_computes(folder, X, latents, answer)
    sae = SparseAutoencoder.load(folder)
    assert sae.is_transcoder
    sae.save(folder / "ours")
    assert torch.equal(SparseAutoencoder.load(folder / "ours")(X), sae(X))
    stated = sae.provenance["imported"]["stated"]
    assert (stated.get("hook"), stated.get("target")) == hooks


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("has_config", [True, False])
def test_gemma_scope_2(tmp_path, affine, has_config):
    folder = tmp_path / "transcoder_all" / ("layer_22_width_16k_l0_small" + "_affine" * affine)
    gemma(folder, affine, GEMMA_2 if has_config else None)
    weights = gemma_scope.weights(X.clone())
    latents, answer = gemma_scope.equation(X, **weights)
    assert_is_transcoder(folder, latents, answer + X @ W_SKIP if affine else answer, (IN, OUT))


def test_gemma_scope_1_tells_transcoders_by_the_repository(tmp_path):
    folder = gemma_scope.first(tmp_path / "gemma-scope-2b-pt-transcoders/layer_20/width_16k/average_l0_11")
    hooks = "blocks.20.ln2.hook_normalized", "blocks.20.hook_mlp_out"
    assert_is_transcoder(folder, *gemma_scope.equation(X, **gemma_scope.weights(X.clone())), hooks)


def test_llama_scope_whose_sides_have_norms_of_their_own(tmp_path):
    """The threshold is in the units of raw answers, so it is compared with latents in the scale of the output."""
    own = llama_scope.tensors()
    a, c = (math.sqrt(D_IN) / norm for norm in (8.0, 2.0))
    pre = (X * a) @ own["encoder.weight"].T + own["encoder.bias"]
    latents = pre * (pre * own["decoder.weight"].norm(dim=0) > llama_scope.CONFIG["jump_relu_threshold"] * c)
    answer = (latents @ own["decoder.weight"].T + own["decoder.bias"]) / c
    assert_is_transcoder(llama(tmp_path), latents, answer, (LLAMA["hook_point_in"], LLAMA["hook_point_out"]))
    with pytest.raises(ValueError, match="subtracts its decoder bias"):
        formats.read(llama_scope.saved(tmp_path / "b", apply_decoder_bias_to_pre_encoder=True, **LLAMA))


def test_llamascopium_has_the_norm_of_each_hook_among_its_tensors(tmp_path):
    own = llamascopium.tensors()
    a, c = (math.sqrt(D_IN) / norm for norm in (8.0, 2.0))
    pre = (X * a) @ own["W_E"] + own["b_E"]
    latents = pre * (pre * own["W_D"].norm(dim=1) > own[llamascopium.LOG].exp())
    answer = (latents @ own["W_D"] + own["b_D"]) / c
    assert_is_transcoder(scopium(tmp_path), latents, answer, (LLAMA["hook_point_in"], LLAMA["hook_point_out"]))
    with pytest.raises(ValueError, match="transcoder with norm_activation token-wise"):
        formats.read(llamascopium.saved(tmp_path, norm_activation="token-wise", **LLAMA))


@pytest.mark.parametrize("skip", [True, False])
def test_sparsify(tmp_path, skip):
    config = sparsify.CONFIG | {"transcode": True, "skip_connection": skip}
    own = sparsify.tensors()
    folder = sparsify.coder(tmp_path / "layers.3.mlp", config, **({"W_skip": W_SKIP} if skip else {}))
    latents = sparsify.top_k((X @ own["encoder.weight"].T + own["encoder.bias"]).relu())
    answer = latents @ own["W_dec"] + own["b_dec"] + (X @ W_SKIP.T if skip else 0)
    assert_is_transcoder(folder, latents, answer, ("layers.3.mlp.input", "layers.3.mlp"))


@pytest.mark.parametrize("run", [{"transcode": True}, {"sae": sparsify.CONFIG | {"transcode": True}}])
def test_sparsify_computes_an_sae_where_only_the_run_says_that_it_is_a_transcoder(tmp_path, run):
    sparsify.run(tmp_path, **run)
    own, folder = sparsify.tensors(), sparsify.coder(tmp_path / "layers.3.mlp")
    latents = sparsify.top_k(((X - own["b_dec"]) @ own["encoder.weight"].T + own["encoder.bias"]).relu())
    answer = latents @ own["W_dec"] + own["b_dec"]
    assert_is_transcoder(folder, latents, answer, ("layers.3.mlp.input", "layers.3.mlp"))
    assert formats.read(folder).folds == (
        "b_enc -= b_dec @ W_enc, as b_dec is not subtracted from the input in this format",
    )


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (
            lambda f: gemma(f, True, GEMMA_2 | {"hf_hook_point_out": IN}),
            "an SAE with an affine connection",
        ),
        (
            lambda f: gemma_scope.second(f, GEMMA_2, affine_skip_connection=W_SKIP),
            "affine_skip_connection, which this format does not know",
        ),
        (lambda f: gemma_scope.second(f, GEMMA_2 | {"affine_connection": True}), "lacks affine_skip_connection"),
        (lambda f: gemma_scope.second(f, GEMMA_2 | {"type": "crosscoder"}), "of the type crosscoder"),
        (lambda f: sparsify.coder(f, sparsify.CONFIG | {"transcode": True}, W_skip=W_SKIP), "has W_skip"),
        (lambda f: saelens.folder(f, "transcoder"), "d_out=None: expected a whole number"),
        (lambda f: saelens.folder(f, "transcoder", d_out=4), "says d_out=4 and the weights 5"),
        (lambda f: saelens.folder(f, "skip_transcoder", d_out=5), "lacks W_skip"),
        (
            lambda f: saelens.folder(f, "transcoder", d_out=5, normalize_activations="layer_norm"),
            "normalize_activations layer_norm, which has no way back",
        ),
        (
            lambda f: saelens.folder(f, metadata={"hook_name": "a", "hook_name_out": "b"}),
            "reads a and answers at b, .* that of an SAE: expected one of transcoder",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path, write, expected):
    with pytest.raises(ValueError, match=expected):
        formats.read(write(tmp_path / "sae"))


def test_saelens_says_that_what_is_written_was_centred(tmp_path):
    hooks = {"hook_name": "blocks.8.ln2.hook_normalized", "hook_name_out": "blocks.8.hook_mlp_out"}
    loaded = {"model_name": "gpt2-small", "model_from_pretrained_kwargs": {"center_writing_weights": True}}
    stored = formats.read(saelens.folder(tmp_path, "transcoder", d_out=D_IN, metadata=hooks | loaded))
    assert "of gpt2-small with centred writing weights" in stored.notes[0]
    assert formats.read(saelens.folder(tmp_path, "transcoder", d_out=D_IN, metadata=hooks)).notes == ()


# What we write
# --------------------------------------------------------------------------------------------------------------------


def ours(variant, skip=True, d_out=D_OUT, **settings):
    """A transcoder with random weights, whose two sides are scaled."""
    sae = getattr(saes, variant)(D_IN, d_sae=D_SAE, d_out=d_out, skip=skip, scale_input=True, **settings)
    sae.initialise(0, 3 * torch.randn(2048, D_IN), 7 * torch.randn(2048, d_out))
    for name, parameter in sae.named_parameters():
        if name in ("b_enc", "b_dec", "W_skip"):
            torch.nn.init.normal_(parameter)
    if isinstance(getattr(sae, "threshold", None), torch.Tensor):
        sae.threshold.data.fill_(0.2)
    return sae.eval()


WRITTEN = [
    ("ReLU", {"skip": False}, "transcoder"),
    ("ReLU", {}, "skip_transcoder"),
    ("JumpReLU", {"skip": False}, "jumprelu_transcoder"),
    ("BatchTopK", {"k": K}, "jumprelu_skip_transcoder"),
]


@pytest.mark.parametrize(("variant", "settings", "architecture"), WRITTEN)
def test_saelens_there_and_back(tmp_path, variant, settings, architecture):
    sae = ours(variant, **settings)
    sae.provenance = {"activations": {"hook": "layers.3.norm"}, "target": {"hook": "layers.3.mlp"}}
    saelens_format.write(to_stored(sae), tmp_path)
    config = json.loads((tmp_path / "cfg.json").read_text())
    assert (config["architecture"], config["d_out"]) == (architecture, D_OUT)
    assert config["metadata"]["hook_name_out"] == "layers.3.mlp"
    assert formats.read(tmp_path).stated["target"] == "layers.3.mlp"
    assert_computes(tmp_path, X, sae.encode(X).to_dense() * float(1 / sae.target_scale), sae(X))


def test_sparsify_there_and_back(tmp_path):
    sae = ours("TopK", d_out=D_IN, k=K)
    sparsify_format.write(to_stored(sae), tmp_path / "layers.3.mlp")
    config = json.loads((tmp_path / "layers.3.mlp/cfg.json").read_text())
    assert config["transcode"]
    assert config["skip_connection"]
    held = load_file(tmp_path / "layers.3.mlp/sae.safetensors")
    assert set(held) == {"encoder.weight", "encoder.bias", "W_dec", "b_dec", "W_skip"}
    assert_computes(tmp_path / "layers.3.mlp", X, sae.encode(X).to_dense() * float(1 / sae.target_scale), sae(X))


@pytest.mark.parametrize(
    ("write", "sae", "expected"),
    [
        (saelens_format.write, lambda: ours("TopK", k=K), "transcoders of ReLU and JumpReLU.*this is a TopK"),
        (saelens_format.write, lambda: ours("Gated"), "this is a Gated"),
        (sparsify_format.write, lambda: ours("TopK", k=K), "of one width, and this one has d_in=5 and d_out=4"),
        (sparsify_format.write, lambda: ours("ReLU"), "this is a ReLU"),
        (dictionary_learning.write, lambda: ours("TopK", k=K), "no class for a transcoder"),
        (gemma_scope_format.write, lambda: ours("JumpReLU"), r"params\.npz does not say whether it is a transcoder"),
    ],
)
def test_what_a_format_cannot_express_is_not_written(tmp_path, write, sae, expected):
    with pytest.raises(ValueError, match=expected):
        write(to_stored(sae()), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("variant", "settings", "architecture"), WRITTEN)
def test_saelens_reads_what_we_write(tmp_path, variant, settings, architecture):
    sae_lens = pytest.importorskip("sae_lens")
    sae = ours(variant, **settings)
    saelens_format.write(to_stored(sae), tmp_path)
    theirs = sae_lens.SAE.load_from_disk(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(theirs(X), sae(X), rtol=1e-5, atol=1e-5)


def test_sparsify_reads_what_we_write(tmp_path):
    coder_class = pytest.importorskip("sparsify").SparseCoder
    sae = ours("TopK", d_out=D_IN, k=K)
    sparsify_format.write(to_stored(sae), tmp_path / "layers.3.mlp")
    coder = coder_class.load_from_disk(tmp_path / "layers.3.mlp")
    with torch.no_grad():
        torch.testing.assert_close(coder(X).sae_out, sae(X), rtol=1e-5, atol=1e-5)
