"""An evaluator of one's own is one file: tables, verdict, TensorBoard and page show it without knowing it."""

import json
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sae_lightning.cli import main

MODULE = '''
"""An evaluator that no other file knows."""

from sae_lightning.evaluators import Evaluator, Items, Scores
from sae_lightning.metric import Metric, Question

PLEASES = Question("pleases", "Does it please?", order=15, title="Pleasing", lead="Larger seeds please more.")
SMILES = Metric(
    "smiles", "Smiles a latent", PLEASES, better="higher", unit="smiles", floor="nobody", computed="made up",
    is_headline=True,
)
FROWNS = Metric("frowns", "Frowns a latent", PLEASES, computed="made up")


class Pleasing(Evaluator):
    """Log smiles and frowns."""

    def scores(self, trainer, module, stage):
        values = {member: 5.0 * (member.policy == "trained") + member.seed / 100 for member in module.members}
        yield Scores(SMILES, values, 1.0)
        yield Scores(FROWNS, {member: -value for member, value in values.items()}, None)
'''
FIT = """
fit --model SanityPanel --model.sae TopK --model.sae.k 2 --model.sae.d_sae 24 --model.seeds [0,1] --name mine
--data SyntheticDataModule --data.d_in 8 --data.n_features 16 --data.batch_size 32 --data.train_samples 128
--data.val_samples 64 --trainer.callbacks+=pleasing_module.Pleasing
--trainer.enable_progress_bar false --trainer.accelerator cpu --trainer.log_every_n_steps 1
"""

POLICIES = "--model.policies={trained: {class_path: NoFreeze}, frozen_decoder: {class_path: FrozenDecoder}}"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mine")
    (folder / "pleasing_module.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    try:
        main([*FIT.split(), POLICIES, f"--trainer.logger.save_dir={folder}"])
    finally:
        sys.path.remove(str(folder))
    return folder / "mine/version_0"


def test_the_run_describes_it(run: Path):
    [line] = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert line["about"]["smiles"] == {
        "label": "Smiles a latent",
        "question": {
            "name": "pleases", "text": "Does it please?", "order": 15,
            "title": "Pleasing", "lead": "Larger seeds please more.",
        },
        "better": "higher",
        "unit": "smiles",
        "floor": "nobody",
        "computed": "made up",
        "is_headline": True,
    }  # fmt: skip
    assert set(line["about"]) == set(line["metrics"])


def test_compare_and_the_verdict_have_it(run: Path, capsys: pytest.CaptureFixture):
    main(["compare", str(run)])
    table = capsys.readouterr().out
    rows = [line.split()[0] for line in table.splitlines() if line.strip()]
    assert rows.index("explained_variance") < rows.index("smiles") < rows.index("cosine_to_start_mean"), "by question"
    assert "5.005±0.007" in table
    smiles = json.loads((run / "verdict.json").read_text())["metrics"]["smiles"]
    assert (smiles["label"], smiles["question"], smiles["better"]) == ("Smiles a latent", "Does it please?", "higher")
    assert smiles["baselines"]["frozen_decoder"]["difference"] == pytest.approx(5.0)
    assert "frowns" not in json.loads((run / "verdict.json").read_text())["metrics"]


def test_tensorboard_has_it(run: Path):
    curve = EventAccumulator(str(run / "trained-1")).Reload()
    assert curve.Scalars("val_by_seed/smiles")[-1].value == pytest.approx(5.01)
    results = EventAccumulator(str(run / "verdict")).Reload()
    assert results.Scalars("verdict/trained_smiles")[-1].value == pytest.approx(5.005)


def test_the_page_shows_it_with_its_label_and_question(run: Path):
    main(["report", str(run), "--latents", "0"])
    page = (run / "report.html").read_text()
    first_screen = page.partition("<main")[2].partition('id="run1-about"')[0]
    assert "Smiles a latent" in first_screen, "the headline of its question"
    assert "Does it please?" in page
    assert "<h2>Pleasing</h2>" in page, "a section for what has no verdict"
    assert "Larger seeds please more." in page
    assert "Frowns a latent" in page
