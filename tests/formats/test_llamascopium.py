"""Llamascopium: its equation, written out, against the SAE that is read."""

import json
import math

import pytest
import torch
from safetensors.torch import save_file

from sae_lightning import formats
from sae_lightning.saes import MatryoshkaBatchTopK, SparseAutoencoder

D_IN, D_SAE, NORM, HOOK = 5, 12, 8.0, "blocks.3.hook_resid_post"
CONFIG = {
    "sae_type": "sae",
    "d_model": D_IN,
    "expansion_factor": 2.4,
    "act_fn": "jumprelu",
    "norm_activation": "dataset-wise",
    "sparsity_include_decoder_norm": True,
    "use_decoder_bias": True,
    "use_glu_encoder": False,
    "hook_point_in": HOOK,
    "hook_point_out": HOOK,
    "top_k": 3,
}
LOG = "activation_function.log_jumprelu_threshold"
OLD = {"W_E": "encoder.weight", "b_E": "encoder.bias", "W_D": "decoder.weight", "b_D": "decoder.bias"}


def tensors(**changes):
    draw = torch.Generator().manual_seed(0)
    shapes = {"W_E": (D_IN, D_SAE), "b_E": (D_SAE,), "W_D": (D_SAE, D_IN), "b_D": (D_IN,)}
    own = {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}
    if (CONFIG | changes)["act_fn"] == "jumprelu":
        own[LOG] = 0.5 * torch.randn(D_SAE, generator=draw)
    return {**own, f"dataset_average_activation_norm.{HOOK}": torch.tensor(NORM)}


def saved(folder, own=None, suffix=".safetensors", **changes):
    own = tensors(**changes) if own is None else own
    if suffix == ".pt":
        torch.save({"sae": own, "version": "0.1"}, folder / "sae_weights.pt")
    else:
        save_file(own, folder / "sae_weights.safetensors", {"version": "0.1"})
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    return folder


def by_equation(x, own, config, threshold=None):
    """Normalise, encode, decode, and undo the norm, as the library does one after the other."""
    kind = config["norm_activation"]
    scale = math.sqrt(D_IN) / (x.norm(dim=1, keepdim=True) if kind == "token-wise" else NORM)
    scale = 1.0 if kind == "inference" else scale
    pre = (x * scale) @ own["W_E"] + own["b_E"]
    norms = own["W_D"].norm(dim=1) if config["sparsity_include_decoder_norm"] else torch.ones(D_SAE)
    seen = pre * norms
    if config["act_fn"] == "jumprelu":
        seen = seen * (seen > own[LOG].exp())
    elif config["act_fn"] == "topk":
        chosen = seen.relu().topk(config["top_k"], dim=1)
        seen = torch.zeros_like(seen).scatter(1, chosen.indices, chosen.values)
    else:
        seen = seen * (seen > (threshold or 0.0))
    latents = seen / norms
    return latents, (latents @ own["W_D"] + own["b_D"]) / scale


def check(sae, x, latents, reconstruction):
    code = sae.encode(x)
    torch.testing.assert_close(code.to_dense(), latents, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sae(x), reconstruction, rtol=1e-5, atol=1e-5)


@pytest.fixture
def x():
    return 4 * torch.randn(64, D_IN, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("norm", ["dataset-wise", "token-wise", "inference"])
@pytest.mark.parametrize("with_norms", [False, True])
@pytest.mark.parametrize("activation", ["jumprelu", "topk", "relu"])
@torch.no_grad()
def test_equation(tmp_path, x, activation, with_norms, norm, suffix):
    changes = {"act_fn": activation, "sparsity_include_decoder_norm": with_norms, "norm_activation": norm}
    own = tensors(**changes)
    latents, reconstruction = by_equation(x, own, CONFIG | changes)
    assert 0 < (latents > 0).float().mean() < 1
    if activation == "topk" and with_norms:
        latents = latents * own["W_D"].norm(dim=1)
    sae = SparseAutoencoder.load(saved(tmp_path, suffix=suffix, **changes))
    check(sae, x, latents, reconstruction)
    assert (sae.input_norm == "unit_norm") == (norm == "token-wise")


@torch.no_grad()
def test_a_pre_activation_at_the_threshold_is_off(tmp_path):
    own = {name: torch.zeros_like(value) for name, value in tensors().items()}
    own["b_E"] += torch.tensor([0.125, 0.5, 1.0] * 4)
    own["W_D"][:, 0] = 2.0  # times 0.5 is 1, the exp of 0
    sae = SparseAutoencoder.load(saved(tmp_path, own, norm_activation="inference"))
    assert sae.encode(torch.zeros(1, D_IN)).to_dense().tolist() == [[0.0, 0.0, 1.0] * 4]


@torch.no_grad()
def test_a_decoder_row_of_zeros_stays_silent(tmp_path, x):
    own = tensors()
    own["W_D"][4] = 0.0
    sae = SparseAutoencoder.load(saved(tmp_path, own))
    assert not sae.encode(x).to_dense()[:, 4].any()
    sae.save(tmp_path / "ours")
    own = tensors(act_fn="topk")
    own["W_D"][4] = 0.0
    assert SparseAutoencoder.load(saved(tmp_path, own, act_fn="topk")).W_dec.isfinite().all()


@pytest.mark.parametrize("kind", ["sae", "matryoshka_sae"])
@torch.no_grad()
def test_batch_top_k_needs_a_threshold(tmp_path, x, kind):
    changes = {"act_fn": "batchtopk", "sae_type": kind, "matryoshka_widths": [3, 6]}
    saved(tmp_path, **changes)
    with pytest.raises(ValueError, match=r"has no threshold, .* assume one, as threshold=0\.5"):
        formats.read(tmp_path)
    sae = SparseAutoencoder.load(tmp_path, {"threshold": 0.4})
    own = tensors(**changes)
    latents, reconstruction = by_equation(x, own, CONFIG | changes, threshold=0.4)
    check(sae, x, latents * own["W_D"].norm(dim=1), reconstruction)
    assert sae.provenance["imported"]["assumed"] == {"threshold": 0.4}
    if kind == "matryoshka_sae":
        assert isinstance(sae, MatryoshkaBatchTopK)
        assert sae.group_ends == [3, 6, 12]


@torch.no_grad()
def test_a_matryoshka_sae_without_a_batch_is_what_its_activation_is(tmp_path, x):
    stored = formats.read(saved(tmp_path, sae_type="matryoshka_sae", matryoshka_widths=[3, 12]))
    assert (stored.variant, stored.stated["trained_as"]) == ("JumpReLU", "matryoshka_sae")
    check(SparseAutoencoder.load(tmp_path), x, *by_equation(x, tensors(), CONFIG))


@torch.no_grad()
def test_older_names(tmp_path, x):
    """Releases of lm_saes name tensors as torch.nn.Linear does, and the threshold without its module."""
    own = tensors()
    old = {OLD.get(name, name.removeprefix("activation_function.")): value for name, value in own.items()}
    old |= {name: old[name].T.contiguous() for name in ("encoder.weight", "decoder.weight")}
    config = {name: value for name, value in CONFIG.items() if name != "sae_type"}
    saved(tmp_path, old)
    (tmp_path / "config.json").write_text(json.dumps(config))
    check(SparseAutoencoder.load(tmp_path), x, *by_equation(x, own, CONFIG))


def test_what_is_stated_and_named(tmp_path):
    stored = formats.read(saved(tmp_path))
    scale = pytest.approx(math.sqrt(D_IN) / NORM)
    assert stored.stated == {"hook": HOOK, "layer": 3, "input_scale": scale}
    assert (stored.version, stored.settings) == ("0.1", {"apply_b_dec_to_input": False})
    assert len(stored.folds) == 2
    top_k = formats.read(saved(tmp_path, act_fn="topk"))
    assert "a latent is its decoder norm times that of the file" in top_k.folds[0]
    assert top_k.stated["k"] == 3
    assert formats.read(saved(tmp_path, act_fn="relu", norm_activation="inference")).folds == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sae_type": "clt"}, r"cross-layer transcoder \(CLT\): this library has no variant"),
        ({"sae_type": "crosscoder"}, "is a crosscoder"),
        ({"sae_type": "lorsa"}, "is a Lorsa"),
        ({"sae_type": "molt"}, "is a MOLT"),
        ({"use_glu_encoder": True}, "GLU encoder"),
        ({"act_fn": "layertopk"}, "act_fn layertopk"),
        ({"norm_activation": "batch-wise"}, "norm_activation batch-wise: expected dataset-wise, token-wise"),
        ({"d_model": "five"}, "d_model='five', expected a whole number"),
        ({"expansion_factor": 2}, "d_sae=10 and the weights 12"),
        ({"act_fn": "topk", "top_k": None}, "top_k=None"),
    ],
)
def test_refused(tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        formats.read(saved(tmp_path, **changes))


def test_wrong_tensors(tmp_path):
    own = tensors()
    norm = f"dataset_average_activation_norm.{HOOK}"
    for value in (None, torch.tensor(float("nan"))):
        changed = {name: tensor for name, tensor in own.items() if name != norm} | ({norm: value} if value else {})
        with pytest.raises(ValueError, match="normalises by the whole data .* fold_activation_scale=True"):
            formats.read(saved(tmp_path, changed))
    with pytest.raises(ValueError, match=r"lacks activation_function\.log_jumprelu_threshold"):
        formats.read(saved(tmp_path, {name: tensor for name, tensor in own.items() if name != LOG}))
    with pytest.raises(ValueError, match=r"W_E has the shape \[12, 5\], .* axes are swapped"):
        formats.read(saved(tmp_path, {**own, "W_E": own["W_E"].T.contiguous()}))
    with pytest.raises(ValueError, match="lacks b_D"):
        formats.read(saved(tmp_path, {name: tensor for name, tensor in own.items() if name != "b_D"}))
