"""Qwen-Scope: the equation written out, k from the name of the repository or the user, and what is refused."""

import pytest
import torch
from foreign_saes import D_IN, D_SAE, K, assert_computes, random_weights, samples, top_k

from sae_lightning import formats
from sae_lightning.saes import SparseAutoencoder

REPOSITORY = f"SAE-Res-Qwen3-8B-Base-W64K-L0_{K}"


def tensors():
    weights = random_weights()
    weights["b_enc"] += 2  # so that k are positive
    return weights | {name: weights[name].T.contiguous() for name in ("W_enc", "W_dec")}


def layer(folder, n=12, **changed):
    folder.mkdir(parents=True, exist_ok=True)
    content = {name: value for name, value in (tensors() | changed).items() if value is not None}
    torch.save(content, folder / f"layer{n}.sae.pt")
    return folder / f"layer{n}.sae.pt"


def test_its_equation(tmp_path):
    path, x, weights = layer(tmp_path / REPOSITORY), samples(), tensors()
    latents = top_k(x @ weights["W_enc"].T + weights["b_enc"])
    x, latents = x[positive := (latents >= 0).all(1)], latents[positive]
    assert len(x) > 50
    reconstruction = latents @ weights["W_dec"].T + weights["b_dec"]
    assert_computes(path, x, latents, reconstruction)
    assert_computes(path.parent, x, latents, reconstruction)


@pytest.mark.parametrize("name", [REPOSITORY, f"models--Qwen--{REPOSITORY}/snapshots/0123abc"])
def test_the_repository_says_what_it_is_of(tmp_path, name):
    stored = formats.read(layer(tmp_path / name))
    assert stored.stated == {"layer": 12, "k": K, "model": "Qwen3-8B-Base"}
    assert stored.settings == {"k": K, "apply_b_dec_to_input": False}
    assert "after block 12" in stored.notes[0]
    with pytest.raises(ValueError, match="k cannot be assumed"):
        formats.read(layer(tmp_path / name), {"k": 2})


def test_elsewhere_k_is_assumed(tmp_path):
    path = layer(tmp_path)
    with pytest.raises(ValueError, match=r"does not say how many latents it keeps.*assume it, as k=50"):
        formats.read(path)
    stored = formats.read(path, {"k": 2})
    assert stored.assumed == {"k": 2}
    assert stored.stated == {"layer": 12}
    assert SparseAutoencoder.load(path, {"k": 2}).k == 2


def test_a_repository_holds_many(tmp_path):
    layer(tmp_path / REPOSITORY, 10)
    layer(tmp_path / REPOSITORY, 9)
    with pytest.raises(ValueError, match=r"holds 2 SAEs, one for each block: name a file, such as .*layer9.sae.pt"):
        formats.read(tmp_path / REPOSITORY)


def test_the_name_of_the_file_is_its_mark(tmp_path):
    path = layer(tmp_path / REPOSITORY)
    assert formats.formats_in(path) == ["Qwen-Scope"]
    assert formats.formats_in(path.rename(path.with_name("qwen.pt"))) == []


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"b_dec": None}, "lacks b_dec"),
        ({"threshold": torch.ones(D_SAE)}, "has threshold, which this format does not know"),
        ({"W_enc": torch.ones(D_IN, D_SAE)}, "W_enc has the shape .*its axes are swapped"),
        ({"W_dec": torch.ones(D_SAE, D_IN)}, "W_dec has the shape .*its axes are swapped"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, changed, expected):
    with pytest.raises(ValueError, match=expected):
        formats.read(layer(tmp_path / REPOSITORY, **changed))
