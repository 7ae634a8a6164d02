"""Resuming with other settings, starting into a folder that is taken, and files that are no checkpoint."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger

from sae_lightning.cli import main
from sae_lightning.commands.fit import SAECLI  # noqa: F401 - imported in a test, Lightning would log to its stderr
from sae_lightning.runs.starts import read_starts

SETTINGS = """
model: {class_path: TopK, init_args: {d_sae: 16, k: 2}}
data:
  class_path: SyntheticDataModule
  init_args: {d_in: 8, n_features: 16, batch_size: 16, train_samples: 320, val_samples: 64}
trainer:
  accelerator: cpu
  val_check_interval: 10
  log_every_n_steps: 5
  enable_model_summary: false
  enable_progress_bar: false
name: tiny
"""
RUN = Path("lightning_logs/tiny/version_0")
LAST = RUN / "checkpoints/last.ckpt"
SAE = "saes/trained/0/sae.safetensors"


class Poison(Callback):
    """Makes the SAE nan after a step."""

    def __init__(self, step=13):
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, *args):
        if trainer.global_step == self.step:
            pl_module.b_dec.data[0] = torch.nan


class NoFolder(Logger):
    """A logger that has no folder for a run."""

    name, version = "none", 0

    def log_metrics(self, metrics, step=None):
        pass

    def log_hyperparams(self, params, *args, **kwargs):
        pass


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with the run of 20 steps, as `sae fit` leaves it."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("given.yaml").write_text(SETTINGS)
        main(["fit", "--config", "given.yaml"])
    return folder


@pytest.fixture(autouse=True)
def _copy(finished, tmp_path, monkeypatch):
    shutil.copytree(finished, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def resume(*changes, command="fit"):
    main([command, f"--config={RUN / 'config.yaml'}", f"--ckpt_path={LAST}", *changes])


def refused(capsys, *args, code=2):
    """Run something that is refused; return the message."""
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    assert stop.value.code == code
    told = capsys.readouterr().err
    return told[told.index("error: ") :]


def files():
    """Content of what the run has left; each start opens a file of curves of its own."""
    return {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file() and "tfevents" not in path.name}


def steps(run=RUN):
    return [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def settings(name="config.yaml"):
    return yaml.safe_load((RUN / name).read_text())


def settings_of(run):
    return yaml.safe_load((run / "config.yaml").read_text())


@pytest.mark.parametrize(
    "change", ["--data.train_samples=480", "--trainer.max_epochs=2", "--trainer.val_check_interval=20"]
)
def test_a_finished_run_goes_on_as_the_longer_run_would_have(change):
    resume(change)
    main(["fit", "--config", "given.yaml", change])
    whole = RUN.with_name("version_1")
    if "samples" in change:
        assert steps() == steps(whole) == [10, 20, 30]
        assert settings()["data"]["init_args"]["train_samples"] == 480
        assert settings("config_to_step_20.yaml")["data"]["init_args"]["train_samples"] == 320
        assert read_starts(RUN)[-1]["resumed"] == {"step": 20, "changes": ["data.train_samples 320 -> 480"]}
    elif "epochs" in change:
        assert steps() == steps(whole) == [10, 20, 30, 40]
    else:  # nothing is left to train, so nothing is changed, and nothing claimed
        assert settings()["trainer"]["val_check_interval"] == 10
        assert read_starts(RUN)[-1]["trained"] is False
    assert (RUN / SAE).read_bytes() == (whole / SAE).read_bytes()


def test_a_run_that_max_steps_ended_goes_on():
    main(["fit", "--config", "given.yaml", "--name=short", "--trainer.max_steps=7"])
    run = Path("lightning_logs/short/version_0")
    last = run / "checkpoints/last.ckpt"
    main(["fit", f"--config={run / 'config.yaml'}", f"--ckpt_path={last}", "--trainer.max_steps=-1"])
    assert steps(run) == [10, 20]
    assert (run / SAE).read_bytes() == (RUN / SAE).read_bytes()


def test_a_new_learning_rate_is_used_and_recorded(capsys):
    optimizer = ["--model.optimizer=torch.optim.Adam", "--model.optimizer.lr=1e-12", "--data.train_samples=480"]
    before = torch.load(LAST, weights_only=True)["state_dict"]["W_enc"]
    resume(*optimizer)
    told = " ".join(capsys.readouterr().err.split())
    assert "changed: data.train_samples 320 -> 480; model.optimizer.lr 0.001 -> 1e-12" in told
    assert "the learning rate of the next step is 1e-12, and was to be 0.001" in told
    after = torch.load(LAST, weights_only=True)
    assert after["optimizer_states"][0]["param_groups"][0]["lr"] == 1e-12
    torch.testing.assert_close(after["state_dict"]["W_enc"], before, atol=1e-8, rtol=0)
    kept = json.loads((RUN / "saes/trained/0/sae.json").read_text())["provenance"]
    assert kept["optimizer"]["groups"][0]["lr"] == 1e-12
    assert kept["changed"] == [
        {"step": 20, "changed": {"data.train_samples": [320, 480], "model.optimizer.lr": [0.001, 1e-12]}}
    ]


def test_a_schedule_spans_the_longer_run(capsys):
    main(["fit", "--config", "given.yaml", "--name=decay", "--model.lr_scheduler=WarmupDecay"])
    run = Path("lightning_logs/decay/version_0")
    last = run / "checkpoints/last.ckpt"
    assert torch.load(last, weights_only=True)["optimizer_states"][0]["param_groups"][0]["lr"] == 0
    main(["fit", f"--config={run / 'config.yaml'}", f"--ckpt_path={last}", "--data.train_samples=640"])
    told = " ".join(capsys.readouterr().err.split())
    assert "model.lr_scheduler.total_steps 20 -> 40" in told
    assert "the learning rate of the next step is 0.001, and was to be 0" in told
    state = torch.load(last, weights_only=True)
    assert state["lr_schedulers"][0]["total_steps"] == state["global_step"] == 40


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("--model.k=3", "model.k=3, it has 2"),
        ("--model.seed=5", "the checkpoint has the SAEs trained/0, the configuration trained/5"),
        ("--model.aux_coefficient=0.5", "model.aux_coefficient=0.5, it has"),
        ("--freeze=FrozenDecoder", "the checkpoint has the SAEs trained/0, the configuration frozen_decoder/0"),
        ("--data.seed=5", "data.seed=5, it has 0"),
        ("--data.batch_size=8", "data.batch_size=8, it has 16"),
        ("--data.n_features=17", "data.n_features=17, it has 16"),
        ("--data.train_samples=160", "an epoch is to have 10 batches, and the checkpoint has trained on 20"),
        ("--model.optimizer=torch.optim.SGD", "model.optimizer=SGD, and the checkpoint has Adam"),
        ("--model.lr_scheduler=WarmupDecay", "model.lr_scheduler=WarmupDecay, and the checkpoint has None"),
    ],
)
def test_what_would_make_another_run_is_refused_by_name(capsys, change, expected):
    before = files()
    message = refused(capsys, "fit", f"--config={RUN / 'config.yaml'}", f"--ckpt_path={LAST}", change)
    assert expected in message
    assert files() == before
    assert [path.name for path in RUN.parent.iterdir()] == ["version_0"]


@pytest.mark.parametrize(
    ("change", "expected"), [("--model.k=3", "model.k=3"), ("--data.n_features=17", "data.n_features=17, it has 16")]
)
def test_a_validation_of_another_sae_or_other_activations_is_refused(capsys, change, expected):
    assert expected in refused(capsys, "validate", f"--config={RUN / 'config.yaml'}", f"--ckpt_path={LAST}", change)
    assert not [path for path in RUN.with_name("version_1").rglob("*") if "tfevents" not in path.name]


def test_a_checkpoint_of_a_newer_format_is_refused(capsys):
    state = torch.load(LAST, weights_only=True)
    state["sae_lightning"]["format_version"] = 9
    torch.save(state, "newer.ckpt")
    message = refused(capsys, "validate", f"--config={RUN / 'config.yaml'}", "--ckpt_path=newer.ckpt")
    assert "the checkpoint has format 9" in message
    del state["sae_lightning"]
    torch.save(state, "older.ckpt")
    main(["validate", f"--config={RUN / 'config.yaml'}", "--ckpt_path=older.ckpt"])
    assert (RUN.with_name("version_2") / "metrics.jsonl").is_file()


@pytest.mark.parametrize("command", ["fit", "validate", "csv"])
def test_a_run_is_not_overwritten(capsys, command):
    before = files()
    args = {
        "fit": ["fit", "--config=given.yaml"],
        "validate": ["validate", f"--config={RUN / 'config.yaml'}", f"--ckpt_path={LAST}"],
        "csv": ["fit", "--config=given.yaml", "--trainer.logger=CSVLogger", "--trainer.logger.save_dir=lightning_logs"],
    }[command]
    message = refused(capsys, *args, "--trainer.logger.version=0")
    assert f"error: {RUN} holds a run already" in message
    assert f"resume that run: sae fit --config {RUN / 'config.yaml'} --ckpt_path {LAST}" in message
    assert files() == before
    assert not list(RUN.glob("*.csv"))


@pytest.mark.parametrize("logger", [["--trainer.logger=false"], [f"--trainer.logger={__name__}.NoFolder"]])
def test_without_curves_a_run_leaves_the_rest(capsys, logger, monkeypatch):
    main(["fit", "--config=given.yaml", *logger])
    run = RUN.with_name("version_1")
    assert steps(run) == [10, 20]
    assert (run / SAE).read_bytes() == (RUN / SAE).read_bytes()
    assert (run / "checkpoints/last.ckpt").exists()
    told = capsys.readouterr().out
    assert "explained_variance" in told
    assert "tensorboard" not in told
    main(["fit", f"--config={run}/config.yaml", f"--ckpt_path={run}/checkpoints/last.ckpt", "--data.train_samples=480"])
    assert steps(run) == [10, 20, 30]


def test_a_csv_file_has_the_metrics_by_their_names():
    options = ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=lightning_logs", "--name=csv"]
    main(["fit", "--config=given.yaml", *options])
    with Path("lightning_logs/csv/version_0/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    last = json.loads(Path("lightning_logs/csv/version_0/metrics.jsonl").read_text().splitlines()[-1])
    value = last["metrics"]["explained_variance"]["trained"]["0"]
    assert [float(row["val/explained_variance/trained/0"]) for row in rows if row["val/fvu/trained/0"]][-1] == (
        pytest.approx(value)
    )


@pytest.mark.parametrize("name", ["../..", "..", "/elsewhere", "a/../../b", "", "a" * 300])
@pytest.mark.parametrize("option", ["--name", "--trainer.logger.version"])
def test_a_name_stays_inside_the_folder_of_all_runs(capsys, option, name):
    if option == "--name" or name:
        assert f"error: {option[2:]}={name}: expected" in refused(
            capsys, "fit", "--config=given.yaml", f"{option}={name}"
        )


@pytest.mark.parametrize("option", ["max_steps", "max_epochs", "limit_train_batches"])
def test_a_fit_that_trains_nothing_is_refused(capsys, option):
    message = refused(capsys, "fit", "--config=given.yaml", f"--trainer.{option}=0")
    assert f"trainer.{option}=0: nothing would be trained" in message


def test_only_what_is_there_is_printed(capsys):
    main(["fit", "--config=given.yaml", "--trainer.enable_checkpointing=false"])
    assert "checkpoints" not in capsys.readouterr().out


@pytest.mark.parametrize("checkpoints", ["true", "false"])
def test_an_sae_that_is_not_finite_is_neither_kept_nor_exported(capsys, checkpoints):
    poison = [f"--trainer.callbacks={__name__}.Poison", f"--trainer.enable_checkpointing={checkpoints}"]
    quiet = ["--trainer.log_every_n_steps=20"]
    message = refused(capsys, "fit", "--config=given.yaml", "--name=poisoned", *poison, *quiet)
    run = Path("lightning_logs/poisoned/version_0")
    assert "not finite" in message
    assert not (run / "saes").exists()
    if checkpoints == "true":
        assert "the loss became nan, since b_dec has" in message
        assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 10


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (lambda last: last[: len(last) // 2], "is no checkpoint, or is cut off or damaged"),
        (lambda last: b"", "this file of 0 bytes is no checkpoint"),
        (lambda last: (RUN / SAE).read_bytes(), "is no checkpoint"),
        ({"weight": 1}, "it holds weight, and lacks state_dict"),
        ([1, 2], "it holds list"),
        (
            {"state_dict": {"layer.weight": 1}, "loops": {}, "global_step": 0, "pytorch-lightning_version": "2"},
            "a checkpoint of another model, with layer.weight",
        ),
    ],
)
@pytest.mark.parametrize("command", ["fit", "validate"])
def test_what_is_no_checkpoint_is_named(capsys, command, content, expected):
    if callable(content):
        Path("other.ckpt").write_bytes(content(LAST.read_bytes()))
    else:
        torch.save(content, "other.ckpt")
    message = refused(capsys, command, f"--config={RUN / 'config.yaml'}", "--ckpt_path=other.ckpt")
    assert message.startswith("error: ckpt_path=other.ckpt: ")
    assert expected in message
    assert "expected a checkpoint of `sae fit`, such as" in message


@pytest.mark.parametrize("content", [b"model: [", b"\x7fELF\x02\x01\xd0\xff", b"model: {class_path"])
def test_what_is_no_configuration_is_named(capsys, content):
    Path("bad.yaml").write_bytes(content)
    for given in (["--config=bad.yaml"], ["--config", "bad.yaml"], ["-c", "bad.yaml"]):
        assert "error: --config bad.yaml" in refused(capsys, "fit", *given)


def test_a_run_that_begins_with_the_checkpoint_of_another_leaves_that_as_it_is():
    before = files()
    main(["fit", "--config=given.yaml", f"--ckpt_path={LAST}", "--data.train_samples=480"])
    assert files() == before
    other = RUN.with_name("version_1")
    assert steps(other) == [30]
    assert [path.name for path in sorted((other / "checkpoints").iterdir())] == ["last.ckpt", "step=30.ckpt"]
    assert read_starts(other)[0]["resumed"]["step"] == 20
    assert settings_of(other)["ckpt_path"] == str(LAST)


def test_a_folder_that_cannot_be_written_is_one_message(capsys):
    Path("file").touch()
    message = refused(capsys, "fit", "--config=given.yaml", "--trainer.logger.save_dir=file")
    assert "file" in message.splitlines()[0]
