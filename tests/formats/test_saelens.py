"""SAEs of SAELens: files that it wrote, each architecture's equation, old configurations, and what it reads of ours."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sae_lightning import formats, saes
from sae_lightning.formats import saelens
from sae_lightning.formats.place import Place
from sae_lightning.saes import SparseAutoencoder
from sae_lightning.saes.saving import from_stored, to_stored

FILES = Path(__file__).parent / "files/saelens"
D_IN, D_SAE, K = 5, 12, 3
GPT2 = {"model_name": "gpt2-small", "hook_name": "blocks.8.hook_resid_pre"}
RNG = torch.Generator().manual_seed(0)
W_ENC, W_DEC = torch.randn(D_IN, D_SAE, generator=RNG), torch.randn(D_SAE, D_IN, generator=RNG)
B_ENC, B_DEC = torch.randn(D_SAE, generator=RNG), torch.randn(D_IN, generator=RNG)
THRESHOLD = torch.rand(D_SAE, generator=RNG) + 0.1
X = torch.randn(16, D_IN, generator=RNG) * 3 + 1
TENSORS = {"W_enc": W_ENC, "W_dec": W_DEC, "b_enc": B_ENC, "b_dec": B_DEC}
GATED = {"b_enc": None, "b_gate": B_ENC, "b_mag": THRESHOLD - 0.5, "r_mag": B_ENC.flip(0) / 2}


def folder(path, architecture="standard", tensors=None, metadata=None, **config):
    path.mkdir(parents=True, exist_ok=True)
    held = {name: tensor for name, tensor in {**TENSORS, **(tensors or {})}.items() if tensor is not None}
    save_file({name: tensor.contiguous() for name, tensor in held.items()}, path / "sae_weights.safetensors")
    metadata = {"sae_lens_version": "6.54.12", **(metadata or {})}
    said = {"architecture": architecture, "d_in": D_IN, "d_sae": D_SAE, "metadata": metadata, **config}
    (path / "cfg.json").write_text(json.dumps(said))
    return path


def old_folder(path, tensors=None, **config):
    folder(path, tensors=tensors)
    (path / "cfg.json").write_text(json.dumps({"d_in": D_IN, "d_sae": D_SAE, "dtype": "torch.float32", **config}))
    return path


def top_k(pre_acts, k=K):
    indices = pre_acts.topk(k, dim=1).indices
    return torch.zeros_like(pre_acts).scatter(1, indices, pre_acts.gather(1, indices)).relu()


def pre_acts(x=X, subtract=True):
    return (x - subtract * B_DEC) @ W_ENC + B_ENC


def assert_computes(path, latents, reconstruction, x=X, assumed=None, atol=1e-5):
    sae = SparseAutoencoder.load(path, assumed)
    with torch.no_grad():
        torch.testing.assert_close(sae.encode(x).to_dense(), latents, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(sae(x), reconstruction, rtol=1e-5, atol=atol)
    return sae


@pytest.mark.parametrize("path", sorted(FILES.iterdir()), ids=lambda path: path.name)
def test_what_saelens_wrote_computes_what_it_computed(path):
    expected = load_file(path / "expected.safetensors")
    sae = assert_computes(path, expected["latents"], expected["reconstruction"], expected["x"])
    assert expected["latents"].count_nonzero() > 16
    says = sae.provenance["imported"]
    assert says["version"] == "6.54.12"
    assert says["stated"]["hook"] == ("model.layers.3.mlp.input" if sae.is_transcoder else "model.layers.3")
    assert says["stated"].get("target") == ("model.layers.3" if sae.is_transcoder else None)
    assert says["stated"]["layer"] == 3
    assert ("input_scale" in says["stated"]) == (path.name.startswith("checkpoint") and "whitened" not in path.name)


def test_exports_and_checkpoints_say_what_they_were_trained_as():
    stored = formats.read(FILES / "matryoshka")
    assert (stored.variant, stored.stated["trained_as"]) == ("JumpReLU", "MatryoshkaBatchTopK")
    assert (stored.stated["k"], stored.stated["l0"], stored.stated["dead"]) == (3, 3.0, 0)
    checkpoint = formats.read(FILES / "checkpoint_matryoshka")
    assert checkpoint.variant == "MatryoshkaBatchTopK"
    assert checkpoint.settings["group_fractions"] == pytest.approx([3 / 12, 5 / 12, 4 / 12])
    assert checkpoint.stated["tokens"] == 1984
    assert "scale of the input" in checkpoint.folds[0]


@pytest.mark.parametrize("subtract", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_standard(tmp_path, subtract, dtype):
    tensors = {name: tensor.to(dtype) for name, tensor in TENSORS.items()}
    folder(tmp_path, tensors=tensors, apply_b_dec_to_input=subtract)
    W_enc, W_dec, b_enc, b_dec = (tensors[name].float() for name in TENSORS)
    latents = ((X - subtract * b_dec) @ W_enc + b_enc).relu()
    assert_computes(tmp_path, latents, latents @ W_dec + b_dec)
    assert formats.read(tmp_path).dtype == str(dtype).removeprefix("torch.")


def test_b_dec_is_subtracted_unless_told_otherwise(tmp_path):
    latents = pre_acts().relu()
    assert_computes(folder(tmp_path), latents, latents @ W_DEC + B_DEC)


def test_topk(tmp_path):
    latents = top_k(pre_acts())
    sae = assert_computes(folder(tmp_path, "topk", k=K), latents, latents @ W_DEC + B_DEC)
    assert sae.k == K


def test_topk_that_ranks_by_decoder_norms(tmp_path):
    norms = W_DEC.norm(dim=1)
    latents = top_k(pre_acts() * norms)
    path = folder(tmp_path, "topk", k=K, rescale_acts_by_decoder_norm=True)
    sae = assert_computes(path, latents, latents / norms @ W_DEC + B_DEC)
    assert "norms of decoder rows" in sae.provenance["imported"]["folds"][0]
    assert not torch.equal(top_k(pre_acts()) > 0, latents > 0)


def test_norms_that_are_one_are_not_folded(tmp_path):
    unit = W_DEC / W_DEC.norm(dim=1, keepdim=True)
    path = folder(tmp_path, "topk", {"W_dec": unit}, k=K, rescale_acts_by_decoder_norm=True)
    assert formats.read(path).folds == ()


def test_jumprelu_with_pre_acts_exactly_at_the_threshold(tmp_path):
    tensors = {"W_enc": torch.eye(D_IN, D_SAE), "b_enc": torch.zeros(D_SAE), "threshold": torch.ones(D_SAE)}
    path = folder(tmp_path / "at", "jumprelu", tensors, apply_b_dec_to_input=False)
    x = torch.tensor([[1.0, 1.0001, 2.0, 0.5, -1.0]])
    latents = torch.nn.functional.pad(torch.tensor([[0.0, 1.0001, 2.0, 0.0, 0.0]]), (0, D_SAE - D_IN))
    assert_computes(path, latents, latents @ W_DEC + B_DEC, x)
    path = folder(tmp_path / "random", "jumprelu", {"threshold": THRESHOLD})
    latents = pre_acts() * (pre_acts() > THRESHOLD)
    assert_computes(path, latents, latents @ W_DEC + B_DEC)


def test_jumprelu_in_training_may_have_the_logarithm(tmp_path):
    path = folder(tmp_path, "jumprelu", {"log_threshold": THRESHOLD.log()})
    latents = pre_acts() * (pre_acts() > THRESHOLD)
    assert_computes(path, latents, latents @ W_DEC + B_DEC)


def test_negative_thresholds_are_relu(tmp_path):
    threshold = THRESHOLD - 0.6
    path = folder(tmp_path, "jumprelu", {"threshold": threshold})
    latents = pre_acts().relu() * (pre_acts() > threshold)
    sae = assert_computes(path, latents, latents @ W_DEC + B_DEC)
    assert "negative thresholds" in sae.provenance["imported"]["folds"][0]


def test_gated(tmp_path):
    inside = (X - B_DEC) @ W_ENC
    magnitude = (inside * GATED["r_mag"].exp() + GATED["b_mag"]).relu()
    latents = magnitude * (inside + B_ENC > 0)
    assert_computes(folder(tmp_path, "gated", GATED), latents, latents @ W_DEC + B_DEC)


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka_batchtopk"])
def test_batchtopk_in_training_with_a_scale(tmp_path, architecture, rescale):
    s, threshold = 0.25, torch.tensor(0.7, dtype=torch.float64)
    config = {"k": K, "rescale_acts_by_decoder_norm": rescale, "normalize_activations": "expected_average_only_in"}
    path = folder(tmp_path, architecture, {"topk_threshold": threshold}, matryoshka_widths=[4, 6], **config)
    (path / "activation_scaler.json").write_text(json.dumps({"scaling_factor": s}))
    norms = W_DEC.norm(dim=1) if rescale else torch.ones(D_SAE)
    in_training = pre_acts(s * X) * norms
    in_training = in_training * (in_training > threshold)
    reconstruction = (in_training / norms @ W_DEC + B_DEC) / s
    sae = assert_computes(path, in_training / s if rescale else in_training, reconstruction)
    assert type(sae).__name__ == {"batchtopk": "BatchTopK"}.get(architecture, "MatryoshkaBatchTopK")
    assert sae.k == K
    assert sae.provenance["imported"]["stated"]["input_scale"] == s


def test_layer_norm_and_constant_norm(tmp_path):
    mean, std = X.mean(1, keepdim=True), X.std(1, keepdim=True)
    latents = pre_acts((X - mean) / (std + 1e-5)).relu()
    path = folder(tmp_path / "layer", normalize_activations="layer_norm")
    assert_computes(path, latents, (latents @ W_DEC + B_DEC) * std + mean)
    scale = D_IN**0.5 / X.norm(dim=1, keepdim=True)
    latents = pre_acts(X * scale).relu()
    path = folder(tmp_path / "constant", normalize_activations="constant_norm_rescale")
    assert_computes(path, latents, (latents @ W_DEC + B_DEC) / scale)


def test_before_version_6(tmp_path):
    said = {"hook_point": "blocks.2.hook_mlp_out", "hook_point_layer": 2, "model_name": "gemma-2b", "lr": 1e-3}
    latents = pre_acts().relu()
    path = old_folder(tmp_path / "standard", activation_fn_str="relu", normalize_activations=False, **said)
    sae = assert_computes(path, latents, latents @ W_DEC + B_DEC)
    stated = sae.provenance["imported"]["stated"]
    assert (stated["hook"], stated["layer"], stated["learning_rate"]) == ("blocks.2.hook_mlp_out", 2, 1e-3)
    latents = top_k(pre_acts())
    path = old_folder(tmp_path / "topk", activation_fn_str="topk", activation_fn_kwargs={"k": K}, **said)
    assert_computes(path, latents, latents @ W_DEC + B_DEC)


@pytest.mark.parametrize("name", ["scaling_factor", "finetuning_scaling_factor"])
def test_factors_on_latents_before_version_6_go_into_the_decoder(tmp_path, name):
    latents = pre_acts().relu()
    path = old_folder(tmp_path / "ones", {name: torch.ones(D_SAE)})
    assert formats.read(path).folds == ()
    path = old_folder(tmp_path / "tuned", {name: THRESHOLD}, finetuning_scaling_factor=True)
    sae = assert_computes(path, latents, (latents * THRESHOLD) @ W_DEC + B_DEC)
    assert "finetuning" in sae.provenance["imported"]["folds"][0]


CENTRED = [
    ("of transformer-lens, asked for", {**GPT2, "model_from_pretrained_kwargs": {"center_writing_weights": True}}),
    ("by an old default", {**GPT2, "sae_lens_training_version": "3.18.2"}),
    ("in another family", {**GPT2, "model_name": "EleutherAI/pythia-70m", "sae_lens_training_version": "3.1.0"}),
    ("at another place", {**GPT2, "hook_name": "blocks.8.hook_mlp_out", "sae_lens_training_version": "3.1.0"}),
]
NOT_CENTRED = [
    ("since 4.0", {**GPT2, "sae_lens_training_version": "6.1.0", "model_from_pretrained_kwargs": {}}),
    ("told not to", {**GPT2, "model_from_pretrained_kwargs": {"center_writing_weights": False}}),
    ("nothing said", GPT2),
    ("RMSNorm", {**GPT2, "model_name": "gemma-2b", "model_from_pretrained_kwargs": {"center_writing_weights": True}}),
    ("inside", {**GPT2, "hook_name": "blocks.8.attn.hook_z", "sae_lens_training_version": "3.1.0"}),
    ("of transformers", {**GPT2, "model_class_name": "AutoModelForCausalLM", "sae_lens_training_version": "3.1.0"}),
]


@pytest.mark.parametrize("metadata", [said for _, said in CENTRED], ids=[name for name, _ in CENTRED])
def test_activations_of_centred_weights_are_centred(tmp_path, metadata):
    mean = X.mean(1, keepdim=True)
    latents = pre_acts(X - mean).relu()
    sae = assert_computes(folder(tmp_path, metadata=metadata), latents, latents @ W_DEC + B_DEC + mean)
    assert "center" in sae.provenance["imported"]["folds"][0]
    assert "centred writing weights" in sae.provenance["imported"]["notes"][0]


def test_the_user_can_say_that_activations_were_not_centred(tmp_path):
    latents = pre_acts().relu()
    path = folder(tmp_path, metadata=CENTRED[1][1])
    assert_computes(path, latents, latents @ W_DEC + B_DEC, assumed={"input_norm": None})


@pytest.mark.parametrize("metadata", [said for _, said in NOT_CENTRED], ids=[name for name, _ in NOT_CENTRED])
def test_other_activations_are_not(tmp_path, metadata):
    stored = formats.read(folder(tmp_path, metadata=metadata))
    assert stored.settings["input_norm"] is None
    assert not any("centred" in note for note in stored.notes)


def test_gpt2_small_res_jb_is_centred_by_its_old_names(tmp_path):
    path = old_folder(tmp_path, model_name="gpt2-small", hook_point="blocks.8.hook_resid_pre", hook_point_layer=8)
    assert formats.read(path).settings["input_norm"] == "center"


def test_an_unknown_model_may_be_centred_and_the_user_can_say_so(tmp_path):
    path = folder(tmp_path, metadata={**GPT2, "model_name": "mine", "sae_lens_training_version": "3.1.0"})
    stored = formats.read(path)
    assert stored.settings["input_norm"] is None
    assert "assume input_norm=center" in stored.notes[0]
    mean = X.mean(1, keepdim=True)
    latents = pre_acts(X - mean).relu()
    assert_computes(path, latents, latents @ W_DEC + B_DEC + mean, assumed={"input_norm": "center"})


def test_warns_of_batchtopk_exports_with_a_wrong_threshold(tmp_path):
    tensors = {"threshold": torch.full([D_SAE], 0.5)}
    details = {"training_architecture": "batchtopk", "training_architecture_details": {"k": K}}
    path = folder(tmp_path / "old", "jumprelu", tensors, {"sae_lens_version": "6.50.0", **details})
    assert "before 6.54" in formats.read(path).notes[0]
    (path / "runner_cfg.json").write_text(json.dumps({"sae": {"normalize_activations": "none"}}))
    assert formats.read(path).notes == ()
    assert formats.read(folder(tmp_path / "new", "jumprelu", tensors, details)).notes == ()


def test_says_what_lies_beside(tmp_path):
    frequencies = torch.tensor([0.0] * 4 + [0.1] * 8)
    path = folder(tmp_path, reshape_activations="hook_z", metadata={"hook_name": "blocks.1.attn.hook_z"})
    save_file({"sparsity": (frequencies + 1e-10).log10()}, path / "sparsity.safetensors")
    runner = {
        "lr": 4e-4,
        "training_tokens": 1000,
        "train_batch_size_tokens": 64,
        "seed": 7,
        "sae": {"l1_coefficient": 2.0},
    }
    (path / "runner_cfg.json").write_text(json.dumps(runner))
    stored = formats.read(path)
    assert stored.stated == {
        "hook": "blocks.1.attn.hook_z",
        "layer": 1,
        "tokens": 1000,
        "batch_size": 64,
        "learning_rate": 4e-4,
        "seed": 7,
        "l1_coefficient": 2.0,
        "dead": 4,
    }
    assert "all heads" in stored.notes[0]
    assert len(stored.notes) == 1
    folder(tmp_path, metadata={"hook_name": "blocks.1.attn.hook_z", "sae_lens_training_version": "3.2.0"})
    assert "value biases" in formats.read(tmp_path).notes[1]


REFUSED = {
    "missing key": ({"tensors": {"b_dec": None}}, "lacks b_dec"),
    "unknown key": ({"tensors": {"threshold": THRESHOLD}}, "has threshold, which this format does not know"),
    "swapped axes": ({"tensors": {"W_enc": W_ENC.T}}, "axes are swapped"),
    "other sizes": ({"d_sae": 13}, "d_sae=13"),
    "no size": ({"architecture": "topk", "k": K, "d_sae": None}, "d_sae=None: expected a whole number"),
    "NaN": ({"tensors": {"b_dec": B_DEC * torch.nan}}, "NaN"),
    "no k": ({"architecture": "topk"}, "k=None"),
    "k of 0": ({"architecture": "topk", "k": 0}, "k=0: expected a whole number"),
    "k too large": ({"architecture": "topk", "k": 13}, "1 to d_sae=12"),
    "k of half": ({"architecture": "topk", "k": 2.5}, "k=2.5"),
    "no threshold": (
        {"architecture": "batchtopk", "k": K, "tensors": {"topk_threshold": torch.tensor(0.0)}},
        "has no threshold, its training never set one.*variant=ReLU",
    ),
    "widths": (
        {"architecture": "matryoshka_batchtopk", "k": K, "matryoshka_widths": [4, 3]}
        | {"tensors": {"topk_threshold": torch.tensor(1.0)}},
        r"matryoshka_widths=\[4, 3\]: expected rising",
    ),
    "no scale": ({"normalize_activations": "expected_average_only_in"}, "activation_scaler.json"),
    "no whitening": ({"normalize_activations": "covariance_whitening"}, "activation_whitening.safetensors"),
    "k of no size": ({"architecture": "topk", "k": float("inf")}, "k=inf"),
    "unknown norm": ({"normalize_activations": "new"}, "normalize_activations is new"),
    "temporal": ({"architecture": "temporal"}, "a temporal SAE"),
    "matching pursuit": ({"architecture": "matching_pursuit"}, "a matching-pursuit SAE"),
    "abstopk": ({"architecture": "abstopk", "k": K}, "an AbsTopK"),
    "clt": ({"architecture": "clt"}, "a cross-layer transcoder"),
    "crosscoder": ({"architecture": "crosscoder"}, "a crosscoder"),
    "unknown": ({"architecture": "new"}, "architecture is new, and this library has no variant for it"),
    "tanh": ({"activation_fn_str": "tanh-relu"}, "activation_fn is tanh-relu"),
    "two norms": (
        {"metadata": CENTRED[0][1], "normalize_activations": "constant_norm_rescale"},
        "this library can do one of both",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(tmp_path, name):
    settings, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        SparseAutoencoder.load(folder(tmp_path, **settings))


@pytest.mark.parametrize("factor", [0, -1.0, float("nan"), "large"])
def test_a_scale_that_is_no_scale_is_refused(tmp_path, factor):
    folder(tmp_path, normalize_activations="expected_average_only_in")
    (tmp_path / "activation_scaler.json").write_text(json.dumps({"scaling_factor": factor}))
    with pytest.raises(ValueError, match="scaling_factor=.*expected a number above 0"):
        formats.read(tmp_path)


def test_a_scale_that_the_configuration_does_not_know_is_refused(tmp_path):
    (folder(tmp_path) / "activation_scaler.json").write_text('{"scaling_factor": 2.0}')
    with pytest.raises(ValueError, match="do not belong together"):
        formats.read(tmp_path)


def test_an_unset_threshold_can_be_assumed_or_the_sae_read_as_relu(tmp_path):
    path = folder(tmp_path, "batchtopk", {"topk_threshold": torch.tensor(0.0, dtype=torch.float64)}, k=K)
    latents = pre_acts() * (pre_acts() > 0.5)
    assert_computes(path, latents, latents @ W_DEC + B_DEC, assumed={"threshold": 0.5})
    latents = pre_acts().relu()
    assert_computes(path, latents, latents @ W_DEC + B_DEC, assumed={"variant": "ReLU"})


def test_reads_only_its_own(tmp_path):
    path = folder(tmp_path)
    assert saelens.reads(Place(path))
    assert saelens.reads(Place(path / "sae_weights.safetensors"))
    (path / "cfg.json").rename(path / "config.json")
    assert not saelens.reads(Place(path))


# What we write
# --------------------------------------------------------------------------------------------------------------------


def our_sae(variant, **settings):
    settings = {"apply_b_dec_to_input": True, "unit_norm_decoder": False, **settings}
    sae = getattr(saes, variant)(D_IN, d_sae=D_SAE, **settings)
    tensors = dict(TENSORS)
    if variant == "JumpReLU":
        tensors["threshold"] = THRESHOLD
    elif variant == "Gated":
        tensors |= {"r_mag": GATED["r_mag"], "b_mag": GATED["b_mag"]}
    elif variant != "ReLU" and variant != "TopK":
        tensors["threshold"] = torch.tensor(0.7)
    sae.load_state_dict(tensors, strict=False)
    return sae.eval()


WRITTEN = [
    ("ReLU", {}),
    ("ReLU", {"apply_b_dec_to_input": False, "input_norm": "layer_norm"}),
    ("TopK", {"k": K, "input_norm": "unit_norm"}),
    ("JumpReLU", {"apply_b_dec_to_input": False}),
    ("Gated", {}),
    ("BatchTopK", {"k": K}),
    ("MatryoshkaBatchTopK", {"k": K, "group_fractions": [0.25, 0.75]}),
]


@pytest.mark.parametrize(("variant", "settings"), WRITTEN)
def test_there_and_back_is_bit_equal(tmp_path, variant, settings):
    stored = to_stored(our_sae(variant, **settings))
    assert {path.name for path in saelens.write(stored, tmp_path)} == {"cfg.json", "sae_weights.safetensors"}
    back = formats.read(tmp_path)
    is_batch = variant in ("BatchTopK", "MatryoshkaBatchTopK")
    assert back.variant == ("JumpReLU" if is_batch else variant)
    assert back.folds == back.notes == ()
    for name, tensor in stored.tensors.items():
        assert torch.equal(back.tensors[name], tensor.expand_as(back.tensors[name]))
    for name in ("apply_b_dec_to_input", "input_norm"):
        assert back.settings[name] == stored.settings[name]
    if is_batch:
        assert (back.stated["trained_as"], back.stated["k"]) == (variant, K)
    with torch.no_grad():
        ours, theirs = from_stored(stored, "here")(X), from_stored(back, "here")(X)
    assert torch.equal(ours, theirs) or is_batch  # JumpReLU adds its threshold back, which rounds
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_says_what_is_known_of_the_model(tmp_path):
    stated = {"model": "gpt2", "hook": "transformer.h.8", "context_length": 64, "dataset": "books", "l0": 2.5}
    stored = to_stored(our_sae("ReLU"))
    saelens.write(stored.__class__(**{**vars(stored), "stated": stated}), tmp_path)
    assert formats.read(tmp_path).stated == {**stated, "layer": 8}
    metadata = json.loads((tmp_path / "cfg.json").read_text())["metadata"]
    assert metadata["sae_lens_version"] >= "6.0.0"
    assert metadata["model_class_name"] == "AutoModelForCausalLM"


def test_refuses_to_write_what_saelens_cannot_express(tmp_path):
    with pytest.raises(ValueError, match="input_norm=center"):
        saelens.write(to_stored(our_sae("ReLU", input_norm="center")), tmp_path)
    untrained = saes.BatchTopK(D_IN, d_sae=D_SAE, k=K)
    with pytest.raises(ValueError, match="no threshold yet"):
        saelens.write(to_stored(untrained), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("variant", "settings"), WRITTEN)
def test_saelens_reads_what_we_write(tmp_path, variant, settings):
    sae_lens = pytest.importorskip("sae_lens")
    sae = our_sae(variant, **settings)
    saelens.write(to_stored(sae), tmp_path)
    theirs = sae_lens.SAE.load_from_disk(tmp_path)
    with torch.no_grad():
        latents = theirs.encode(X)
        torch.testing.assert_close(latents, sae.encode(X).to_dense(), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(theirs.decode(latents), sae(X), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("activation", ["relu", "topk"])
def test_saelens_reads_old_files_as_we_do(tmp_path, activation):
    sae_lens = pytest.importorskip("sae_lens")
    said = {"hook_point": "blocks.2.hook_mlp_out", "hook_point_layer": 2, "model_name": "gemma-2b"}
    ones = {"scaling_factor": torch.ones(D_SAE)}
    old_folder(tmp_path, ones, activation_fn_str=activation, activation_fn_kwargs={"k": K}, **said)
    theirs = sae_lens.SAE.load_from_disk(tmp_path)
    with torch.no_grad():
        latents = theirs.encode(X)
        assert_computes(tmp_path, latents, theirs.decode(latents))
