"""saev: its equation, written out, against the SAE that is read, for every schema."""

import json
import pickle

import pytest
import torch

from sae_lightning import formats
from sae_lightning.saes import SparseAutoencoder

D_IN, D_SAE = 5, 12
SIZES = {"d_model": D_IN, "d_sae": D_SAE}
OLD_SIZES = {"d_vit": 4, "exp_factor": 3}


def tensors(d_in=D_IN, **more):
    draw = torch.Generator().manual_seed(0)
    shapes = {"W_enc": (d_in, D_SAE), "b_enc": (D_SAE,), "W_dec": (D_SAE, d_in), "b_dec": (d_in,)}
    return {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()} | more


def saved(folder, header, own=None):
    with (folder / "sae.pt").open("wb") as file:
        file.write((json.dumps(header) + "\n").encode())
        torch.save(tensors() if own is None else own, file)
    return folder


def header(name, schema=5, **parameters):
    return {"schema": schema, "cfg": {**SIZES, "activation": {"cls": name, "params": parameters}}, "lib": "0.3"}


def check(sae, act, d_in=D_IN):
    """Compare with pre = x W_enc + b_enc, b_dec not subtracted."""
    own = tensors(d_in)
    x = torch.randn(64, d_in, generator=torch.Generator().manual_seed(1))
    latents = act(x @ own["W_enc"] + own["b_enc"])
    assert 0 < (latents > 0).float().mean() < 1
    code = sae.encode(x)
    torch.testing.assert_close(code.to_dense(), latents, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sae.decode(code), latents @ own["W_dec"] + own["b_dec"], rtol=1e-5, atol=1e-5)


def top_k(pre, k=3):
    chosen = pre.topk(k, dim=1)
    return torch.zeros_like(pre).scatter(1, chosen.indices, chosen.values).relu()


@pytest.mark.parametrize("schema", [2, 3, 4, 5])
@torch.no_grad()
def test_equation(tmp_path, schema):
    sparsity = {"cls": "L1Sparsity", "params": {"coeff": 4e-4}} if schema == 5 else {"coeff": 4e-4}
    relu = saved(tmp_path, header("Relu", schema, sparsity=sparsity))
    check(SparseAutoencoder.load(relu), torch.relu)
    assert formats.read(relu).stated == {"l1_coefficient": 4e-4}
    check(SparseAutoencoder.load(saved(tmp_path, header("TopK", schema, top_k=3))), top_k)
    with_threshold = tensors(**{"activation.threshold": torch.tensor(0.5)})
    sae = SparseAutoencoder.load(saved(tmp_path, header("BatchTopK", schema, top_k=3), with_threshold))
    check(sae, lambda pre: pre * (pre > 0.5))
    assert (sae.k, sae.provenance["imported"]["version"]) == (3, "0.3")


@torch.no_grad()
def test_older_schemas(tmp_path):
    old = tensors(4)
    check(SparseAutoencoder.load(saved(tmp_path, {**OLD_SIZES, "l1_coeff": 1e-3, "seed": 2}, old)), torch.relu, 4)
    assert formats.read(tmp_path).stated == {"seed": 2, "l1_coefficient": 1e-3}
    first = {"schema": 1, "cls": "TopK", "cfg": {**OLD_SIZES, "top_k": 3}}
    check(SparseAutoencoder.load(saved(tmp_path, first, old)), top_k, 4)
    activation = {"cls": "TopK", "params": {"top_k": 3}}
    second = {"schema": 1, "cls": "SparseAutoencoderConfig", "cfg": {**OLD_SIZES, "activation": activation}}
    check(SparseAutoencoder.load(saved(tmp_path, second, old)), top_k, 4)
    assert formats.read(saved(tmp_path, {**first, "cfg": OLD_SIZES}, old)).settings["k"] == 32, "its default"


@torch.no_grad()
def test_a_pre_activation_at_the_threshold_is_off(tmp_path):
    own = {name: torch.zeros_like(value) for name, value in tensors().items()}
    own["b_enc"] += torch.tensor([0.25, 0.5, 1.0] * 4)
    own["activation.threshold"] = torch.tensor(0.5)
    sae = SparseAutoencoder.load(saved(tmp_path, header("BatchTopK", top_k=3), own))
    assert sae.encode(torch.zeros(1, D_IN)).to_dense().tolist() == [[0.0, 0.0, 1.0] * 4]


@torch.no_grad()
def test_a_threshold_that_was_never_set(tmp_path):
    saved(tmp_path, header("BatchTopK", top_k=3), tensors(**{"activation.threshold": torch.tensor(0.0)}))
    with pytest.raises(ValueError, match="never set one .* assume threshold=VALUE, or variant=ReLU"):
        formats.read(tmp_path)
    check(SparseAutoencoder.load(tmp_path, {"variant": "ReLU"}), torch.relu)
    check(SparseAutoencoder.load(tmp_path, {"threshold": 0.25}), lambda pre: pre * (pre > 0.25))
    saved(tmp_path, header("BatchTopK", schema=2, top_k=3))
    with pytest.raises(ValueError, match=r"no activation\.threshold: .* assume threshold=VALUE, or variant=TopK"):
        formats.read(tmp_path)
    check(SparseAutoencoder.load(tmp_path, {"variant": "TopK"}), top_k)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": 6}, "has schema 6 of saev: expected 1 to 5"),
        ({"cfg": {**SIZES, "activation": {"cls": "Gelu"}}}, "the activation Gelu"),
        ({"cfg": SIZES}, "the activation None"),
        ({"cfg": {**header("Relu")["cfg"], "d_sae": 13}}, "d_sae=13 and the weights 12"),
    ],
)
def test_refused(tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        formats.read(saved(tmp_path, header("Relu") | changes))


def test_wrong_tensors(tmp_path):
    own = tensors()
    with pytest.raises(ValueError, match=r"W_enc has the shape \[12, 5\], .* axes are swapped"):
        formats.read(saved(tmp_path, header("Relu"), {**own, "W_enc": own["W_enc"].T}))
    with pytest.raises(ValueError, match="has more, which this format does not know"):
        formats.read(saved(tmp_path, header("Relu"), {**own, "more": own["b_enc"]}))
    with pytest.raises(ValueError, match="lacks b_dec"):
        formats.read(saved(tmp_path, header("Relu"), {name: own[name] for name in own if name != "b_dec"}))


class _Runs:
    def __reduce__(self):
        return print, ("this ran",)


def test_damaged_or_dangerous(tmp_path, capsys):
    file = saved(tmp_path, header("Relu")) / "sae.pt"
    whole = file.read_bytes()
    file.write_bytes(whole[:-200])
    with pytest.raises(ValueError, match="damaged, cut off"):
        formats.read(tmp_path)
    line = whole.split(b"\n")[0]
    file.write_bytes(line + b"\n" + pickle.dumps({"W_enc": _Runs()}, protocol=2))
    with pytest.raises(ValueError, match="reading that would run code"):
        formats.read(tmp_path)
    assert "this ran" not in capsys.readouterr().out
    file.write_bytes(line[:40] + b"\n" + whole[len(line) + 1 :])
    with pytest.raises(ValueError, match="begins with a line of JSON that is damaged"):
        formats.read(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/sae.pt").write_bytes(b'{"a": 1}\n' + whole[len(line) + 1 :])
    with pytest.raises(ValueError, match="holds no SAE in a format that is known"):
        formats.read(tmp_path / "other")
