"""``sae fit``, ``validate`` and ``test`` as a user meets them, through the real ``main``."""

import json
import signal
from pathlib import Path

import pytest
import torch
import yaml
from fit_in_server import launch

from sae_lightning import cpu_settings
from sae_lightning.cli import main
from sae_lightning.commands.fit import SAECLI  # imported in a test, Lightning would log to the stderr of that test

DATA = """
data:
  class_path: SyntheticDataModule
  init_args: {d_in: 8, n_features: 16, batch_size: 16, train_samples: 320, val_samples: 64}
trainer:
  accelerator: cpu
  val_check_interval: 10
  log_every_n_steps: 5
  enable_model_summary: false
name: tiny
"""
LONE = DATA + "model: {class_path: TopK, init_args: {d_sae: 16, k: 2}}\n"
PANEL = DATA + (
    "model:\n"
    "  class_path: SanityPanel\n"
    "  init_args:\n"
    "    sae: {class_path: TopK, init_args: {d_sae: 16, k: 2}}\n"
    "    seeds: [0, 1]\n"
)


SHARDED = LONE.replace("  accelerator: cpu", "  accelerator: cpu\n  strategy: {class_path: ModelParallelStrategy}")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    precision = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(precision)


def write(text: str, name: str = "given.yaml") -> str:
    Path(name).write_text(text)
    return name


def mistake(capsys: pytest.CaptureFixture, *args: str) -> str:
    """Run something impossible; return what stands on stderr."""
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    assert stop.value.code == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told
    return told[told.index("error: ") :]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["fit", "--help"], "--freeze"),
        (["fit", "--model.help", "TopK"], "--model.k K"),
        (["fit", "--freeze.help", "SoftFrozenDecoder"], "--freeze.min_cosine"),
    ],
)
def test_help_of_a_command_and_of_a_class(capsys: pytest.CaptureFixture, args: list[str], expected: str):
    with pytest.raises(SystemExit) as stop:
        main(args)
    assert stop.value.code == 0
    assert expected in capsys.readouterr().out


def test_print_config_is_a_config(capsys: pytest.CaptureFixture):
    short = ["--model", "TopK", "--model.d_sae", "16", "--data", "SyntheticDataModule", "--freeze", "FrozenDecoder"]
    with pytest.raises(SystemExit):
        main(["fit", *short, "--print_config"])
    printed = capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["fit", "--config", write(printed), "--print_config"])
    again = capsys.readouterr().out
    assert yaml.safe_load(printed) == yaml.safe_load(again)
    assert yaml.safe_load(printed)["trainer"]["max_epochs"] == 1


@pytest.mark.parametrize(
    ("text", "args", "expected"),
    [
        (
            LONE.replace("k: 2", "k: 17"),
            [],
            "error: model.k=17: expected a whole number, 1 to 16, since model.d_sae=16\n",
        ),
        (LONE.replace("k: 2", "k: two"), [], "error: model.k: expected int, got two\n"),
        (LONE.replace("k: 2", "kk: 2"), [], "error: model: TopK has no option 'kk'; did you mean --model.k?\n"),
        (LONE.replace("TopK", "TopKK"), [], "error: model: no class TopKK; did you mean TopK?\n"),
        (LONE, ["--data.dependence=CorelatedFiring"], "no class CorelatedFiring; did you mean CorrelatedFiring?\n"),
        (PANEL.replace("k: 2", "k: two"), [], "error: model.sae.k: expected int, got two\n"),
        (LONE.replace("TopK", "[}"), [], "error: --config given.yaml: line 11, column 22: expected the node content"),
        (LONE, ["--trainer.max_epochs", "many"], "error: trainer.max_epochs: expected int, got many\n"),
        (LONE, ["--ckpt_path", "none.ckpt"], "error: ckpt_path=none.ckpt: no such file"),
        (
            LONE,
            ["--config", "none.yaml"],
            "error: --config none.yaml: there is no such file; in its folder are given.yaml",
        ),
        (PANEL, ["--freeze", "FrozenDecoder"], "error: freeze=sae_lightning.freeze.FrozenDecoder beside a SanityPanel"),
        (LONE, ["--trainer.strategy", "fsdp"], "error: trainer.strategy=fsdp splits an SAE over devices"),
        (LONE, ["--trainer.strategy", "members"], "is a lone SAE: take trainer.strategy=ddp"),
        (SHARDED, [], "error: trainer.strategy=ModelParallelStrategy splits an SAE over devices"),
    ],
)
def test_a_mistake_is_one_message(capsys: pytest.CaptureFixture, text: str, args: list[str], expected: str):
    assert expected in mistake(capsys, "fit", "--config", write(text), *args)
    assert not Path("lightning_logs").exists()  # nothing was started


def test_debug_keeps_the_traceback(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SAE_DEBUG", "1")
    with pytest.raises(ValueError, match="TopKK"):
        main(["fit", "--config", write(LONE.replace("TopK", "TopKK"))])


def test_validate_needs_a_checkpoint(capsys: pytest.CaptureFixture):
    assert "needs the checkpoint" in mistake(capsys, "validate", "--config", write(LONE))


def test_a_run_leaves_what_the_readme_promises(capsys: pytest.CaptureFixture):
    main(["fit", "--config", write(PANEL)])
    run = Path("lightning_logs/tiny/version_0")
    told = capsys.readouterr().out
    assert f"tensorboard --logdir {run}" in told
    assert "explained_variance" in told

    policies = {"trained", "frozen_decoder", "soft_frozen_decoder", "frozen_encoder"}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20]
    assert [line["samples"] for line in lines] == [160, 320]
    counters = {"format", "step", "samples", "seconds", "metrics", "floors", "saes"}
    assert set(lines[0]) == counters | {"about"}, "metrics are described once"
    assert set(lines[-1]) == counters
    assert set(lines[-1]["metrics"]["explained_variance"]) == policies
    assert set(lines[-1]["metrics"]["explained_variance"]["trained"]) == {"0", "1"}
    assert lines[-1]["floors"]["explained_variance"] == pytest.approx(0, abs=0.05)

    exported = {path.parent.relative_to(run / "saes") for path in (run / "saes").glob("*/*/sae.safetensors")}
    assert exported == {Path(policy) / seed for policy in policies for seed in "01"}
    checkpoint = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 20
    assert (run / "trained-0").is_dir()
    assert not list(run.glob("hparams.yaml"))

    # A second run, from the configuration of the first, is a run of its own ...
    main(["fit", "--config", str(run / "config.yaml")])
    second = run.with_name("version_1")
    last = json.loads((second / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["metrics"] == lines[-1]["metrics"]  # ... and gives the same numbers.

    # What was saved scores what it scored in training.
    main(["validate", "--config", str(run / "config.yaml"), "--ckpt_path", str(run / "checkpoints/last.ckpt")])
    again = json.loads((run.with_name("version_2") / "metrics.jsonl").read_text())
    assert again["metrics"]["explained_variance"] == lines[-1]["metrics"]["explained_variance"]


def test_lone_sae_with_a_freeze_policy():
    main(["fit", "--config", write(LONE), "--freeze", "FrozenDecoder"])
    line = json.loads(Path("lightning_logs/tiny/version_0/metrics.jsonl").read_text().splitlines()[-1])
    assert set(line["metrics"]["explained_variance"]) == {"frozen_decoder"}


@pytest.mark.parametrize(
    "args",
    [
        ["--trainer.logger", "false"],
        ["--trainer.fast_dev_run", "true"],
        ["--trainer.enable_checkpointing", "false"],
        ["--trainer.enable_progress_bar", "false"],
    ],
)
def test_lightnings_own_switches_work(args: list[str]):
    main(["fit", "--config", write(LONE), *args])
    assert not Path("config.yaml").exists()


def test_the_end_is_saved_after_the_last_validation():
    main(["fit", "--config", write(LONE), "--trainer.val_check_interval", "15"])
    checkpoints = Path("lightning_logs/tiny/version_0/checkpoints")
    assert torch.load(checkpoints / "last.ckpt", weights_only=True)["global_step"] == 20
    assert sorted(path.name for path in checkpoints.iterdir()) == ["last.ckpt", "step=20.ckpt"]


@pytest.mark.parametrize("name", ["SIGTERM", pytest.param("SIGINT", marks=pytest.mark.slow)])
def test_an_interrupted_run_goes_on_where_it_stopped(name: str):
    config = write(LONE)
    main(["fit", "--config", config])
    whole = Path("lightning_logs/tiny/version_0")

    callback = ["--trainer.callbacks+=fit_in_server.RaiseSignal", f"--trainer.callbacks.name={name}"]
    code, errors = launch(Path.cwd(), "fit", "--config", config, *callback)
    assert code == 128 + getattr(signal, name), errors
    run = Path("lightning_logs/tiny/version_1")
    assert torch.load(run / "checkpoints/interrupted.ckpt", weights_only=True)["global_step"] == 13
    told = errors.splitlines()
    to_go_on = next(line.split() for line in told if line.startswith("  sae fit"))

    config_of_run = yaml.safe_load((run / "config.yaml").read_text())
    config_of_run["trainer"]["callbacks"] = None  # without the one that killed it
    (run / "config.yaml").write_text(yaml.safe_dump(config_of_run))
    main(to_go_on[1:])
    assert not run.with_name("version_2").exists()  # it went on in its own folder
    assert yaml.safe_load((run / "config.yaml").read_text())["ckpt_path"] is None
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["logger"]["init_args"]["version"] is None
    parts = [(folder / "saes/trained/0/sae.safetensors").read_bytes() for folder in (whole, run)]
    assert parts[0] == parts[1]
    both = [
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()] for folder in (whole, run)
    ]
    for before, after in zip(*both, strict=True):
        assert (before["step"], before["samples"], before["metrics"]) == (
            after["step"],
            after["samples"],
            after["metrics"],
        )


def test_memory_is_kept_once_the_model_is_built(monkeypatch: pytest.MonkeyPatch):
    happened = []
    build = SAECLI.instantiate_classes
    monkeypatch.setattr(SAECLI, "instantiate_classes", lambda cli: (build(cli), happened.append("built"))[0])
    monkeypatch.setattr(cpu_settings, "keep_freed_memory", lambda: happened.append("kept"))
    main(["fit", "--config", write(LONE)])
    (checkpoint,) = Path("lightning_logs/tiny/version_0/checkpoints").glob("*last*.ckpt")
    for command in ("validate", "test"):
        main([command, "--config", write(LONE), "--ckpt_path", str(checkpoint)])
    assert happened == 3 * ["built", "kept"]
