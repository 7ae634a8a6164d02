"""``sae stitch`` through the real ``main``, on a tiny model and on synthetic data."""

import json

import pytest
import tiny
import torch
import yaml
from safetensors.torch import load_file
from stitching.pairs import random_sae

import sae_lightning.commands.fit  # noqa: F401 - imported in a test, Lightning would log to the stderr of that test
from sae_lightning.cli import main
from sae_lightning.datamodules import FileText, LanguageModelDataModule
from sae_lightning.metrics.functional import token_losses_update
from sae_lightning.moving_line import width
from sae_lightning.saes import BatchTopK, SparseAutoencoder, TopK
from sae_lightning.sources import LanguageModelSource
from sae_lightning.sources.replacing import replace_valid
from sae_lightning.stitching import comparison, loss
from sae_lightning.stitching.curve import Stitcher, schedule
from sae_lightning.stitching.loss import measure_loss

SIZES = {"context_length": 16, "batch_size": 64, "val_samples": 192, "buffer_samples": 200, "llm_batch_size": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, its text, and a run with SAEs of two sizes and one that has latents of its own kind."""
    folder = tmp_path_factory.mktemp("stitch")
    data = tiny.save_lm_data(folder, 500, **SIZES)
    run = folder / "run"
    run.mkdir()
    (run / "config.yaml").write_text(yaml.safe_dump({"name": "tiny", "model": {"class_path": "TopK"}, "data": data}))
    x = datamodule(folder).calibration_sample(256)
    for name, d_sae, seed in (("x1", 16, 1), ("x2", 32, 2)):
        trained(16, d_sae, seed, x).save(run / "saes" / name / "0")
    TopK(16, k=2, d_sae=32).save(run / "saes/topk/0")
    TopK(8, k=2, d_sae=32).save(run / "saes/narrow/0")
    return folder


def trained(d_in, d_sae, seed, x):
    sae = BatchTopK(d_in, d_sae=d_sae, k=4, scale_input=True)
    sae.initialise(seed, x)
    optimizer = torch.optim.Adam(sae.parameters(), lr=1e-2)
    for step in range(30):
        optimizer.zero_grad()
        sae.losses(x, step)["loss"].backward()
        optimizer.step()
        sae.constrain()
    return sae


def datamodule(folder, **kwargs):
    text = FileText(str(folder / "text.jsonl"), heldout_every=5)
    return LanguageModelDataModule(str(folder / "model"), "model.layers.0", text, **{**SIZES, **kwargs})


def test_pair_of_a_run(folder, capsys):
    before = torch.get_rng_state()
    small, large = (str(folder / f"run/saes/{name}/0") for name in ("x1", "x2"))
    stitched = folder / "stitched"
    arguments = ["stitch", "--small", small, "--large", large, "--n_tokens=1600", "--n_loss_tokens=100"]
    main([*arguments, "--n_loss_latents=3", "--n_steps=3", "--save", str(stitched)])
    assert torch.equal(torch.get_rng_state(), before)
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if "/stitch" not in line) <= width()
    printed = " ".join(" ".join(lines).split())
    out = folder / "run/stitch/x1-0_to_x2-0"
    found, latents = json.loads((out / "stitch.json").read_text()), load_file(out / "latents.safetensors")
    assert "the end equals the large SAE up to b_dec" in printed
    assert (found["small"], found["large"], found["d_small"], found["d_large"]) == ("x1/0", "x2/0", 16, 32)
    assert sum(of["n"] for of in found["classes"].values()) == 32
    assert sum(of["firing_share"] for of in found["classes"].values()) == pytest.approx(1)
    assert found["classes"]["novel"]["n"] == int((latents["high"] < 0).sum()) > 0
    assert latents["label"].bincount(minlength=4).tolist() == [of["n"] for of in found["classes"].values()]
    assert (found["n_samples"], found["curve"]["n_samples"]) == (12 * 64, 13 * 64)
    steps = found["curve"]["steps"]
    assert (steps[0]["n_small"], steps[0]["n_large"], steps[-1]["n_small"], steps[-1]["n_large"]) == (16, 0, 0, 32)
    assert steps[0]["mse"] == pytest.approx(found["curve"]["small"]["mse"], rel=1e-4)
    assert steps[-1]["l0"] == pytest.approx(found["curve"]["large"]["l0"])
    assert len(found["loss"]["latents"]) == 3
    assert 80 <= found["loss"]["n_tokens"] < 116, "about 100, without the first token of each row or document"
    assert f"CE on {found['loss']['n_tokens']} tokens" in printed
    assert {int(step) for step in found["loss"]["ce"]} >= {0, len(steps) - 1}
    assert [row["threshold"] for row in found["by_cosine"]] == [0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    for name in ("curve", "cosine"):
        assert (out / f"{name}.png").is_file()
    sae = SparseAutoencoder.load(stitched)
    assert sae.d_sae == 16 + found["classes"]["novel"]["n"]
    main(["stitch", "--small", str(stitched), "--large", large, "--config", str(folder / "run/config.yaml")]
         + ["--n_tokens=1600", "--n_loss_tokens=0", "--out", str(folder / "out")])  # fmt: skip
    again = json.loads((folder / "out/stitch.json").read_text())
    last_inserted = max(i for i, step in enumerate(steps) if step["phase"] == "novel inserted")
    assert again["curve"]["small"]["mse"] == pytest.approx(steps[last_inserted]["mse"], rel=1e-4)
    assert again["loss"] is None


def test_the_loss_of_a_model_that_predicts_no_next_token_is_left_out(folder, capsys, monkeypatch):
    monkeypatch.setattr(LanguageModelSource, "no_next_token", "a BertForMaskedLM is a masked model")
    small, large = (str(folder / f"run/saes/{name}/0") for name in ("x1", "x2"))
    main(
        ["stitch", "--small", small, "--large", large, "--n_tokens=1600", "--n_steps=2", "--out", str(folder / "bert")]
    )
    printed = " ".join(capsys.readouterr().out.split())
    assert "The loss of the model is left out, since it predicts no next token: a BertFor" in printed
    assert json.loads((folder / "bert/stitch.json").read_text())["loss"] is None


def test_synthetic_data_and_latents_that_compete(tmp_path, capsys):
    for name, d_sae in (("a", 10), ("b", 24)):
        random_sae(d_sae, 1, TopK, k=3).save(tmp_path / name)
    of_data = ["--data=SyntheticDataModule", "--data.d_in=12", "--data.n_features=24", "--data.batch_size=64"]
    large, saved = f"--large={tmp_path / 'b'}", tmp_path / "stitched"
    main(["stitch", f"--small={tmp_path / 'a'}", large, *of_data, "--n_tokens=512", f"--save={saved}"])
    found = json.loads((tmp_path / "b/stitch/a_to_b/stitch.json").read_text())
    assert found["loss"] is None
    assert found["n_samples"] == 256
    n_novel = found["classes"]["novel"]["n"]
    printed = " ".join(capsys.readouterr().out.split())
    assert "From a to b" in printed
    assert f"{saved}: a with {n_novel} novel latents of b" in printed
    assert SparseAutoencoder.load(saved).d_sae == 10 + n_novel > 10
    main(["stitch", f"--small={saved}", large, *of_data, "--n_tokens=512"])
    again = json.loads((tmp_path / "b/stitch/stitched_to_b/stitch.json").read_text())
    steps = found["curve"]["steps"]
    [inserted] = [row for row in steps if row["n_large"] == n_novel and row["n_small"] == 10]
    assert again["curve"]["small"] == pytest.approx({of: inserted[of] for of in again["curve"]["small"]})


def test_the_loss_is_measured_on_rows_that_have_chosen_nothing(folder, monkeypatch):
    judged = []
    monkeypatch.setattr(comparison, "measure_loss", lambda _, __, rows, *args: judged.extend(rows) or {"latents": {}})
    small, large = (SparseAutoencoder.load(folder / f"run/saes/{name}/0") for name in ("x1", "x2"))
    data = datamodule(folder, val_samples=1600, loss_samples=1700)
    data.setup("validate")
    comparison.compare_saes(small, large, data, comparison.Settings(0.7, 2, 3, 100))
    n_choosing = len(data.val_dataloader()) // 2 * data.batch_size
    every_row = [row for inputs in data.validation_inputs() for row in zip(inputs.input_ids, inputs.mask, strict=True)]
    starts = torch.tensor([int(mask.sum()) for _, mask in every_row]).cumsum(0)
    n_used = int((starts < n_choosing).sum()) + 1  # rows with a token among those that chose
    expected = torch.stack([ids for ids, _ in every_row[n_used:]])
    rows = torch.cat([batch.input_ids for batch in judged])
    assert torch.equal(rows, expected[: len(rows)])
    assert 100 <= sum(int(batch.mask.sum()) for batch in judged) < 116
    with pytest.raises(
        ValueError, match=r"the held-out text has \d+ tokens: the first 768 .* give a smaller --n_tokens"
    ):
        loss.rows_that_judge(judged, 768, 100)


@pytest.mark.parametrize("leaves_out", [False, True])
@torch.no_grad()
def test_loss_of_one_latent_equals_running_the_model_on_everything(folder, leaves_out):
    data = datamodule(folder, loss_samples=100)
    if leaves_out:  # about a third of all are massive, and stay what they are
        median = float(data.calibration_sample(200).norm(dim=1).quantile(0.66)) / 10
        data.massive.load_state_dict({"norms": {"": {"median": median, "n": 1}}})
        inputs = next(iter(data.validation_inputs()))
        assert 0 < data.source.capture(inputs)[1].sum() < inputs.mask.sum()
    small, large = (SparseAutoencoder.load(folder / f"run/saes/{name}/0") for name in ("x1", "x2"))
    none = torch.full((16,), -1), torch.full((32,), -1)
    plan = schedule(torch.ones(32), torch.arange(32) < 5, *none, torch.zeros(32), 2)
    found = measure_loss(Stitcher(small, large, plan), data.source, data.validation_inputs(), [0, 2], [3, 30])
    for latent in (3, 30):
        sums = torch.zeros(2, 3, dtype=torch.float64)
        for inputs in data.validation_inputs():
            for i, inserted in enumerate((False, True)):

                def edit(x, inserted=inserted):
                    added = large.encode(x).to_dense()[:, latent, None] * large.W_dec[latent]  # noqa: B023
                    return small(x) + added * inserted

                logits = data.source.replace(inputs, lambda x, edit=edit: replace_valid(x, inputs.mask, edit))  # noqa: B023
                sums[i] += token_losses_update(logits, logits, inputs.input_ids, inputs.mask).sum(0)
        expected = float((sums[1, 0] - sums[0, 0]) / sums[0, 2])
        of = found["latents"][latent]
        assert of["change"] == pytest.approx(expected, abs=1e-7)
        assert of["low"] <= of["change"] <= of["high"]
    assert any(abs(of["change"]) > 1e-6 for of in found["latents"].values())
    assert found["ce"][0] == pytest.approx(float(sums[0, 0] / sums[0, 2]), abs=1e-6)
    assert found["ce"][2] != found["ce"][0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--small={run}/none", "--large={run}/x2/0"], ["none does not exist"]),
        (["--small={run}/x1/0", "--large={run}/none"], ["none does not exist"]),
        (["--small={run}/x1/0", "--large={run}/narrow/0"], ["d_in=16", "d_in=8"]),
        (["--small={run}/narrow/0", "--large={run}/narrow/0"], ["d_in=8", "activations 16"]),
        (["--small={run}/x1/0", "--large={run}/x2/0", "--n_tokens=64"], ["--n_tokens 64", "too few"]),
        (["--small={run}/x1/0", "--large={run}/x2/0", "--n_steps=0"], ["--n_steps 0"]),
        (["--small={run}/x1/0", "--large={run}/x2/0", "--cosine_threshold=2"], ["--cosine_threshold 2.0"]),
        (["--small={run}/x1/0", "--large={run}/x2/0", "--out={run}/x1/0/sae.json"], ["is a file"]),
        (["--small={run}/x1/0", "--large={run}/x2/0", "--data.hook=model.layers.1"], ["model.layers.0"]),
        (["--small={run}/x1/0"], ["large"]),
    ],
)
def test_wrong_input(folder, arguments, words, capsys):
    run = folder / "run/saes"
    with pytest.raises(SystemExit) as stop:
        main(["stitch", *(argument.format(run=run) for argument in arguments)])
    assert stop.value.code == 2
    message = capsys.readouterr().err
    for word in words:
        assert word in message
