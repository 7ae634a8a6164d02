"""``sae export`` through the real ``main``, on a tiny model, with a format that a test brings along."""

import json
from types import ModuleType

import pytest
import tiny
import torch
import yaml
from commands.test_stitch import SIZES, datamodule, trained
from safetensors.numpy import load_file as load_numpy
from safetensors.torch import load_file, save_file

import sae_lightning.commands.fit  # noqa: F401 - imported in a test, Lightning would log to the stderr of that test
from sae_lightning.cli import main
from sae_lightning.exports import neuronpedia
from sae_lightning.formats import StoredSAE, reading
from sae_lightning.saes import SparseAutoencoder, Stitched, TopK
from sae_lightning.saes.stated import stated_of
from sae_lightning.sources import TokenBatch

PROVENANCE = {
    "data": {"class": "LanguageModelDataModule", "batch_size": 64, "context_length": 16, "bos_in_every_row": True},
    "sae": {"k": 4, "seed": 1},
    "trainer": {"devices": 2, "accumulate_grad_batches": 1},
    "optimizer": {"groups": [{"lr": 0.5}]},
    "steps": 10,
    "measured": {"l0": 4.5},
}
PROVENANCE["data"]["text"] = {"class": "FileText", "paths": "text.jsonl"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, its text, and a run with an SAE, with what a judge has said of two latents."""
    folder = tmp_path_factory.mktemp("export")
    data = tiny.save_lm_data(folder, 500, **SIZES)
    run = folder / "run"
    run.mkdir()
    (run / "config.yaml").write_text(yaml.safe_dump({"name": "tiny", "model": {"class_path": "TopK"}, "data": data}))
    described = datamodule(folder)
    sae = trained(16, 32, 1, described.calibration_sample(256))
    sae.provenance = {"activations": described.describe_activations()[""], **PROVENANCE}
    sae.save(run / "saes/trained/0")
    TopK(8, k=2, d_sae=32).save(run / "saes/narrow/0")
    lines = [
        {"member": f"trained/{seed}", "latent": latent, "explanation": f"of {seed}", "examples": []}
        for seed, latent in ((0, 3), (1, 4))
    ]
    (run / "interpretation.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def module(name, title):
    adapter = ModuleType(name)
    adapter.NAME, adapter.TITLE = name, title
    return adapter


@pytest.fixture
def fake(monkeypatch):
    """A format that keeps all tensors, of which a test can change what is read."""
    adapter, only_read = module("fake", "Fake"), module("unwritten", "Unwritten")
    adapter.written, adapter.change = [], lambda tensors: tensors

    def write(stored, out):
        adapter.written.append(stored)
        save_file(dict(stored.tensors), out / "fake.safetensors")
        (out / "fake.json").write_text(json.dumps({"variant": stored.variant, "settings": stored.settings}))
        return [out / "fake.safetensors", out / "fake.json"]

    def read(place, assumed):
        config = place.config("fake.json")
        tensors = adapter.change(place.tensors(place.weights("fake.safetensors")))
        folds = ("thresholds were half of nothing",)
        return StoredSAE("fake", config["variant"], tensors, config["settings"], folds=folds, stated={"k": 4})

    adapter.write, adapter.read = write, read
    adapter.writable = lambda stored: stored
    adapter.reads = lambda place: place.weights("fake.safetensors") is not None
    only_read.reads, only_read.read = lambda place: False, read
    monkeypatch.setattr(reading, "ADAPTERS", (adapter, only_read))
    return adapter


def export(folder, capsys, *arguments, sae="run/saes/trained/0"):
    main(["export", str(folder / sae), *map(str, arguments)])
    return capsys.readouterr().out


def test_format_of_a_library(folder, tmp_path, capsys, fake):
    printed = export(folder, capsys, "--format=fake", f"--out={tmp_path / 'out'}")
    assert "read back: the same latents and reconstructions on 256 random activations" in printed
    assert "largest difference 0" in printed
    assert "folded: thresholds were half of nothing" in printed
    assert "not in the files of Fake: model, hook, layer, context_length" in printed
    assert str(tmp_path / "out/fake.json") in printed
    [stored] = fake.written
    assert stored.stated == {
        "model": str(folder / "model"),
        "hook": "model.layers.0",
        "layer": 0,
        "context_length": 16,
        "prepend_bos": True,
        "dataset": "text.jsonl",
        "tokens": 1280,
        "batch_size": 128,
        "learning_rate": 0.5,
        "seed": 1,
        "k": 4,
        "l0": 4.5,
    }
    imported = SparseAutoencoder.load(tmp_path / "out")
    assert stated_of(imported.provenance) == {"k": 4}, "of an SAE that was read: what its file stated"
    x = datamodule(folder).calibration_sample(64)
    assert torch.equal(imported(x), SparseAutoencoder.load(folder / "run/saes/trained/0")(x))


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors | {"threshold": torch.tensor(1e-9)},
        lambda tensors: tensors | {"b_enc": tensors["b_enc"] + 0.1},
        lambda tensors: tensors | {"W_dec": tensors["W_dec"].flip(0)},
    ],
)
def test_what_computes_something_else_is_an_error(folder, tmp_path, capsys, fake, change):
    fake.change = change
    with pytest.raises(SystemExit):
        export(folder, capsys, "--format=fake", f"--out={tmp_path / 'out'}")
    message = capsys.readouterr().err
    assert "does not compute what the SAE does" in message
    assert "Do not use these files" in message


def test_a_format_that_cannot_express_an_sae_leaves_no_folder(folder, tmp_path, capsys, fake):
    def refuse(stored, out):
        raise ValueError(f"no {stored.variant} in Fake")

    fake.write = refuse
    with pytest.raises(SystemExit):
        export(folder, capsys, "--format=fake", f"--out={tmp_path / 'out'}")
    assert "no BatchTopK in Fake" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_stitched_sae_is_of_this_library_alone(folder, tmp_path, capsys, fake):
    sae = SparseAutoencoder.load(folder / "run/saes/trained/0")
    Stitched(sae, sae, range(32), [3]).save(tmp_path / "stitched")
    with pytest.raises(SystemExit):
        main(["export", str(tmp_path / "stitched"), "--format=fake", f"--out={tmp_path / 'out'}"])
    assert "a Stitched cannot be written for Fake" in capsys.readouterr().err


def test_a_plain_file_becomes_an_sae_of_this_library(folder, tmp_path, capsys):
    tensors = load_file(folder / "run/saes/trained/0/sae.safetensors")
    save_file({name: tensors[name] for name in ("W_enc", "W_dec", "b_enc", "b_dec")}, tmp_path / "plain.safetensors")
    assumed = ("variant=TopK", "k=4", "apply_b_dec_to_input=True")
    options = [part for text in assumed for part in ("--assume", text)]
    main(["export", str(tmp_path / "plain.safetensors"), "--format=sae_lightning", f"--out={tmp_path / 'o'}", *options])
    assert "read back: the same" in capsys.readouterr().out
    sae = SparseAutoencoder.load(tmp_path / "o")
    assert isinstance(sae, TopK)
    assert sae.provenance["imported"]["assumed"] == {"variant": "TopK", "k": 4, "apply_b_dec_to_input": True}


def test_features_for_neuronpedia(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(neuronpedia, "FEATURES_IN_BATCH", 10)
    out = tmp_path / "out"
    printed = export(folder, capsys, "--format=neuronpedia", f"--out={out}", "--n_tokens=600", "--source=0-Mine")
    assert "for the model model and the source 0-mine" in printed
    bodies = [json.loads(path.read_text()) for path in sorted(out.iterdir())]
    features = [feature for body in bodies for feature in body["features"]]
    assert {(body["modelId"], body["source"]) for body in bodies} == {("model", "0-mine")}
    assert all(1 <= len(body["features"]) <= 10 for body in bodies)
    data = datamodule(folder)
    rows = data.heldout_rows(600)
    captured, mask = data.source.capture(rows)
    latents = SparseAutoencoder.load(folder / "run/saes/trained/0").encode(captured[mask]).to_dense()
    dense = torch.zeros(*mask.shape, 32)
    dense[mask] = latents
    live = dense.amax((0, 1)).nonzero()[:, 0].tolist()
    assert [feature["index"] for feature in features] == live
    for feature in features:
        density = float((latents[:, feature["index"]] != 0).double().mean())
        assert feature["density"] == pytest.approx(density, rel=1e-3)
        top = feature["activations"][0]
        assert max(top["values"]) == pytest.approx(float(dense[..., feature["index"]].max()), rel=1e-3)
        assert len(feature["topLogits"]) == len(feature["bottomLogits"]) == 20
        assert feature["topLogits"][0]["value"] >= feature["topLogits"][1]["value"]
        for activation in feature["activations"]:
            assert len(activation["tokens"]) == len(activation["values"]) == 16
            assert all(activation["tokens"])
            assert max(activation["values"]) > 0
        for activation in feature["activations"]:
            if "quantileMin" in activation:
                assert activation["quantileMin"] <= max(activation["values"]) <= activation["quantileMax"]
                assert activation["quantileFraction"] == pytest.approx(0.25, abs=0.05)
    explained = {feature["index"]: feature["explanations"] for feature in features if feature["explanations"]}
    assert explained == {3: [{"text": "of 0"}]}


def test_which_latents():
    live = [1, 3, 4, 9]
    assert neuronpedia.choose(None, live, 10) == (live, [])
    assert neuronpedia.choose("2", live, 10) == ([1, 3], [])
    assert neuronpedia.choose("9, 2,3", live, 10) == ([9, 3], [2])
    assert neuronpedia.choose("9,", live, 10) == ([9], [])
    for text, words in (("x", "how many"), ("0", "1 or more"), ("3,10", "from 0 to 9"), (",", "how many")):
        with pytest.raises(ValueError, match=words):
            neuronpedia.choose(text, live, 10)


@pytest.mark.parametrize("n_splits", [1, 5])
def test_cache_for_delphi(folder, tmp_path, capsys, n_splits):
    out = tmp_path / "out"
    printed = export(folder, capsys, "--format=delphi", f"--out={out}", "--n_tokens=600", f"--n_splits={n_splits}")
    assert "positions have no latents: special tokens" in printed
    assert [path.name for path in out.iterdir()] == ["model.layers.0"]
    config = json.loads((out / "model.layers.0/config.json").read_text())
    assert (config["ctx_len"], config["n_splits"], config["model_name"]) == (16, n_splits, str(folder / "model"))
    data = datamodule(folder)
    rows = data.heldout_rows(600)
    dense = torch.zeros(*rows.input_ids.shape, 32)
    seen = []
    for path in sorted((out / "model.layers.0").glob("*.safetensors")):
        start, end = map(int, path.stem.split("_"))
        seen += range(start, end + 1)
        held = load_numpy(path)
        assert (held["locations"].dtype, held["activations"].dtype) == ("uint16", "float16")
        assert torch.equal(torch.from_numpy(held["tokens"]), rows.input_ids)
        row, position, latent = torch.from_numpy(held["locations"].astype("int64")).T
        assert int(latent.max()) <= end - start
        assert torch.equal((row * 16 + position).sort(stable=True).values, row * 16 + position), "in order of the text"
        dense[row, position, latent + start] = torch.from_numpy(held["activations"]).float()
    assert sorted(seen) == list(range(32))
    captured, mask = data.source.capture(TokenBatch(rows.input_ids, rows.mask))
    latents = SparseAutoencoder.load(folder / "run/saes/trained/0").encode(captured[mask]).to_dense()
    assert not dense[~mask].any()
    torch.testing.assert_close(dense[mask], latents, rtol=1e-3, atol=1e-4)


def test_of_several_hooks_an_sae_reads_its_own(folder, tmp_path, capsys):
    hooks = {"early": "model.layers.0", "late": "model.layers.1"}
    settings = yaml.safe_load((folder / "run/config.yaml").read_text())
    settings["data"]["init_args"]["hook"] = hooks
    late = tmp_path / "run/saes/late/trained/0"
    sae = TopK(16, k=2, d_sae=32)
    sae.initialise(0)
    sae.save(late)
    (tmp_path / "run/config.yaml").write_text(yaml.safe_dump(settings))
    main(["export", str(late), "--format=delphi", f"--out={tmp_path / 'out'}", "--n_tokens=100", "--n_splits=1"])
    [path] = (tmp_path / "out/model.layers.1").glob("*.safetensors")
    held = load_numpy(path)
    rows = datamodule(folder).heldout_rows(100)
    captured, mask = datamodule(folder).source.at("model.layers.1").capture(rows)
    dense = torch.zeros(*mask.shape, 32)
    dense[tuple(torch.from_numpy(held["locations"].astype("int64")).T)] = torch.from_numpy(held["activations"]).float()
    expected = SparseAutoencoder.load(late).encode(captured[mask]).to_dense()
    torch.testing.assert_close(dense[mask], expected, rtol=1e-3, atol=1e-4)
    main(["export", str(late), "--format=neuronpedia", f"--out={tmp_path / 'n'}", "--n_tokens=100", "--latents=2"])
    body = json.loads((tmp_path / "n/batch-0000.json").read_text())
    assert (body["source"], len(body["features"])) == ("1-sae-lightning", 2)


@pytest.mark.parametrize(
    ("sae", "arguments", "words"),
    [
        ("run/saes/none/0", ["--format=delphi"], ["does not exist"]),
        ("run/saes/none/0", ["--format=sae_lightning"], ["none/0 does not exist"]),
        ("run/saes/trained/0", ["--format=none"], ["--format", "neuronpedia", "delphi"]),
        ("run/saes/trained/0", ["--format=sae_lightning", "--n_splits=3"], ["--n_splits is for --format delphi"]),
        ("run/saes/trained/0", ["--format=delphi", "--latents=3"], ["--latents is for --format neuronpedia"]),
        ("run/saes/trained/0", ["--format=delphi", "--n_tokens=0"], ["--n_tokens 0"]),
        ("run/saes/trained/0", ["--format=delphi", "--n_splits=33"], ["--n_splits 33", "1 to 32"]),
        ("run/saes/trained/0", ["--format=sae_lightning", "--data.hook=x"], ["the SAE alone"]),
        ("run/saes/trained/0", ["--format=sae_lightning", "--assume=k=3"], ["nothing is to be assumed"]),
        ("run/saes/trained/0", ["--format=sae_lightning", "--assume=kk=3"], ["kk cannot be assumed", "mean k"]),
        ("run/saes/trained/0", ["--format=sae_lightning", "--assume=k"], ["--assume k: expected NAME=VALUE"]),
        ("run/saes/trained/0", ["--format=sae_lightning", "--assume=k=3", "--assume=k=4"], ["assumed twice"]),
        ("run/saes/trained/0", ["--format=sae_lightning", "--out={folder}/run"], ["not empty", "config.yaml"]),
        ("run/saes/trained/0", ["--format=sae_lightning", "--out={folder}/text.jsonl"], ["is a file"]),
        ("run/saes/trained/0", ["--format=neuronpedia", "--source=mine"], ["--source mine", "LAYER-SET"]),
        ("run/saes/trained/0", ["--format=neuronpedia", "--latents=a"], ["--latents a", "3,17"]),
        ("run/saes/trained/0", ["--format=delphi", "--data.hook=model.layers.1"], ["does not belong here"]),
        ("run/saes/narrow/0", ["--format=delphi"], ["d_in=8", "activations 16"]),
        ("run/saes/trained/0", ["--format=delphi", "--data=SyntheticDataModule", "--data.d_in=16"], ["of text"]),
    ],
)
def test_wrong_input(folder, tmp_path, sae, arguments, words, capsys):
    out = [] if any(argument.startswith("--out") for argument in arguments) else [f"--out={tmp_path / 'out'}"]
    with pytest.raises(SystemExit) as stop:
        main(["export", str(folder / sae), *(argument.format(folder=folder) for argument in arguments), *out])
    assert stop.value.code == 2
    message = capsys.readouterr().err
    for word in words:
        assert word in message
    assert not (tmp_path / "out").exists()
