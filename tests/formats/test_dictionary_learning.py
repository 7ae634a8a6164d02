"""SAEs of dictionary_learning: its seven classes by their equations, by files of its own code, and written back."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sae_lightning.formats import dictionary_learning, formats_in, read
from sae_lightning.saes import BatchTopK, Gated, JumpReLU, MatryoshkaBatchTopK, ReLU, SparseAutoencoder, TopK
from sae_lightning.saes.saving import to_stored

D, M, K = 5, 12, 3
FILES = Path(__file__).parent / "files/dictionary_learning"
NAMES = tuple(dictionary_learning.CLASSES)
BY_BATCH = ("BatchTopKSAE", "MatryoshkaBatchTopKSAE")


def grid(*shape):
    """Multiples of 1/8: sums of products are exact, so thresholds can be hit exactly."""
    return torch.randint(-8, 9, shape) / 8


def weights(name, draw=torch.randn):
    torch.manual_seed(0)
    if name in ("MatryoshkaBatchTopKSAE", "JumpReluAutoEncoder"):
        tensors = {"W_enc": draw(D, M), "W_dec": draw(M, D), "b_enc": draw(M), "b_dec": draw(D)}
    else:
        tensors = {"encoder.weight": draw(M, D), "decoder.weight": draw(D, M)}
    if name == "GatedAutoEncoder":
        tensors |= {"decoder_bias": draw(D), "r_mag": draw(M), "gate_bias": draw(M), "mag_bias": draw(M)}
    elif "encoder.weight" in tensors:
        bias = {"AutoEncoder": "bias", "AutoEncoderNew": "decoder.bias"}.get(name, "b_dec")
        tensors |= {"encoder.bias": draw(M), bias: draw(D)}
    if name in ("AutoEncoderTopK", *BY_BATCH):
        tensors |= {"k": torch.tensor(K, dtype=torch.int32), "threshold": torch.tensor(0.5)}
    if name == "MatryoshkaBatchTopKSAE":
        tensors["group_sizes"] = torch.tensor([2, 3, 7])
    if name == "JumpReluAutoEncoder":
        tensors["threshold"] = draw(M).abs()
    return tensors


def pre_acts(name, t, x, jump_subtracts=False):
    if name == "AutoEncoder":
        return (x - t["bias"]) @ t["encoder.weight"].T + t["encoder.bias"]
    if name == "AutoEncoderNew":
        return x @ t["encoder.weight"].T + t["encoder.bias"]
    if name == "GatedAutoEncoder":
        return (x - t["decoder_bias"]) @ t["encoder.weight"].T
    if name in ("AutoEncoderTopK", "BatchTopKSAE"):
        return (x - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"]
    return (x - t["b_dec"] if name in BY_BATCH or jump_subtracts else x) @ t["W_enc"] + t["b_enc"]


def equation(name, t, x, **options):
    """Return latents and reconstruction as dictionary_learning defines them."""
    pre = pre_acts(name, t, x, **options)
    if name in ("AutoEncoder", "AutoEncoderNew"):
        latents = pre.relu()
    elif name == "GatedAutoEncoder":
        latents = (pre + t["gate_bias"] > 0) * (t["r_mag"].exp() * pre + t["mag_bias"]).relu()
    elif name == "AutoEncoderTopK":
        top = pre.relu().topk(int(t["k"]))
        latents = torch.zeros_like(pre).scatter(1, top.indices, top.values)
    elif name in BY_BATCH:
        latents = pre.relu() * (pre.relu() > t["threshold"])
    else:
        latents = (pre * (pre > t["threshold"])).relu()
    W_dec = t["W_dec"] if "W_dec" in t else t["decoder.weight"].T
    b_dec = t[next(key for key in ("bias", "decoder.bias", "decoder_bias", "b_dec") if key in t)]
    return latents, latents @ W_dec + b_dec


def config_of(name, **trainer):
    said = {"trainer_class": "T", "dict_class": name, "activation_dim": D, "dict_size": M, "lr": 1e-3, "steps": 100}
    said |= {"seed": 7, "layer": 4, "lm_name": "tiny", "submodule_name": "resid_post_layer_4"}
    buffer = {"d_submodule": D, "io": "out", "ctx_len": 128, "out_batch_size": 32}
    return {"trainer": said | ({"k": K} if "TopK" in name else {}) | trainer, "buffer": buffer}


def save(folder, content, config=None, file="ae.pt"):
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, folder / file)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def assert_computes(sae, x, latents, reconstruction, within=1e-5):
    code = sae.encode(x)
    torch.testing.assert_close(code.to_dense(), latents, atol=within, rtol=within)
    torch.testing.assert_close(sae.decode(code), reconstruction, atol=within, rtol=within)


# Reading
# --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("has_config", [True, False])
def test_each_class_computes_what_its_equation_says(tmp_path, name, has_config):
    tensors = weights(name)
    save(tmp_path, tensors, config_of(name) if has_config else None)
    ambiguous = not has_config and name in ("AutoEncoderTopK", "BatchTopKSAE")
    assumed = {"variant": dictionary_learning.CLASSES[name].variant} if ambiguous else {}
    sae = SparseAutoencoder.load(tmp_path, assumed)
    assert type(sae).__name__ == dictionary_learning.CLASSES[name].variant
    assert sae.provenance["imported"].get("assumed", {}) == assumed
    x = 2 * torch.randn(40, D)
    assert_computes(sae, x, *equation(name, tensors, x))


@pytest.mark.parametrize("name", [*BY_BATCH, "JumpReluAutoEncoder"])
def test_a_pre_activation_at_the_threshold_is_not_active(tmp_path, name):
    tensors, x = weights(name, grid), grid(40, D)
    pre = pre_acts(name, tensors, x)
    hit = pre[0].amax() if name in BY_BATCH else pre[0].relu()
    tensors["threshold"] = hit
    sae = SparseAutoencoder.load(save(tmp_path, tensors, config_of(name)))
    latents, reconstruction = equation(name, tensors, x)
    assert not latents[0].any()
    assert latents.any()
    assert_computes(sae, x, latents, reconstruction, within=0)


@pytest.mark.parametrize("folder", sorted(FILES.iterdir()), ids=lambda folder: folder.name)
def test_files_of_its_own_code_compute_what_it_computes(folder):
    expected = load_file(folder / "expected.safetensors")
    sae = SparseAutoencoder.load(folder / "ae.pt")
    assert_computes(sae, expected["x"], expected["latents"], expected["reconstruction"])
    imported = sae.provenance["imported"]
    assert (imported["stated"]["model"], imported["stated"]["learning_rate"]) == ("tiny", 0.01)
    assert any("unit norm" in note for note in imported.get("notes", [])) == (folder.name == "AutoEncoder_april")


def test_the_trainer_states_what_it_trained_on(tmp_path):
    save(tmp_path, weights("BatchTopKSAE"), config_of("BatchTopKSAE"))
    assert read(tmp_path).stated == {
        "learning_rate": 1e-3,
        "seed": 7,
        "layer": 4,
        "model": "tiny",
        "hook": "resid_post_layer_4",
        "context_length": 128,
        "batch_size": 32,
        "tokens": 3200,
        "k": K,
    }


def test_a_checkpoint_takes_the_configuration_above_it(tmp_path):
    save(tmp_path, weights("AutoEncoderTopK"), config_of("AutoEncoderTopK"))
    checkpoints = save(tmp_path / "checkpoints", weights("AutoEncoderTopK"), file="ae_20.pt")
    for where in (checkpoints, checkpoints / "ae_20.pt"):
        assert (read(where).variant, read(where).stated["tokens"]) == ("TopK", 640)
    save(checkpoints, weights("AutoEncoderTopK"), file="ae_40.pt")
    with pytest.raises(ValueError, match="several steps of its training: name one of ae_20.pt, ae_40.pt"):
        read(checkpoints)


def test_a_folder_of_trainers_is_not_an_sae(tmp_path):
    for i in range(2):
        save(tmp_path / f"resid_post_layer_4/trainer_{i}", weights("AutoEncoder"), config_of("AutoEncoder"))
    with pytest.raises(ValueError, match="its folders do: .*trainer_0.*trainer_1"):
        read(tmp_path)
    assert read(tmp_path / "resid_post_layer_4/trainer_1").variant == "ReLU"


def test_a_file_of_another_name_is_read_where_its_tensors_or_the_trainer_tell(tmp_path):
    save(tmp_path / "a", weights("GatedAutoEncoder"), file="best.pt")
    assert read(tmp_path / "a/best.pt").variant == "Gated"
    save(tmp_path / "b", weights("AutoEncoderNew"), config_of("AutoEncoderNew"), file="best.pt")
    assert read(tmp_path / "b").settings == {"apply_b_dec_to_input": False}
    for name in ("AutoEncoderNew", "JumpReluAutoEncoder"):  # tensors that other programs have as well
        save(tmp_path / "c", weights(name), file="best.pt")
        assert formats_in(tmp_path / "c/best.pt") == []


# Thresholds, k and b_dec
# --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BY_BATCH)
@pytest.mark.parametrize("unset", [-1.0, 0.0, math.nan])
def test_a_threshold_that_was_never_set_is_refused_or_assumed(tmp_path, name, unset):
    tensors = weights(name) | {"threshold": torch.tensor(unset)}
    save(tmp_path, tensors, config_of(name))
    with pytest.raises(
        ValueError, match="has no threshold, .*threshold=0.5, or variant=ReLU, which is what dictionary"
    ):
        read(tmp_path)
    x = torch.randn(20, D)
    given = SparseAutoencoder.load(tmp_path, {"threshold": 0.25})
    assert_computes(given, x, *equation(name, tensors | {"threshold": torch.tensor(0.25)}, x))
    rectified = SparseAutoencoder.load(tmp_path, {"variant": "ReLU"})
    assert rectified.provenance["imported"]["stated"]["trained_as"] == dictionary_learning.CLASSES[name].variant
    assert_computes(rectified, x, *equation(name, tensors | {"threshold": torch.tensor(-1.0)}, x))


def test_a_threshold_that_the_file_has_cannot_be_assumed_away(tmp_path):
    save(tmp_path, weights("BatchTopKSAE"), config_of("BatchTopKSAE"))
    for assumed in ({"threshold": 1.0}, {"variant": "ReLU"}):
        with pytest.raises(ValueError, match="cannot be assumed"):
            read(tmp_path, assumed)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match="variant cannot be assumed"):
        read(tmp_path, {"variant": "ReLU"})


def test_topk_and_batch_topk_look_the_same_without_a_configuration(tmp_path):
    save(tmp_path, weights("AutoEncoderTopK"))
    with pytest.raises(ValueError, match="AutoEncoderTopK or BatchTopKSAE.*assume variant=TopK or variant=BatchTopK"):
        read(tmp_path)


def test_older_files_have_no_k_and_no_threshold(tmp_path):
    tensors = weights("AutoEncoderTopK")
    del tensors["k"], tensors["threshold"]
    config = config_of("AutoEncoderTopK")
    assert read(save(tmp_path, tensors, config)).settings["k"] == K
    del config["trainer"]["k"]
    with pytest.raises(ValueError, match="needs k, and neither weights nor config.json say it: assume k=32"):
        read(save(tmp_path, tensors, config))
    stored = read(tmp_path, {"k": 2})
    assert (stored.settings["k"], stored.assumed) == (2, {"k": 2})


@pytest.mark.parametrize("subtracts", [False, True])
def test_jump_relu_does_not_say_whether_it_subtracts_b_dec(tmp_path, subtracts):
    tensors = weights("JumpReluAutoEncoder")
    tensors["threshold"][:3] = -0.5
    save(tmp_path, tensors, config_of("JumpReluAutoEncoder"))
    sae = SparseAutoencoder.load(tmp_path, {"apply_b_dec_to_input": True} if subtracts else {})
    x = torch.randn(40, D)
    assert_computes(sae, x, *equation("JumpReluAutoEncoder", tensors, x, jump_subtracts=subtracts))
    imported = sae.provenance["imported"]
    assert imported["folds"] == ["3 thresholds below 0 became 0, the same since latents are rectified"]
    assert ("notes" in imported) != subtracts


# Nested files
# --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_backup_of_a_running_training_takes_raw_activations(tmp_path, name):
    tensors, c = weights(name), 3.0
    trainer = config_of(name)["trainer"]
    backup = {"step": 10, "ae": tensors, "optimizer": {"state": {}}, "config": trainer, "norm_factor": c}
    sae = SparseAutoencoder.load(save(tmp_path, backup))
    x = 3 * torch.randn(40, D)
    latents, reconstruction = equation(name, tensors, x / c)
    assert_computes(sae, x, c * latents, c * reconstruction, within=2e-5)
    imported = sae.provenance["imported"]
    assert "norm_factor=3" in imported["folds"][0]
    assert imported["stated"]["input_scale"] == 1 / c


@pytest.mark.parametrize("factor", [{}, {"norm_factor": None}])
def test_a_backup_without_a_norm_factor_is_as_it_is(tmp_path, factor):
    tensors, x = weights("AutoEncoder"), torch.randn(20, D)
    save(tmp_path, {"step": 10, "ae": tensors, "optimizer": {}, **factor}, config_of("AutoEncoder"))
    assert read(tmp_path).folds == ()
    assert read(tmp_path).stated["tokens"] == 320
    assert_computes(SparseAutoencoder.load(tmp_path), x, *equation("AutoEncoder", tensors, x))


@pytest.mark.parametrize("name", NAMES)
def test_a_mean_that_was_subtracted_outside_goes_into_the_biases(tmp_path, name):
    tensors, mean = weights(name), 5 * torch.randn(D)
    cfg = {"dict_class": name, "activation_dim": D, "lr": 0.1}
    sae = SparseAutoencoder.load(save(tmp_path, {"state_dict": tensors, "cfg": cfg, "act_mean": mean, "loss": 0.1}))
    x = torch.randn(40, D) + mean
    latents, reconstruction = equation(name, tensors, x - mean)
    assert_computes(sae, x, latents, reconstruction + mean, within=2e-5)
    imported = sae.provenance["imported"]
    assert "act_mean" in imported["folds"][-1]
    assert imported["stated"]["learning_rate"] == 0.1


@pytest.mark.parametrize("beside", [{"act_scale": 2.0}, {"norm_factor": 3.0}, {"whitening": torch.eye(D)}])
def test_what_may_change_the_input_is_not_left_out(tmp_path, beside):
    save(tmp_path, {"state_dict": weights("AutoEncoder"), "cfg": {}, **beside})
    with pytest.raises(
        ValueError, match=f"has {next(iter(beside))} beside the weights, and does not say how they enter"
    ):
        read(tmp_path)


# Refused
# --------------------------------------------------------------------------------------------------------------------


def missing(t):
    del t["encoder.bias"]


def unknown(t):
    t["W_skip"] = torch.eye(D)


def swapped(t):
    t["encoder.weight"] = t["encoder.weight"].T


def third_axis(t):
    t["encoder.weight"], t["decoder.weight"] = torch.randn(2, M, D), torch.randn(2, D, M)


@pytest.mark.parametrize(
    ("change", "trainer", "buffer", "expected"),
    [
        (missing, {}, {}, "lacks encoder.bias"),
        (unknown, {}, {}, "has W_skip, which this format does not know"),
        (swapped, {}, {}, "encoder.weight has the shape .*its axes are swapped"),
        (third_axis, {}, {}, "crosscoder"),
        (None, {"k": 4}, {}, "configuration says k=4 and the weights k=3"),
        (None, {"dict_size": 24}, {}, "configuration says d_sae=24 and the weights 12"),
        (None, {"dict_class": "GatedAutoEncoder"}, {}, "dict_class=GatedAutoEncoder.* are those of AutoEncoderTopK"),
        (None, {"dict_class": "BatchTopKCrossCoder"}, {}, "BatchTopKCrossCoder of dictionary_learning: .* no variant"),
        (None, {}, {"d_submodule": 10}, "crosscoder or of a fork .activation_dim=5, d_submodule=10"),
        (None, {}, {"io": "in_and_out"}, "transcoder"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, trainer, buffer, expected):
    tensors, config = weights("AutoEncoderTopK"), config_of("AutoEncoderTopK", **trainer)
    config["buffer"] |= buffer
    if change:
        change(tensors)
    save(tmp_path, tensors, config)
    with pytest.raises(ValueError, match=expected):
        read(tmp_path)


def test_unknown_tensors_without_a_configuration_are_named(tmp_path):
    with pytest.raises(ValueError, match="ae.pt has encoder.weight: expected the tensors of one of AutoEncoder, "):
        read(save(tmp_path, {"encoder.weight": torch.randn(M, D)}))


def test_groups_have_to_fit(tmp_path):
    tensors = weights("MatryoshkaBatchTopKSAE") | {"group_sizes": torch.tensor([2, 3])}
    with pytest.raises(ValueError, match=r"group_sizes=\[2, 3\], expected sizes .* sum d_sae=12"):
        read(save(tmp_path, tensors))


# Writing
# --------------------------------------------------------------------------------------------------------------------

OURS = {
    "ReLU": (ReLU, {}),
    "TopK": (TopK, {"k": K}),
    "BatchTopK": (BatchTopK, {"k": K}),
    "MatryoshkaBatchTopK": (MatryoshkaBatchTopK, {"k": K, "group_fractions": [0.2, 0.3, 0.5]}),
    "Gated": (Gated, {}),
    "JumpReLU": (JumpReLU, {"scale_input": False}),
}


def ours(variant, subtracts):
    torch.manual_seed(1)
    kind, options = OURS[variant]
    sae = kind(D, d_sae=M, apply_b_dec_to_input=subtracts, **options)
    sae.initialise(0, torch.randn(100, D))
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            if name not in ("W_dec", "W_enc"):
                parameter.copy_(torch.randn_like(parameter) if name != "threshold" else torch.rand(M) + 0.1)
        if "BatchTopK" in variant:
            sae.threshold.fill_(0.3)
    return sae.eval()


@pytest.mark.parametrize("subtracts", [True, False])
@pytest.mark.parametrize("variant", OURS)
def test_what_is_written_is_read_again(tmp_path, variant, subtracts):
    sae = ours(variant, subtracts)
    paths = dictionary_learning.write(to_stored(sae), tmp_path / "out")
    assert [path.name for path in paths] == ["ae.pt", "config.json"]
    again = SparseAutoencoder.load(tmp_path / "out")
    assert type(again) is type(sae)
    x = torch.randn(40, D)
    code = sae.encode(x)
    folds = json.loads(paths[1].read_text())["sae_lightning"]["folds"]
    if variant == "ReLU" or subtracts == (variant != "JumpReLU"):
        assert folds == []
        assert_computes(again, x, code.to_dense(), sae.decode(code), within=0)
        mine, theirs = to_stored(sae).tensors, to_stored(again).tensors
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    else:
        assert "= b_dec @ W_enc" in folds[0]
        assert_computes(again, x, code.to_dense(), sae.decode(code))
    if variant == "MatryoshkaBatchTopK":
        assert again.group_ends == sae.group_ends


def test_what_it_cannot_express_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="input_norm=layer_norm"):
        dictionary_learning.write(to_stored(TopK(D, d_sae=M, k=K, input_norm="layer_norm")), tmp_path)
    with pytest.raises(ValueError, match="threshold nan, and dictionary_learning needs one above 0"):
        dictionary_learning.write(to_stored(BatchTopK(D, d_sae=M, k=K)), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("subtracts", [True, False])
@pytest.mark.parametrize("variant", OURS)
def test_dictionary_learning_computes_the_same_with_what_is_written(tmp_path, variant, subtracts):
    utils = pytest.importorskip("dictionary_learning.utils")
    sae = ours(variant, subtracts)
    dictionary_learning.write(to_stored(sae), tmp_path)
    theirs, _ = utils.load_dictionary(str(tmp_path), "cpu")
    x = torch.randn(40, D)
    with torch.no_grad():
        latents = theirs.encode(x)
        assert_computes(sae, x, latents, theirs.decode(latents))
