"""``sae compare`` on real runs that hold the same SAEs: each counts once."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from sae_lightning.cli import main
from sae_lightning.runs import Run

QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1}


def fit(folder: Path, name: str, seeds: list[int]) -> Path:
    policies = {"trained": {"class_path": "NoFreeze"}, "soft_frozen_decoder": {"class_path": "SoftFrozenDecoder"}}
    policies["frozen_decoder"] = {"class_path": "FrozenDecoder"}
    sae = {"class_path": "TopK", "init_args": {"k": 2, "d_sae": 16}}
    data = {"d_in": 8, "n_features": 12, "batch_size": 64, "train_samples": 640, "val_samples": 128}
    settings = {
        "name": name,
        "trainer": QUIET
        | {"logger": {"class_path": "MemberTensorBoardLogger", "init_args": {"save_dir": str(folder / "logs")}}},
        "model": {"class_path": "SanityPanel", "init_args": {"sae": sae, "policies": policies, "seeds": seeds}},
        "data": {"class_path": "SyntheticDataModule", "init_args": data},
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(settings))
    main(["fit", "--config", str(folder / f"{name}.yaml")])
    return folder / "logs" / name / "version_0"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("again")
    runs = {name: fit(folder, name, seeds) for name, seeds in (("a", [0, 1]), ("repeated", [0, 1]), ("b", [2]))}
    checkpoint = runs["a"] / "checkpoints/last.ckpt"
    config = runs["a"] / "config.yaml"
    main(["validate", "--config", str(config), "--ckpt_path", str(checkpoint), "--trainer.callbacks+=Recovery"])
    runs["validated"] = runs["a"].parent / "version_1"
    runs["copy"] = Path(shutil.copytree(runs["a"], folder / "copy"))
    runs["link"] = folder / "link"
    runs["link"].symlink_to(runs["a"])
    return runs


def compare(capsys: pytest.CaptureFixture, *folders: Path) -> dict:
    capsys.readouterr()
    main(["compare", "--json", *map(str, folders)])
    return json.loads(capsys.readouterr().out)


def test_an_sae_is_recorded_as_it_is_exported(runs: dict[str, Path]):
    for name in ("a", "validated"):
        prints = Run(runs[name]).last.fingerprints
        assert {str(member) for member in prints} == {
            f"{policy}/{seed}" for policy in ("trained", "soft_frozen_decoder", "frozen_decoder") for seed in (0, 1)
        }
        assert all(Run(runs["a"]).fingerprint(member) == text for member, text in prints.items())


@pytest.mark.parametrize("again", ["a", "link", "copy", "validated", "repeated"])
def test_seeds_count_once_and_a_line_says_why(runs: dict[str, Path], capsys: pytest.CaptureFixture, again: str):
    for folders in ((runs["a"], runs[again]), (runs[again], runs["a"])):
        alone, both = compare(capsys, runs["a"]), compare(capsys, *folders)
        assert len(both["metrics"]["explained_variance"]["trained"]) == 2
        ((_, verdict),) = both["verdicts"].items()
        ((_, before),) = alone["verdicts"].items()
        assert verdict["metrics"]["explained_variance"] == before["metrics"]["explained_variance"]
        assert "counts once" in both["notes"][0] or "count once" in both["notes"][0]
        assert ("recovery_at_0.8" in both["metrics"]) == (again == "validated")


def test_all_of_them_and_another_seed_are_three_seeds(runs: dict[str, Path], capsys: pytest.CaptureFixture):
    together = compare(capsys, *runs.values())
    assert len(together["metrics"]["explained_variance"]["trained"]) == 3
    baselines = next(iter(together["verdicts"].values()))["metrics"]["explained_variance"]["baselines"]
    assert baselines["frozen_decoder"]["n_seeds"] == 3
    assert baselines["soft_frozen_decoder"]["verdict"] == "inactive"
