"""Which format a place is of; plain files; files that are damaged or mean harm."""

import json
import pickle
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sae_lightning.formats.taking import take
from sae_lightning.formats.weight_files import read_weights
from sae_lightning.saes import SparseAutoencoder, TopK

D_IN, D_SAE = 5, 12


def tensors(seed=0):
    draw = torch.Generator().manual_seed(seed)
    shapes = {"W_enc": (D_IN, D_SAE), "W_dec": (D_SAE, D_IN), "b_enc": (D_SAE,), "b_dec": (D_IN,)}
    return {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}


def x(n=64):
    return torch.randn(n, D_IN, generator=torch.Generator().manual_seed(1))


def by_hand(t, variant, subtracts, k=3, threshold=0.5):
    pre = (x() - t["b_dec"] if subtracts else x()) @ t["W_enc"] + t["b_enc"]
    latents = pre.relu()
    if variant == "TopK":
        latents = torch.zeros_like(pre).scatter(1, pre.topk(k).indices, pre.topk(k).values.relu())
    if variant in ("BatchTopK", "JumpReLU"):
        latents = latents * (pre > threshold)
    return latents, latents @ t["W_dec"] + t["b_dec"]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("subtracts", [False, True])
@pytest.mark.parametrize("variant", ["ReLU", "TopK", "BatchTopK", "JumpReLU"])
def test_a_plain_file_is_what_the_user_says(tmp_path, variant, subtracts, transposed):
    t = tensors()
    turned = {name: w.T.contiguous() if transposed and w.dim() == 2 else w for name, w in t.items()}
    torch.save(turned, tmp_path / "sae.pt")
    needed = {"TopK": {"k": 3}, "BatchTopK": {"k": 3, "threshold": 0.5}, "JumpReLU": {"threshold": 0.5}}
    assumed = {"variant": variant, "apply_b_dec_to_input": subtracts} | needed.get(variant, {})
    sae = SparseAutoencoder.load(tmp_path, assumed)
    latents, x_hat = by_hand(t, variant, subtracts)
    torch.testing.assert_close(sae.encode(x()).to_dense(), latents, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(sae(x()), x_hat, atol=1e-5, rtol=1e-5)
    assert type(sae).__name__ == variant
    assert sae.provenance["imported"]["assumed"] == assumed
    assert not sae.unit_norm_decoder


def test_an_imported_sae_is_saved_as_ours_with_where_it_came_from(tmp_path):
    torch.save(tensors(), tmp_path / "sae.pt")
    sae = SparseAutoencoder.load(tmp_path / "sae.pt", {"variant": "TopK", "apply_b_dec_to_input": True, "k": 3})
    sae.save(tmp_path / "ours")
    again = SparseAutoencoder.load(tmp_path / "ours")
    assert torch.equal(again(x()), sae(x()))
    assert again.provenance["imported"]["format"] == "plain"


@pytest.mark.parametrize(
    ("assumed", "message"),
    [
        ({}, "assume variant and apply_b_dec_to_input"),
        ({"variant": "TopK", "apply_b_dec_to_input": True}, "TopK needs k"),
        ({"variant": "JumpReLU", "apply_b_dec_to_input": True}, "JumpReLU needs a threshold"),
        ({"variant": "Gated", "apply_b_dec_to_input": True}, "variant=Gated: expected one of"),
        ({"variant": "ReLU", "apply_b_dec_to_input": True, "k": 3}, "k cannot be assumed"),
        ({"kind": "ReLU"}, "assumed kind: expected some of"),
    ],
)
def test_what_a_plain_file_lacks_is_asked_for_by_name(tmp_path, assumed, message):
    torch.save(tensors(), tmp_path / "sae.pt")
    with pytest.raises(ValueError, match=message):
        SparseAutoencoder.load(tmp_path / "sae.pt", assumed)


def test_square_matrices_do_not_say_which_way_they_lie(tmp_path):
    square = {"W_enc": torch.eye(4), "W_dec": torch.eye(4), "b_enc": torch.zeros(4), "b_dec": torch.zeros(4)}
    torch.save(square, tmp_path / "sae.pt")
    with pytest.raises(ValueError, match="do not tell which way"):
        SparseAutoencoder.load(tmp_path / "sae.pt", {"variant": "ReLU", "apply_b_dec_to_input": True})


def test_nothing_there_and_nothing_known(tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        SparseAutoencoder.load(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(ValueError, match=r"no SAE in a format that is known; it has notes\.txt\. Looked for"):
        SparseAutoencoder.load(tmp_path)


def test_a_folder_of_saes_names_them(tmp_path):
    for name in ("layer_0", "layer_1"):
        (tmp_path / name).mkdir()
        torch.save(tensors(), tmp_path / name / "sae.pt")
    with pytest.raises(ValueError, match="give one of .*layer_0, .*layer_1"):
        SparseAutoencoder.load(tmp_path)


def test_an_sae_of_ours_says_all(tmp_path):
    TopK(D_IN, d_sae=D_SAE, k=3, b_dec_init=None).save(tmp_path)
    with pytest.raises(ValueError, match="nothing is to be assumed"):
        SparseAutoencoder.load(tmp_path, {"k": 4})


LAYOUT = {
    "W_enc": ("encoder.weight", "m d"),
    "W_dec": ("decoder.weight", "d m"),
    "b_enc": ("encoder.bias", "m"),
    "b_dec": ("bias", "d"),
}


def theirs():
    t = tensors()
    return {
        "encoder.weight": t["W_enc"].T.contiguous(),
        "decoder.weight": t["W_dec"].T.contiguous(),
        "encoder.bias": t["b_enc"],
        "bias": t["b_dec"],
    }


def test_matrices_are_turned_to_our_orientation():
    taken, dtype = take("file", {name: w.half() for name, w in theirs().items()}, LAYOUT)
    assert dtype == "float16"
    for name, w in tensors().items():
        assert torch.equal(taken[name], w.half().float())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("bias"), "lacks bias: expected the tensors"),
        (lambda t: t.update(scale=torch.ones(3)), "has scale, which this format does not know"),
        (lambda t: t.update({"encoder.weight": t["encoder.weight"].T}), r"encoder\.weight .* its axes are swapped"),
        (lambda t: t["bias"].fill_(torch.nan), "bias has 5 of 5 numbers that are NaN or infinite"),
        (lambda t: t.update(bias=t["bias"].to(torch.int64)), "bias holds torch.int64"),
        (lambda t: t.update(bias="five"), "bias is a str, expected a tensor"),
        (
            lambda t: t.update({"decoder.weight": torch.ones(D_IN, D_SAE + 1)}),
            r"decoder\.weight has the shape \[5, 13\]",
        ),
    ],
)
def test_nothing_is_guessed(change, message):
    changed = theirs()
    change(changed)
    with pytest.raises(ValueError, match=message):
        take("file", changed, LAYOUT)


def test_a_configuration_of_another_size_is_refused():
    with pytest.raises(ValueError, match="the configuration says d_sae=13 and the weights 12"):
        take("file", theirs(), LAYOUT, d_sae=13)


class Harm:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return print, ("code of the file ran",)


def _truncated(path):
    save_file(tensors(), path / "a.safetensors")
    whole = (path / "a.safetensors").read_bytes()
    (path / "a.safetensors").write_bytes(whole[:-50])
    return path / "a.safetensors"


def _huge_header(path):
    (path / "a.safetensors").write_bytes((2**40).to_bytes(8, "little") + b"{}")
    return path / "a.safetensors"


def _promising_header(path):
    header = json.dumps({"W": {"dtype": "F32", "shape": [10**9, 10**3], "data_offsets": [0, 4 * 10**12]}}).encode()
    (path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return path / "a.safetensors"


def _pickle_with_code(path):
    torch.save({"W": Harm()}, path / "a.pt")
    return path / "a.pt"


def _legacy_pickle_with_code(path):
    (path / "a.pt").write_bytes(pickle.dumps(Harm(), protocol=2))
    return path / "a.pt"


def _stretched_tensor(path):
    torch.save({"W": torch.zeros(1).expand(10**12)}, path / "a.pt")
    return path / "a.pt"


def _compressed_torch_file(path):
    torch.save({"W": torch.zeros(10**6)}, path / "b.pt")
    with zipfile.ZipFile(path / "b.pt") as plain, zipfile.ZipFile(path / "a.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))
    return path / "a.pt"


def _npz_bomb(path):
    np.savez_compressed(path / "a.npz", W=np.zeros(10**7))
    return path / "a.npz"


def _npz_of_objects(path):
    np.savez(path / "a.npz", W=np.array([Harm()], dtype=object))
    return path / "a.npz"


def _npz_with_a_lying_header(path):
    np.savez(path / "b.npz", W=np.zeros(4))
    with zipfile.ZipFile(path / "b.npz") as plain, zipfile.ZipFile(path / "a.npz", "w") as lying:
        lying.writestr("W.npy", plain.read("W.npy").replace(b"(4,), ", b"(9**9,", 1).replace(b"(9**9,", b"(99,), ", 1))
    return path / "a.npz"


def _cut_torch_file(path):
    torch.save(tensors(), path / "a.pt")
    (path / "a.pt").write_bytes((path / "a.pt").read_bytes()[:300])
    return path / "a.pt"


def _a_list(path):
    torch.save([torch.zeros(2)], path / "a.pt")
    return path / "a.pt"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_truncated, "damaged, cut off or no safetensors file"),
        (_huge_header, "damaged, cut off or no safetensors file"),
        (_promising_header, "damaged, cut off or no safetensors file"),
        (_pickle_with_code, "reading that would run code"),
        (_legacy_pickle_with_code, "reading that would run code"),
        (_stretched_tensor, "more than the .* bytes of the file hold"),
        (_compressed_torch_file, "would unpack to"),
        (_npz_bomb, "would unpack from"),
        (_npz_of_objects, "would run code"),
        (_npz_with_a_lying_header, "and not as many numbers"),
        (_cut_torch_file, "damaged, cut off or no torch file"),
        (_a_list, "holds a list: expected a state_dict"),
    ],
)
def test_a_file_that_is_damaged_or_means_harm(tmp_path, make, message, capsys):
    with pytest.raises(ValueError, match=message):
        read_weights(make(tmp_path))
    assert "code of the file ran" not in capsys.readouterr().out
