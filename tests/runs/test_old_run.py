"""A run of format 1, as the version before format 2 left it, stays readable: tables, verdict, figures and page."""

import json
import shutil
from pathlib import Path

import pytest

from sae_lightning.cli import main
from sae_lightning.members import Member, Tag
from sae_lightning.runs import Run
from sae_lightning.verdict import decide, verdict_as_json

OLD = Path(__file__).parent / "run_of_format_1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "old" / "version_0"))


def test_what_it_measured(folder: Path):
    run = Run(folder)
    assert [validation.step for validation in run.validations] == [10, 20]
    assert (run.seeds, run.measurements.nulls, run.parts) == ([0, 1], ("gaussian",), [""])
    written = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert run.last.plain_values() == written["metrics"]
    assert {str(tag) for tag in run.measurements.values if run.measurements.better(tag)} == set(written["better"])
    assert run.measurements.items[Tag("explained_variance")].paired
    assert run.load(Member("frozen_decoder", 1)).d_sae == 16


def test_its_verdict_has_the_values_of_then_and_the_words_of_now(folder: Path):
    """The values to the bit; intervals and words follow a rule that has changed since."""
    measurements = [Run(folder).measurements]
    now = verdict_as_json(decide(measurements), measurements)["metrics"]
    then = json.loads((folder / "verdict.json").read_text())["metrics"]
    assert set(now) == set(then)
    for tag, old in then.items():
        new = now[tag]
        for key in ("better", "floor", "trained"):
            assert new[key] == old[key]
        assert list(new["baselines"]) == list(old["baselines"])
        for policy, was in old["baselines"].items():
            for key in ("value", "difference", "share_above_floor", "n_seeds", "n_items"):
                assert new["baselines"][policy][key] == was[key], f"{tag}, {policy}, {key}"
    explained = {policy: own["verdict"] for policy, own in now["explained_variance"]["baselines"].items()}
    # One degree of freedom and three baselines: +0.021 [-0.016, 0.059] on two seeds decides nothing.
    assert explained == {"frozen_decoder": "unclear", "soft_frozen_decoder": "inactive", "frozen_encoder": "unclear"}
    decoder = now["explained_variance"]["baselines"]["frozen_decoder"]
    assert decoder["interval"] == pytest.approx([-0.0163, 0.0593], abs=1e-4)
    assert decoder["notes"] == ["two seeds: one degree of freedom"]


def test_commands_read_it(folder: Path, capsys: pytest.CaptureFixture):
    main(["compare", str(folder)])
    assert "frozen_decoder: the trained SAE" in capsys.readouterr().out
    main(["report", str(folder), "--latents", "4"])
    page = (folder / "report.html").read_text()
    assert "Against the Frozen Decoder it" in page
    assert "Explained variance" in page
    assert "<b>trained/0</b>" in page
    main(["figures", str(folder)])
    assert (folder / "figures/training.png").is_file()
    main(["explain", str(folder), "trained/0", "3"])
    assert "Neighbours in its own dictionary" in capsys.readouterr().out
