"""SAEs of sparsify: files that it wrote, its equation, and what it reads of ours."""

import json
from pathlib import Path

import pytest
import torch
from foreign_saes import D_IN, D_SAE, K, assert_computes, random_weights, samples, start, top_k
from safetensors.torch import load_file, save_file

from sae_lightning import formats
from sae_lightning.formats import sparsify
from sae_lightning.saes import BatchTopK, SparseAutoencoder, TopK
from sae_lightning.saes.saving import to_stored

FILES = Path(__file__).parent / "files/sparsify"
CONFIG = {"activation": "topk", "expansion_factor": 32, "num_latents": D_SAE, "k": K, "d_in": D_IN}


def tensors():
    weights = random_weights()
    return {
        "encoder.weight": weights["W_enc"].T.contiguous(),
        "encoder.bias": weights["b_enc"],
        "W_dec": weights["W_dec"],
        "b_dec": weights["b_dec"],
    }


def coder(folder, config=CONFIG, **changed):
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor for name, tensor in (tensors() | changed).items() if tensor is not None},
              folder / "sae.safetensors")  # fmt: skip
    if config is not None:
        (folder / "cfg.json").write_text(json.dumps(config))
    return folder


def run(root, **changed):
    root.mkdir(parents=True, exist_ok=True)
    config = {"sae": CONFIG, "hookpoints": ["layers.3.mlp"], "lr": 0.1, "model": "m", "dataset": "d"}
    (root / "config.json").write_text(json.dumps(config | changed))
    return root


@pytest.mark.parametrize("folder", sorted(path.parent for path in FILES.rglob("cfg.json")), ids=lambda path: path.name)
def test_what_sparsify_wrote_computes_what_it_computed(folder):
    expected = load_file(folder / "expected.safetensors")
    for where in (folder, folder / "sae.safetensors"):
        assert_computes(where, expected["x"], expected["latents"], expected["reconstruction"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_its_equation(tmp_path, dtype):
    weights = {name: tensor.to(dtype) for name, tensor in tensors().items()}
    folder, x = coder(tmp_path / "layers.2", **weights), samples()
    encoder, bias, W_dec, b_dec = (tensor.float() for tensor in weights.values())
    latents = top_k(((x - b_dec) @ encoder.T + bias).relu())
    assert_computes(folder, x, latents, latents @ W_dec + b_dec)
    assert formats.read(folder).dtype == str(dtype).removeprefix("torch.")


def test_the_number_of_latents_may_be_a_multiple_of_d_in(tmp_path):
    weights = {name: tensor[:10] if len(tensor) == D_SAE else tensor for name, tensor in tensors().items()}
    folder = coder(tmp_path / "a", CONFIG | {"num_latents": 0, "expansion_factor": 2}, **weights)
    assert SparseAutoencoder.load(folder).d_sae == 10


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("layers.10", {"hook": "layers.10", "layer": 10}),
        ("layers.3.mlp", {"hook": "layers.3.mlp", "layer": 3}),
        ("h.0.attn", {"hook": "h.0.attn", "layer": 0}),
        ("gpt_neox.layers.7", {"hook": "gpt_neox.layers.7", "layer": 7}),
        ("layer_10", {"hook": "layer_10", "layer": 10}),
        ("layers.3.mlp/seed7", {"hook": "layers.3.mlp", "layer": 3, "seed": 7}),
        ("embed_tokens", {"hook": "embed_tokens"}),
        ("downloads", {}),
    ],
)
def test_the_folder_names_the_hook(tmp_path, name, expected):
    stored = formats.read(coder(tmp_path / name))
    assert stored.stated == {**expected, "k": K}
    assert ("old releases" in str(stored.notes)) == (name == "layer_10")


def test_the_runs_configuration_says_how_it_was_trained(tmp_path):
    run(tmp_path, ctx_len=64, batch_size=32, grad_acc_steps=2, init_seeds=[5])
    stored = formats.read(coder(tmp_path / "layers.3.mlp"))
    assert stored.stated == {
        "hook": "layers.3.mlp", "layer": 3, "k": K, "model": "m", "dataset": "d", "context_length": 64, "seed": 5,
        "batch_size": 4096, "learning_rate": 0.1,
    }  # fmt: skip
    assert "batch_size is that of one process" in str(stored.notes)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [({}, "takes 0.00739 with adam"), ({"optimizer": "signum"}, "takes 0.185"), ({"optimizer": "muon"}, "takes 0.002")],
)
def test_a_learning_rate_of_null_is_a_note(tmp_path, optimizer, expected):
    run(tmp_path, lr=None, **optimizer)
    stored = formats.read(coder(tmp_path / "layers.3.mlp/seed0"))
    assert "learning_rate" not in stored.stated
    assert expected in str(stored.notes)


def test_other_configurations_above_are_not_the_runs(tmp_path):
    (tmp_path / "config.json").write_text('{"model": "of a language model", "layers": 3}')
    assert "model" not in formats.read(coder(tmp_path / "layers.1")).stated
    (tmp_path / "config.json").write_text("{")
    assert "nothing is known of the training" in str(formats.read(coder(tmp_path / "layers.1")).notes)


def test_a_run_is_no_sae_and_its_hookpoints_are_named(tmp_path):
    run(tmp_path)
    for name in ("layers.3.mlp", "h.0/seed1"):
        coder(tmp_path / name)
    with pytest.raises(ValueError, match=r"no SAE itself, and its folders do: give one of .*layers.3.mlp.*h.0/seed1"):
        formats.read(tmp_path)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"activation": "groupmax"}, "groupmax SAE.*no variant"),
        ({"activation": "batchtopk"}, "with the activation 'batchtopk'"),
        ({"skip_connection": True}, "linear skip connection"),
        ({"signed": True}, "a signed SAE"),
        ({"k": 13}, "k=13: expected 1 to 12"),
        ({"k": "many"}, "k='many': expected a whole number"),
        ({"k": None}, "k=None: expected a whole number"),
        ({"num_latents": 13}, "says d_sae=13 and the weights 12"),
        ({"d_in": 6}, "says d_in=6 and the weights 5"),
    ],
)
def test_what_is_no_topk_autoencoder_is_refused(tmp_path, changed, expected):
    with pytest.raises(ValueError, match=expected):
        formats.read(coder(tmp_path / "layers.1", CONFIG | changed))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"encoder.bias": None}, "lacks encoder.bias"),
        ({"W_skip": torch.zeros(D_IN, D_IN)}, "has W_skip, which this format does not know"),
        ({"W_dec": random_weights()["W_dec"].T.contiguous()}, "W_dec has the shape .*its axes are swapped"),
        ({"encoder.weight": random_weights()["W_enc"].contiguous()}, "encoder.weight .*its axes are swapped"),
        ({"b_dec": torch.full((D_IN,), torch.nan)}, "b_dec has 5 of 5 numbers that are NaN"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, changed, expected):
    with pytest.raises(ValueError, match=expected):
        formats.read(coder(tmp_path / "layers.1", **changed))


def test_weights_without_configuration_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no cfg.json, which says k"):
        formats.read(coder(tmp_path / "layers.1", None))


def test_nothing_is_to_be_assumed(tmp_path):
    with pytest.raises(ValueError, match="k cannot be assumed"):
        formats.read(coder(tmp_path / "layers.1"), {"k": 2})


def test_an_sae_of_this_library_is_none_of_sparsify(tmp_path):
    start(TopK, k=K).save(tmp_path)
    assert formats.formats_in(tmp_path) == []
    with pytest.raises(ValueError, match="holds an SAE of sae_lightning, whose sae.safetensors would be overwritten"):
        sparsify.write(to_stored(start(TopK, k=K)), tmp_path)


def test_the_way_back_is_bit_equal(tmp_path):
    sae, x = start(TopK, k=K), samples()
    written = sparsify.write(to_stored(sae), tmp_path / "layers.1")
    assert [path.name for path in written] == ["sae.safetensors", "cfg.json"]
    again = SparseAutoencoder.load(tmp_path / "layers.1")
    assert torch.equal(again.encode(x).to_dense(), sae.encode(x).to_dense())
    assert torch.equal(again(x), sae(x))


def test_b_dec_that_is_not_subtracted_goes_into_b_enc(tmp_path):
    sae, x = start(TopK, k=K, apply_b_dec_to_input=False), samples()
    assert sparsify.writable(to_stored(sae)).folds == (
        "b_enc += b_dec @ W_enc, as b_dec is subtracted from the input in this format",
    )
    sparsify.write(to_stored(sae), tmp_path)
    assert_computes(tmp_path, x, sae.encode(x).to_dense(), sae(x))


@pytest.mark.parametrize(
    ("sae", "expected"),
    [
        (lambda: start(BatchTopK, k=K), "sparsify has TopK SAEs, and this is a BatchTopK"),
        (lambda: start(TopK, k=K, input_norm="layer_norm"), "has input_norm=layer_norm"),
    ],
)
def test_what_it_cannot_express_is_not_written(tmp_path, sae, expected):
    with pytest.raises(ValueError, match=expected):
        sparsify.write(to_stored(sae()), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("subtracted", [True, False])
@pytest.mark.filterwarnings("ignore")
def test_sparsify_reads_what_is_written(tmp_path, subtracted):
    SparseCoder = pytest.importorskip("sparsify").SparseCoder
    sae, x = start(TopK, k=K, apply_b_dec_to_input=subtracted), samples()
    sparsify.write(to_stored(sae), tmp_path)
    coder = SparseCoder.load_from_disk(tmp_path)
    code = coder.encode(x)
    latents = torch.zeros(len(x), D_SAE).scatter(1, code.top_indices, code.top_acts)
    assert_computes(sae, x, latents, coder.decode(code.top_acts, code.top_indices))
