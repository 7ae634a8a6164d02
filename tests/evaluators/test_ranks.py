"""Evaluators find on two ranks what they find on one process, however these share the work.

Under DDP ranks share held-out data and members; on a mesh each has members of its own, or some of the latents of each.
"""

import csv
import json

import pytest
import tiny
import yaml
from fit_in_server import fit, run
from test_resume import DATA, PANEL

from sae_lightning.members import Tag
from sae_lightning.runs.items import read_items
from sae_lightning.runs.metrics_lines import read_validations

STRATEGIES = {"auto": (), "ddp": (), "members": ("SeedAgreement",), "latents": ("AutoInterp", "SeedAgreement")}
"""And what they refuse."""
DOCUMENTS = {"train": 60, "test": 30}


def panel():
    policies = {"trained": {"class_path": "NoFreeze"}, "frozen_decoder": {"class_path": "FrozenDecoder"}}
    return {**PANEL, "init_args": {**PANEL["init_args"], "policies": policies, "seeds": [0, 1]}}


def evaluators():
    task = {"class_path": "LabelledFiles", "init_args": {"path": "labels.csv", "split": "split"}}
    probing = {"tasks": [task], "ks": [1], "train_examples": 40, "test_examples": 20}
    interp = {"n_latents": 4, "n_tokens": 3000, "excerpt_length": 8, "n_judged": 5, "min_excerpts": 2}
    return [
        {"class_path": "LossRecovered", "init_args": {"min_gap_nats": 1e-6}},
        {"class_path": "SparseProbing", "init_args": probing},
        {"class_path": "AutoInterp", "init_args": interp},
        {"class_path": "SeedAgreement"},
    ]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    tiny.save_tiny_lm(folder / "lm")
    tiny.save_text(folder / "text.jsonl", 400)
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label", "split"])
        for split, n in DOCUMENTS.items():
            for i, text in enumerate(tiny.sentences(n, start=1000 * len(split))):
                rows.writerow([f"{text} {'cat' if i % 2 else 'dog'}", "cat" if i % 2 else "dog", split])
    stream = {**DATA["stream"], "init_args": {**DATA["stream"]["init_args"], "nulls": {"gaussian": "GaussianMatched"}}}
    quiet = {"accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1}
    config = {"name": "fit", "model": panel(), "data": stream, "trainer": quiet}
    (folder / "fit.yaml").write_text(yaml.safe_dump(config))
    assert fit(folder, "fit.yaml") == [0], (folder / "output-0.txt").read_text()
    checkpoint = "lightning_logs/fit/version_0/checkpoints/last.ckpt"
    for strategy, refused in STRATEGIES.items():
        ranks = 1 if strategy == "auto" else 2
        callbacks = [each for each in evaluators() if each["class_path"] not in refused]
        trainer = {**quiet, "devices": ranks, "strategy": strategy, "callbacks": callbacks}
        (folder / "validate.yaml").write_text(yaml.safe_dump({**config, "name": strategy, "trainer": trainer}))
        exits = run(folder, "validate", "--config", "validate.yaml", "--ckpt_path", checkpoint, ranks=ranks)
        assert exits == [0] * ranks, (folder / "output-0.txt").read_text()[-3000:]
    return {strategy: folder / f"lightning_logs/{strategy}/version_0" for strategy in STRATEGIES}


def last_validation(folder):
    return read_validations(folder / "metrics.jsonl")[-1]


def flat(validation):
    return {(str(tag), member): value for tag, values in validation.values.items() for member, value in values.items()}


def test_two_ranks_find_what_one_process_finds(runs):
    one, two = (last_validation(runs[strategy]) for strategy in ("auto", "ddp"))
    for metric in ("probe_accuracy_k1", "interp_alive_fraction", "seed_pw_mcc", "explained_variance_beyond_gaussian"):
        assert Tag(metric) in one.values
    assert one.about == two.about
    expected, values = flat(one), flat(two)
    assert expected.keys() == values.keys()
    for name, value in expected.items():
        if name[0].startswith(("probe_", "interp_")):  # the others are of held-out rows, which are dealt out to ranks
            assert values[name] == (None if value is None else pytest.approx(value, abs=1e-6)), name


@pytest.mark.parametrize("strategy", ["members", "latents"])
def test_ranks_with_other_members_or_latents_find_what_one_process_finds(runs, strategy):
    one, two = (flat(last_validation(runs[name])) for name in ("auto", strategy))
    left_out = tuple({"AutoInterp": "interp_", "SeedAgreement": "seed_"}[each] for each in STRATEGIES[strategy])
    expected = {name: value for name, value in one.items() if not name[0].startswith(left_out)}
    assert expected.keys() == two.keys()
    for name, value in expected.items():
        assert two[name] == (None if value is None else pytest.approx(value, rel=1e-3, abs=1e-4)), name


def test_items_make_the_metrics(runs):
    for folder in runs.values():
        validation = last_validation(folder)
        items = read_items(folder, validation.step)
        assert {Tag("explained_variance"), Tag("kl_recovered_mean"), Tag("probe_accuracy_k1")} <= set(items)
        for tag, metric_items in items.items():
            for member, (numerators, denominators) in metric_items.members.items():
                value = validation.values[tag][member]
                if value is not None:
                    assert numerators.sum() / denominators.sum() == pytest.approx(value, rel=1e-4, abs=1e-5), tag


def test_a_verdict_is_written(runs):
    for folder in runs.values():
        verdict = json.loads((folder / "verdict.json").read_text())
        baselines = verdict["metrics"]["explained_variance"]["baselines"]
        assert baselines["frozen_decoder"]["n_seeds"] == 2
        assert "explained_variance@gaussian" not in verdict["metrics"], "on noise it does not matter who does better"
