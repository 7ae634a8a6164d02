"""``sae check`` through the real ``main``: what it asks for, what it refuses, and checks on a tiny model."""

import json
import os
import signal

import pytest
import tiny
import torch
import yaml

import sae_lightning.commands.fit  # noqa: F401 - imported in a test, Lightning would log to the stderr of that test
from sae_lightning.checking.check_file import read_check
from sae_lightning.cli import main
from sae_lightning.panel import SanityPanel
from sae_lightning.saes import BatchTopK, TopK

# Ablation costs a model with random weights nothing.
pytestmark = pytest.mark.filterwarnings("ignore:.*is withheld")
SMALL = ["--n_tokens=256", "--context_length=16", "--control_samples=512", "--latents=3", "--draws=2"]
FEW = ["--controls=[random_encoder, permuted_decoder]", "--nulls=[gaussian]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, text, SAEs of ours that say nothing of their training, and one in the format of SAELens that does."""
    folder = tmp_path_factory.mktemp("check")
    tiny.save_tiny_lm(folder / "model")
    tiny.save_text(folder / "text.jsonl", 300)
    x = torch.randn(600, 16, generator=torch.Generator().manual_seed(0)) + 2
    torch.save({"x": x, "y": x}, folder / "rows.pt")
    for name, d_sae in (("first", 40), ("second", 48)):
        sae = TopK(16, d_sae=d_sae, k=3)
        sae.initialise(0, x)
        sae.eval().save(folder / name)
    TopK(8, d_sae=16, k=2, b_dec_init=None).save(folder / "narrow")
    stated = BatchTopK(16, d_sae=40, k=3)
    stated.initialise(0, x)
    stated.threshold.fill_(0.5)
    stated.eval().save(folder / "other_hook")
    for name, hook in (("stated", "blocks.0.hook_resid_post"), ("other_hook", "blocks.1.hook_resid_post")):
        stated.provenance = {"imported": {"format": "SAELens", "stated": {"hook": hook, "context_length": 16}}}
        stated.save(folder / name)
    return folder


def run(capsys, *args):
    main(["check", *map(str, args)])
    return capsys.readouterr().out


def refused(capsys, *args):
    with pytest.raises(SystemExit):
        main(["check", *map(str, args)])
    return capsys.readouterr().err


def on_text(folder):
    return ["--model", folder / "model", "--text", folder / "text.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say which SAE"),
        (["{f}/nowhere"], "nowhere"),
        (["{f}/first"], "give --model, the language model that it reads, and --hook, the submodule"),
        (["{f}/first", "--model", "{f}/model", "--text", "{f}/text.jsonl"], "give --hook, the submodule that it reads"),
        (["{f}/stated", "--model", "{f}/model"], "give --text, files or folders of text"),
        (["{f}/first", "{f}/narrow", *["--model", "m", "--hook", "h", "--text", "t"]], "narrow has the d_in 8 and"),
        (["{f}/stated", "{f}/other_hook"], "other_hook has the hook output of block 1 and"),
        (["{f}/first", "{f}/first"], "is given twice"),
        (["{f}/first", "--budget", "hours 3"], "expected nulls, 'tokens N' such as"),
        (["{f}/first", "--budget", "tokens 0"], "--budget tokens 0: expected nulls"),
        (["{f}/first", "--controls", "[random_encodr]"], "did you mean random_encoder?"),
        (["{f}/first", "--nulls", "[noise]"], "--nulls noise: expected some of gaussian"),
        (["{f}/first", "--draws", "0"], "--draws=0: expected a whole number, 1 or more"),
        (["{f}/first", "--n_tokens", "1"], "--n_tokens=1: expected"),
        (["{f}/first", "--seeds", "[0, 0]"], "each once"),
        (["{f}/first", "--evaluation", "{f}/nowhere.yaml"], "nowhere.yaml: there is no such file"),
        (["{f}/first", "--evaluation", "{f}/model/config.json"], "expected trainer.callbacks+"),
        (["{f}/first", "--cache", "{f}/model"], "there is no manifest.json"),
        (["{f}/first", "--assume", "k=3"], "nothing is to be assumed"),
        (["{f}/first", "--config", "{f}/nowhere.yaml"], "nowhere.yaml"),
        (["{f}/first", "--key", "x"], "--key x: of which file? give --activations, too"),
        (["{f}/first", "--activations", "{f}/nowhere.npy"], "there is no such file or folder"),
        (["{f}/first", "--activations", "{f}/rows.pt", "--model", "m"], "without a model and text: leave out --model"),
        (["{f}/first", "--activations", "{f}/rows.pt", "--cache", "c"], "leave out --cache"),
        (["{f}/first", "--activations", "{f}/rows.pt", "--hook_input"], "leave out --hook_input"),
        (["{f}/first", "--activations", "{f}/rows.pt", "--text", "t"], "leave out --text"),
        (["{f}/first", "--activations", "{f}/rows.pt"], "say with key which of them are the activations"),
        (["{f}/narrow", "--activations", "{f}/rows.pt", "--key", "x"], "has rows of width 16 and"),
    ],
)
def test_wrong_input_is_named(folder, capsys, arguments, message):
    assert message in refused(capsys, *[one.format(f=folder) for one in arguments])


def test_an_sae_of_another_width_than_the_activations_is_refused(folder, capsys):
    err = refused(capsys, folder / "narrow", *on_text(folder), "--hook", "model.layers.0", *SMALL)
    assert "narrow has d_in=8, and the activations at its hook have 16" in err


def test_the_hook_of_another_library_is_found_in_the_model(folder, capsys):
    printed = yaml.safe_load(run(capsys, folder / "stated", *on_text(folder), "--print_config"))
    arguments = printed["data"]["init_args"]
    assert arguments["hook"] == "model.layers.0"
    assert arguments["context_length"] == 16
    assert printed["model"]["init_args"]["policies"] == {}
    assert set(printed["data"]["init_args"]["nulls"]) == {"gaussian", "shuffled", "reinitialised"}


def test_a_hook_that_the_model_lacks_is_asked_for(folder, capsys, tmp_path):
    sae = TopK(16, d_sae=40, k=3)
    sae.initialise(0, torch.randn(600, 16))
    sae.provenance = {"imported": {"format": "SAELens", "stated": {"hook": "blocks.7.hook_mlp_out"}}}
    sae.eval().save(tmp_path / "deep")
    err = refused(capsys, tmp_path / "deep", *on_text(folder))
    assert "states the hook blocks.7.hook_mlp_out, the output of the MLP of block 7" in err
    assert "--hook" in err


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    """A finished check of two SAEs."""
    out = tmp_path_factory.mktemp("finished") / "run"
    hook = ["--hook=model.layers.0"]
    main(
        [
            *map(str, ["check", folder / "first", folder / "second", *on_text(folder), *hook, *SMALL, *FEW]),
            f"--out={out}",
        ]
    )
    return out


def test_a_check_leaves_numbers_a_page_and_the_run(finished):
    check = read_check(finished / "check.json")
    assert [sae["name"] for sae in check["saes"]] == ["first", "second"]
    for sae in check["saes"]:
        assert sae["l0"] == 3
        assert set(sae["controls"]) == {"random_encoder", "permuted_decoder"}
        assert all(abs(control["l0_off"]) < 0.05 for control in sae["controls"].values())
        against = sae["metrics"]["explained_variance"]["controls"]["random_encoder"]
        assert len(against["draws"]) == 2
        assert against["value"] == pytest.approx(sum(against["draws"]) / 2)
        assert against["difference"] == pytest.approx(sae["metrics"]["explained_variance"]["value"] - against["value"])
        assert set(sae["null_data"]) == {"gaussian"}
        assert {question["metric"] for question in sae["questions"]} >= {"explained_variance", "ce_recovered_mean"}
        limits = " ".join(sae["limits"])
        assert "Nothing was trained" in limits
        assert "Decoders of random encoders are fitted to 512 activations" in limits
        assert "null data are left out" not in limits
    data = check["data"]
    assert data["hook"] == "model.layers.0"
    assert data["text"]["files"] == ["text.jsonl"]
    assert len(data["text"]["sha256"]) == 64
    assert data["n_tokens"] == 256
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert "What this cannot say" in page
    assert "Does it beat its controls?" in page


def test_a_finished_check_is_not_overwritten(folder, finished, capsys):
    before = (finished / "check.json").read_bytes()
    err = refused(capsys, folder / "first", *on_text(folder), "--hook=model.layers.0", *SMALL, *FEW, "--out", finished)
    assert "holds a finished check, which is not overwritten" in err
    assert (finished / "check.json").read_bytes() == before


def test_the_configuration_that_is_printed_runs_to_the_same_numbers(folder, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [folder / "first", *on_text(folder), "--hook=model.layers.0", *SMALL, *FEW]
    main(list(map(str, ["check", *arguments, "--out", tmp_path / "run"])))
    screen, told = capsys.readouterr()
    assert max(map(len, screen.splitlines()[:-2])) <= 80
    cost = told[told.index("time  ") : told.index("memory  ")].splitlines()
    assert "measured on" in " ".join(cost)
    assert max(map(len, cost)) <= 80
    (tmp_path / "printed.yaml").write_text(run(capsys, *arguments, "--print_config"))
    main(["validate", f"--config={tmp_path / 'printed.yaml'}", "--verbose=false"])
    capsys.readouterr()
    lines = [
        json.loads((path / "metrics.jsonl").read_text().splitlines()[-1])["metrics"]
        for path in (tmp_path / "run", tmp_path / "lightning_logs/check/version_0")
    ]
    assert lines[0] == lines[1]
    again = run(capsys, "--config", tmp_path / "printed.yaml", "--print_config")
    assert yaml.safe_load(again)["model"] == yaml.safe_load((tmp_path / "printed.yaml").read_text())["model"]


def test_a_check_that_was_interrupted_goes_on(folder, capsys, tmp_path, monkeypatch):
    """Nothing but the configuration is there; then a run that was measured, without check.json."""
    arguments = [folder / "first", *on_text(folder), "--hook=model.layers.0", *SMALL, *FEW, "--out", tmp_path / "run"]

    def stop(*args, **kwargs):
        raise ValueError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr("sae_lightning.evaluators.LossRecovered.scores", stop)
        assert "stopped" in refused(capsys, *arguments)
    assert (tmp_path / "run/config.yaml").is_file()
    assert "holds a check with draws=2, and this one has draws=3" in refused(capsys, *arguments, "--draws=3")
    with monkeypatch.context() as patch:
        patch.setattr("sae_lightning.commands.report.write_page", stop)
        assert "stopped" in refused(capsys, *arguments)
    metrics = (tmp_path / "run/metrics.jsonl").read_bytes()
    (tmp_path / "run/check.json").unlink(missing_ok=True)
    assert "Does it beat its controls?" in run(capsys, *arguments)
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == metrics


def test_a_training_budget_adds_a_remake_and_its_twins(folder, capsys, tmp_path):
    arguments = [folder / "first", *on_text(folder), "--hook=model.layers.0", *SMALL, "--controls=[random_encoder]"]
    budget = ["--budget", "tokens 4096", "--seeds=[0, 1]", "--out", tmp_path / "run"]
    out = run(capsys, *arguments, *budget)
    assert "Does a re-make on 4,096 tokens beat its twins?" in out
    [sae] = read_check(tmp_path / "run/check.json")["saes"]
    limits = " ".join(sae["limits"])
    assert "null data are left out" in limits
    assert "saw 4,096 activations; how many the published SAE saw: not stated" in limits
    remake = sae["remake"]
    assert remake["settings"]["class_path"] == "TopK"
    assert remake["settings"]["init_args"]["k"] == 3
    assert "learning_rate" in remake["filled_in"]
    policies = {"trained", "frozen_decoder", "soft_frozen_decoder", "frozen_encoder"}
    assert set(remake["l0"]) == policies
    assert all(abs(l0 / sae["l0"] - 1) < 0.05 for draws in remake["l0"].values() for l0 in draws.values())
    assert {question["metric"] for question in remake["questions"]} >= {"explained_variance"}
    assert {path.name for path in (tmp_path / "run/saes").iterdir()} == {*policies, "published", "random_encoder"}


TRAINED = ["--controls=[random_encoder]", "--budget=tokens 4096", "--seeds=[0]"]


def numbers(path):
    """Return what a check measured of its SAE and of the re-make."""
    [sae] = read_check(path / "check.json")["saes"]
    values = {name: metric["value"] for name, metric in sae["metrics"].items()}
    return values, sae["remake"]["values"], sae["remake"]["l0"]


@pytest.fixture(scope="module")
def uninterrupted(folder, tmp_path_factory):
    """What a check measured that trained, and was not stopped."""
    out = tmp_path_factory.mktemp("uninterrupted") / "run"
    main(
        [
            "check",
            *map(str, [folder / "first", *on_text(folder), "--hook=model.layers.0", *SMALL, *TRAINED]),
            f"--out={out}",
        ]
    )
    return numbers(out)


def stop_by_signal(monkeypatch):
    step = SanityPanel.training_step

    def stopping(self, batch, *args):
        if self.trainer.global_step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch, *args)

    monkeypatch.setattr(SanityPanel, "training_step", stopping)


def stop_in_the_last_validation(monkeypatch):
    def failing(*args, **kwargs):
        raise ValueError("stopped")

    monkeypatch.setattr("sae_lightning.evaluators.LossRecovered.scores", failing)


def stop_before_the_saes_are_written(monkeypatch):
    def failing(*args, **kwargs):
        raise ValueError("stopped")

    monkeypatch.setattr("sae_lightning.callbacks.ExportSAEs.on_fit_end", failing)


@pytest.mark.parametrize("stop", [stop_by_signal, stop_in_the_last_validation, stop_before_the_saes_are_written])
def test_a_training_that_was_stopped_goes_on_to_the_same_numbers(folder, uninterrupted, tmp_path, monkeypatch, stop):
    arguments = [
        folder / "first",
        *on_text(folder),
        "--hook=model.layers.0",
        *SMALL,
        *TRAINED,
        "--out",
        tmp_path / "run",
    ]
    with monkeypatch.context() as patch:
        stop(patch)
        with pytest.raises(SystemExit):
            main(["check", *map(str, arguments)])
    assert not (tmp_path / "run/check.json").exists()
    assert not (tmp_path / "run/saes").exists()
    main(["check", *map(str, arguments)])
    assert numbers(tmp_path / "run") == uninterrupted


def test_minutes_become_tokens_before_the_configuration_is_written(folder, capsys):
    arguments = [folder / "first", *on_text(folder), "--hook=model.layers.0", *SMALL, "--controls=[]"]
    printed = yaml.safe_load(run(capsys, *arguments, "--budget", "minutes 0.5", "--print_config"))
    assert printed["data"]["init_args"]["train_samples"] > 1000
    assert "frozen_decoder" in printed["model"]["init_args"]["policies"]


def test_a_cache_gives_the_activations(folder, capsys, tmp_path):
    data = tiny.save_lm_data(tmp_path, 300, context_length=16, batch_size=64, buffer_samples=200, llm_batch_size=4)
    data["init_args"] |= {"train_samples": 1024, "val_samples": 256, "loss_samples": 256}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({"data": data}))
    main(["cache", f"--config={tmp_path / 'data.yaml'}", f"--out={tmp_path / 'cache'}"])
    capsys.readouterr()
    arguments = ["--cache", tmp_path / "cache", "--n_tokens=256", "--control_samples=512", "--latents=0"]
    out = run(capsys, folder / "first", *arguments, "--controls=[permuted_decoder]", "--out", tmp_path / "run")
    assert "on 256 held-out activations" in out
    assert "has activations at model.layers.0" in refused(capsys, folder / "other_hook", *arguments)
    assert "has activations of width 16" in refused(capsys, folder / "narrow", *arguments)
    assert "leave out --model" in refused(capsys, folder / "first", *arguments, "--model", folder / "model")


ON_FILE = ["--control_samples=512", "--latents=0", "--draws=2"]


def test_activations_in_a_file_need_no_model(folder, capsys, tmp_path):
    torch.save(torch.randn(600, 16, generator=torch.Generator().manual_seed(0)) + 2, tmp_path / "rows.pt")
    arguments = [folder / "first", "--activations", tmp_path / "rows.pt", *ON_FILE, "--out", tmp_path / "run"]
    controls = "--controls=[random_encoder, permuted_decoder, principal_components]"
    out = run(capsys, *arguments, controls)
    assert "on 288 held-out activations" in out
    assert "loss is not measured. The last 300 of 600 rows" in " ".join(out.split())
    assert "sorted" not in out
    check = read_check(tmp_path / "run/check.json")
    data = check["data"]
    assert data["class"] == "ActivationFiles"
    assert data["model"] is data["hook"] is None
    assert data["text"]["files"] == ["rows.pt"]
    assert len(data["text"]["rows_sha256"]) == 64
    assert (data["n_tokens"], check["control_samples"], check["evaluators"]) == (288, 300, [])
    [sae] = check["saes"]
    assert set(sae["null_data"]) == {"gaussian", "shuffled"}
    assert set(sae["controls"]) == {"random_encoder", "permuted_decoder", "principal_components"}
    assert sae["metrics"]["explained_variance"]["value"] is not None
    assert "ce_recovered_mean" not in sae["metrics"]


def test_a_sorted_file_and_controls_that_cannot_be_are_told(folder, capsys, tmp_path):
    """All of the latents but two are active, more than there are dimensions."""
    x = torch.randn(600, 16, generator=torch.Generator().manual_seed(0))
    torch.save({"x": x * torch.linspace(1, 3, 600)[:, None], "y": x}, tmp_path / "rows.pt")
    sae = TopK(16, d_sae=40, k=38)
    sae.initialise(0, x)
    sae.b_enc.data.fill_(100)
    sae.eval().save(tmp_path / "dense")
    arguments = [tmp_path / "dense", "--activations", tmp_path / "rows.pt", "--key=x", *ON_FILE, "--nulls=[]"]
    controls = "--controls=[permuted_decoder, raw_dimensions, principal_components, own_rows_pursuit]"
    run(capsys, *arguments, controls, "--out", tmp_path / "run")
    [checked] = read_check(tmp_path / "run/check.json")["saes"]
    assert set(checked["controls"]) == {"permuted_decoder"}
    told = " ".join(checked["limits"])
    assert "Left out: own_rows_pursuit, principal_components, raw_dimensions, of which at most 16 latents" in told
    assert "the file seems to be sorted" in told


def test_a_remake_is_trained_on_the_rows_of_a_file(folder, capsys, tmp_path):
    torch.save(torch.randn(600, 16, generator=torch.Generator().manual_seed(0)) + 2, tmp_path / "rows.pt")
    arguments = [folder / "first", "--activations", tmp_path / "rows.pt", *ON_FILE, "--controls=[]"]
    run(capsys, *arguments, "--budget", "tokens 2048", "--seeds=[0, 1]", "--out", tmp_path / "run")
    [sae] = read_check(tmp_path / "run/check.json")["saes"]
    assert sae["remake"]["settings"]["class_path"] == "TopK"
    assert "The re-make reads the 540 training rows 3.8 times." in sae["limits"]
    own = tmp_path / "run/saes/trained/0"
    run(capsys, own, *ON_FILE, "--controls=[permuted_decoder]", "--nulls=[]", "--out", tmp_path / "own")
    data = read_check(tmp_path / "own/check.json")["data"]
    assert (data["class"], data["n_tokens"]) == ("ActivationFiles", 32)
