"""Every YAML is parsed by the real command, in the combinations it is made for; those that can be are run small."""

import json
from itertools import cycle, islice
from pathlib import Path

import pytest

from sae_lightning.checking.configuration import evaluators_of, quick_evaluators
from sae_lightning.cli import main

CONFIGS = Path(__file__).parents[1] / "configs"


def of(folder):
    files = sorted((CONFIGS / folder).glob("*.yaml"))
    assert files, folder
    return files


def parse(*files):
    with pytest.raises(SystemExit) as stop:
        main(["fit", *(f"--config={file}" for file in files), "--print_config"])
    assert not stop.value.code


@pytest.mark.parametrize("file", of("experiment"), ids=lambda file: file.stem)
def test_experiments(file, capsys):
    parse(file)
    printed = capsys.readouterr().out
    assert f"name: {file.stem}" in printed
    header = file.read_text().split("\nname:")[0]
    for word in ("# Run:      sae fit --config configs/experiment/" + file.name, "# Hardware:", "# Reach:"):
        assert word in header, word


def together(*folders):
    """Combinations in which each file of each folder is once or more."""
    files = [of(folder) for folder in folders]
    return list(zip(*(islice(cycle(of_one), max(map(len, files))) for of_one in files), strict=True))


@pytest.mark.parametrize(("sae", "data", "freeze"), together("sae", "data", "freeze"), ids=lambda file: file.stem)
def test_small_configs_combine(sae, data, freeze, capsys):
    parse(sae, data, freeze)
    printed = capsys.readouterr().out
    assert "freeze:\n  class_path: sae_lightning.freeze." in printed
    assert "gradient_clip_val: 1.0" in printed


def evaluators_of_papers():
    return [file for file in of("evaluation") if file.stem != "check_quick"]


@pytest.mark.parametrize("experiment", ["sanity_pocket_lm", "synthetic_constant_topk"])
@pytest.mark.parametrize("file", evaluators_of_papers(), ids=lambda file: file.stem)
def test_evaluators_are_added_to_those_of_a_run(file, experiment, capsys):
    configs = (CONFIGS / "experiment" / f"{experiment}.yaml", file)
    with pytest.raises(SystemExit) as stop:
        main(["validate", *(f"--config={config}" for config in configs), "--print_config"])
    assert not stop.value.code
    printed = capsys.readouterr().out
    some = {"sae_probes": ["SparseProbing"], "ravel": ["CausalEditing"]}
    some["smollm2"] = ["SparseProbing", "Absorption", "AutoInterp"]
    for evaluator in some.get(file.stem, ["SparseProbing", "CausalEditing", "AutoInterp"]):
        assert f"- class_path: sae_lightning.evaluators.{evaluator}" in printed
    assert ("evaluators.LossRecovered" in printed) == (experiment == "sanity_pocket_lm" or file.stem == "check_full")


def test_a_quick_check_asks_what_its_file_says():
    """An installed package has no configs/, so `sae check` knows its evaluators by itself."""
    data = {"class_path": "LanguageModelDataModule"}
    assert evaluators_of(CONFIGS / "evaluation/check_quick.yaml") == quick_evaluators(data)
    assert quick_evaluators({"class_path": "SyntheticDataModule"}) == []


def run(folder, *arguments):
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu"]
    quiet.append("--trainer.log_every_n_steps=1")
    main(["fit", *arguments, *quiet, f"--trainer.logger.save_dir={folder}", "--name=run"])
    return json.loads((folder / "run/version_0/metrics.jsonl").read_text().splitlines()[-1])


SMALL_SYNTHETIC = ["--data.d_in=16", "--data.n_features=64", "--data.batch_size=64", "--data.val_samples=64"]


@pytest.mark.parametrize(("sae", "freeze"), together("sae", "freeze"), ids=lambda file: file.stem)
def test_small_configs_run(sae, freeze, tmp_path, capsys):
    data = CONFIGS / "data/synthetic_variable.yaml"
    files = [f"--config={file}" for file in (sae, data, freeze)]
    line = run(tmp_path, *files, *SMALL_SYNTHETIC, "--data.train_samples=512")
    policy = "trained" if freeze.stem == "none" else freeze.stem
    assert set(line["metrics"]["recovery_at_0.8"]) == {policy}
    assert line["step"] == 8
    assert (tmp_path / f"run/version_0/saes/{policy}/0/sae.safetensors").is_file()


def test_the_demo_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    sizes = {"batch_size": 256, "train_samples": 2048, "val_samples": 512, "loss_samples": 256, "buffer_samples": 2048}
    sizes["llm_batch_size"] = 4
    small = [f"--data.{name}={value}" for name, value in sizes.items()]
    line = run(tmp_path, f"--config={CONFIGS / 'experiment/sanity_pocket_lm.yaml'}", *small)
    for metric in ("explained_variance", "ce_recovered_mean", "l0", "cosine_to_start_mean"):
        assert {policy: len(seeds) for policy, seeds in line["metrics"][metric].items()} == dict.fromkeys(
            ["trained", "frozen_decoder", "soft_frozen_decoder", "frozen_encoder"], 3
        )
        assert metric in line["floors"]
    assert "soft_frozen_decoder" in capsys.readouterr().out


def test_no_config_is_left_out():
    assert {file.parent.name for file in CONFIGS.rglob("*.yaml")} == {
        "check",
        "data",
        "evaluation",
        "experiment",
        "freeze",
        "sae",
    }


def test_the_synthetic_panel_runs(tmp_path, capsys):
    file = CONFIGS / "experiment/sanity_synthetic_variable.yaml"
    small = ["--data.d_in=32", "--data.n_features=64", "--data.batch_size=64", "--data.val_samples=64"]
    small.append("--model.init_args.sae.init_args.expansion_factor=2")
    line = run(tmp_path, f"--config={file}", *small, "--data.train_samples=512")
    for oracle in ("oracle", "from_truth"):
        assert line["metrics"]["recovery_at_0.8"][oracle] == {"0": 1.0}
    assert line["metrics"]["recovery_at_0.8"]["untrained"]["0"] < 0.5
    assert line["metrics"]["explained_variance"]["true_codes"]["0"] > 0.9
    assert line["metrics"]["cosine_to_start_mean"]["oracle"] == line["metrics"]["cosine_to_start_mean"]["untrained"]
