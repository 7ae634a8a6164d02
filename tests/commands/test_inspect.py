"""``sae inspect`` through the real ``main``: on a tiny model, on activations from a file, and wrong input."""

import json

import numpy as np
import pytest
import tiny
import torch
import yaml
from safetensors.torch import load_file, save_file

import sae_lightning.commands.fit  # noqa: F401 - imported in a test, Lightning would log to the stderr of that test
from sae_lightning.cli import main
from sae_lightning.commands import assumed
from sae_lightning.formats import ASSUMABLE
from sae_lightning.saes import TopK


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, text, an SAE of ours, the same as a plain file, and activations."""
    folder = tmp_path_factory.mktemp("inspect")
    tiny.save_tiny_lm(folder / "model")
    tiny.save_text(folder / "text.jsonl", 200)
    x = torch.randn(300, 16, generator=torch.Generator().manual_seed(0)) + 2
    sae = TopK(16, d_sae=40, k=3)
    sae.initialise(0, x)
    sae.eval().save(folder / "ours")
    (folder / "plain").mkdir()
    names = ("W_enc", "W_dec", "b_enc", "b_dec")
    torch.save({name: getattr(sae, name).detach().contiguous() for name in names}, folder / "plain/sae.pt")
    save_file({"x": x, "other": torch.zeros(3)}, folder / "x.safetensors")
    return folder


def run(capsys, *args):
    main(["inspect", *map(str, args)])
    return capsys.readouterr().out


def refused(capsys, *args):
    with pytest.raises(SystemExit):
        main(["inspect", *map(str, args)])
    return capsys.readouterr().err


ASSUMED = ("--assume=variant=TopK", "--assume=k=3", "--assume=apply_b_dec_to_input=true")


def test_without_a_model_the_weights_alone(folder, capsys):
    out = run(capsys, folder / "ours")
    assert "variant" in out
    assert "TopK" in out
    assert "decoder_norm" in out
    assert "Not measured" in out


def test_on_activations_from_a_file(folder, capsys):
    out = run(capsys, folder / "plain", *ASSUMED, "--activations", folder / "x.safetensors", "--out", folder / "a.json")
    found = json.loads((folder / "a.json").read_text())
    assert found["measured"]["n"] == 300
    assert found["measured"]["l0"] <= 3
    assert f"{found['measured']['explained_variance']:.5f}" in out
    assert found["imported"]["assumed"]["k"] == 3


def test_on_an_array(folder, capsys, tmp_path):
    np.save(tmp_path / "part_0.npy", load_file(folder / "x.safetensors")["x"].view(100, 3, 16).numpy())
    assert "300" in run(capsys, folder / "ours", "--activations", tmp_path / "part_0.npy")


def test_on_a_model_and_text(folder, capsys):
    arguments = ["--model", folder / "model", "--hook", "model.layers.0", "--text", folder / "text.jsonl"]
    sizes = ["--n_tokens", "512", "--context_length", "16"]
    out = run(capsys, folder / "plain", *ASSUMED, *arguments, *sizes)
    assert "512 held-out activations" in out
    assert "explained variance" in out


def test_where_it_does_not_fit_the_blocks_beside_are_tried(folder, capsys, tmp_path):
    """A random SAE of the second block, at the first one: nothing else explains it either."""
    sae = TopK(16, d_sae=40, k=3)
    sae.initialise(0, torch.randn(4096, 16))
    with torch.no_grad():
        sae.b_dec.fill_(100.0)
    sae.eval().save(tmp_path / "far")
    arguments = ["--model", folder / "model", "--hook", "model.layers.0", "--text", folder / "text.jsonl"]
    sizes = ["--n_tokens", "256", "--context_length", "16", "--out", tmp_path / "found.json"]
    out = run(capsys, tmp_path / "far", *arguments, *sizes)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["better_readings"] or set(found["other_hooks"]) == {"model.layers.1"}
    assert "It does not do what it states: " in out


def test_a_short_text_is_enough(folder, capsys, tmp_path):
    text = tiny.save_text(tmp_path / "short.jsonl", 60)
    arguments = ["--model", folder / "model", "--hook", "model.layers.0", "--text", text, "--context_length", "16"]
    run(capsys, folder / "ours", *arguments, "--out", tmp_path / "found.json")
    n = json.loads((tmp_path / "found.json").read_text())["measured"]["n"]
    assert 256 <= n < 2048, "all of it but what is left of the last batch"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{f}/nowhere"], "nowhere"),
        (["{f}/plain"], "assume variant"),
        (["{f}/plain", "--assume", "k"], "expected NAME=VALUE"),
        (["{f}/ours", "--model", "{f}/model", "--hook", "model.layers.0"], "say on which text with --text"),
        (["{f}/ours", "--model", "{f}/model", "--text", "{f}/text.jsonl"], "say where the SAE reads it with --hook"),
        (["{f}/ours", "--hook", "model.layers.0"], "say of which model with --model"),
        (["{f}/ours", "--activations", "{f}/nowhere"], "no such file"),
        (["{f}/ours", "--activations", "{f}/x.safetensors", "--key", "other"], "expected one of shape"),
        (["{f}/ours", "--activations", "{f}/x.safetensors", "--model", "m", "--text", "t"], "give one of them"),
        (["{f}/ours", "--activations", "{f}/x.safetensors", "--out", "{f}/text.jsonl"], "is not overwritten"),
        (["{f}/ours", "--n_tokens", "1"], "expected 2 or more"),
        (["{f}/ours", "--target", "model.layers.0.mlp"], "--target model.layers.0.mlp: say of which model"),
        (
            ["{f}/ours", "--activations", "{f}/x.safetensors", "--target_activations", "{f}/x.safetensors"],
            "is an SAE, which gives back what it reads",
        ),
        (["{f}/ours", "--config", "{f}/nowhere.yaml"], "nowhere.yaml"),
        (["{f}/ours", "--assume", "k=3"], "nothing is to be assumed"),
    ],
)
def test_wrong_input_is_named(folder, capsys, arguments, message):
    assert message in refused(capsys, *[one.format(f=folder) for one in arguments])


def test_an_sae_of_another_width_is_refused(folder, capsys, tmp_path):
    TopK(8, d_sae=16, k=2, b_dec_init=None).save(tmp_path)
    arguments = ["--model", folder / "model", "--hook", "model.layers.0", "--text", folder / "text.jsonl"]
    assert "has d_in=8" in refused(capsys, tmp_path, *arguments, "--context_length", "16")


def test_the_names_that_can_be_assumed_are_those_of_the_formats():
    assert assumed.NAMES == ASSUMABLE


def test_a_configuration_gives_the_data(folder, capsys, tmp_path):
    data = tiny.save_lm_data(tmp_path, 200, context_length=16, batch_size=64, buffer_samples=200, llm_batch_size=4)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"model": {"class_path": "TopK"}, "data": data}))
    out = run(capsys, folder / "plain", *ASSUMED, "--config", tmp_path / "config.yaml", "--n_tokens", "256")
    assert "256 held-out activations" in out
    out = run(
        capsys, folder / "plain", *ASSUMED, "--config", tmp_path / "config.yaml", "--n_tokens", "256", "--hook",
        "model.layers.1", "--out", tmp_path / "found.json",
    )  # fmt: skip
    assert json.loads((tmp_path / "found.json").read_text())["hook"] == "model.layers.1"
