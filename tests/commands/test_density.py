"""``sae density`` through the real ``main``, on a tiny model."""

import json

import pytest
import tiny
import torch
import yaml
from transformers import AutoModel

import sae_lightning.commands.fit  # noqa: F401 - imported in a test, Lightning would log to the stderr of that test
from sae_lightning.cli import main
from sae_lightning.moving_line import width
from sae_lightning.saes import TopK

SIZES = {"context_length": 16, "batch_size": 64, "val_samples": 192, "buffer_samples": 200, "llm_batch_size": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, a configuration, and a run with two policies and two seeds."""
    folder = tmp_path_factory.mktemp("density")
    data = tiny.save_lm_data(folder, 150, **SIZES)
    run = folder / "run"
    run.mkdir()
    settings = {
        "name": "tiny",
        "model": {"class_path": "TopK", "init_args": {"k": 2}},
        "data": data,
    }
    for path in (folder / "config.yaml", run / "config.yaml"):
        path.write_text(yaml.safe_dump(settings))
    for seed in (0, 1):
        for policy in ("trained", "frozen_decoder"):
            sae = TopK(16, k=2, d_sae=32, seed=seed)
            sae.save(run / "saes" / policy / str(seed))
    metrics = {"explained_variance": {"trained": {"0": 0.9, "1": 0.8}}}
    line = {"step": 1, "samples": 1, "seconds": 1.0, "floors": {}, "metrics": metrics}
    (run / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    return folder


def test_model_alone(folder, tmp_path, capsys):
    arguments = ["--config", str(folder / "config.yaml"), "--n_tokens", "300", "--out", str(tmp_path / "out")]
    main(["density", *arguments])
    printed = " ".join(capsys.readouterr().out.split())
    found = json.loads((tmp_path / "out/density.json").read_text())
    assert {row["hook"] for row in found["layers"]} == {"model.layers.0", "model.layers.1"}
    assert len(found["layers"]) == 2 * 2 * 2 * 3
    assert found["supports"] is found["seeds"] is None
    assert found["n_tokens"] >= 300 > found["n_first"] > 0
    kept = {row["tokens"]: row["n_tokens"] for row in found["layers"]}
    assert kept["all tokens"] - kept["without first tokens"] == found["n_first"]
    assert [verdict["number"] for verdict in found["verdicts"]] == [1, 2, 3, 4, 5, 6]
    assert "6. Sparse latents perform poorly downstream: NOT DECIDED" in printed
    assert (tmp_path / "out/layers.png").is_file()
    assert list((tmp_path / "out").glob("events.out.tfevents.*"))
    main(["density", *arguments])
    assert json.loads((tmp_path / "out/density.json").read_text()) == found
    assert len(list((tmp_path / "out").glob("events.out.tfevents.*"))) == 1


def test_run_brings_its_configuration(folder, capsys):
    before = torch.get_rng_state()
    main(["density", "--run", str(folder / "run"), "--n_tokens", "300", "--hooks", "[model.layers.1.mlp]"])
    assert torch.equal(torch.get_rng_state(), before)
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if "/density" not in line) <= width()
    printed = " ".join(" ".join(lines).split())
    found = json.loads((folder / "run/density/density.json").read_text())
    assert {row["hook"] for row in found["layers"]} == {"model.layers.1.mlp"}
    names = {row["directions"] for row in found["directions"]}
    assert names == {"neuron axes", "random rotation", "random directions", "trained", "frozen_decoder"}
    assert set(found["supports"]) == {"trained/0", "frozen_decoder/0"}
    assert found["seeds"]["policies"]["trained"]["matched_cosine"] < 0.9
    assert found["seeds"]["cosine_to_start"]["trained"] == pytest.approx(1)
    for name in ("layers", "energy", "directions", "supports", "seeds"):
        assert (folder / f"run/density/{name}.png").is_file()
        assert f"density/{name}.png" in printed
    assert "mean cosine to the start 1.000" in printed


def test_model_without_a_head(folder, tmp_path, capsys):
    model = AutoModel.from_pretrained(folder / "model")
    model.save_pretrained(tmp_path / "model")
    main(
        ["density", "-c", str(folder / "config.yaml"), f"--data.model={tmp_path / 'model'}", "--data.hook=layers.0"]
        + [f"--data.tokenizer={folder / 'model'}", "--n_tokens=300", f"--out={tmp_path / 'out'}"]
    )
    printed = " ".join(capsys.readouterr().out.split())
    assert "no head that reads these activations" in printed
    assert {row["reading"] for row in json.loads((tmp_path / "out/density.json").read_text())["directions"]} == {
        "coordinates"
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config", "{folder}/config.yaml", "--n_tokens", "10"], ["n_tokens=10", "256"]),
        (["--config", "{folder}/config.yaml", "--run", "{folder}/none"], ["none: no such folder"]),
        (["--config", "{folder}/config.yaml", "--run", "{folder}"], ["no SAEs in", "saes"]),
        (["--config", "{folder}/config.yaml", "--hooks", "[model.layer.0]"], ["no such submodule", "model.layers.0"]),
        (["--config", "{folder}/config.yaml", "--out", "{folder}/config.yaml"], ["is a file"]),
        (
            ["--run", "{folder}/run", "--config", "{folder}/config.yaml", "--data.hook", "model.layers.1"],
            ["model.layers.0"],
        ),
        (
            ["--data", "SyntheticDataModule", "--data.d_in=8", "--data.n_features=9"],
            ["needs a LanguageModelDataModule"],
        ),
        (["--run", "{folder}/none"], ["none: no such folder"]),
        ([], ["data"]),
    ],
)
def test_wrong_input(folder, arguments, words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["density", *(argument.format(folder=folder) for argument in arguments)])
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert "error: " in message
    assert "Loading" not in message or "--hooks" in arguments  # told before the model is read
    for word in words:
        assert word in message
