"""Evaluators that read texts of their own share members between ranks: two ranks find what one process finds."""

import csv
import json

import pytest
import tiny
import yaml
from fit_in_server import fit, run
from sae_lightning.verdict.items import read_items
from test_resume import DATA, PANEL

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
    for ranks in (1, 2):
        trainer = {**quiet, "devices": ranks, "strategy": "ddp" if ranks > 1 else "auto", "callbacks": evaluators()}
        (folder / "validate.yaml").write_text(yaml.safe_dump({**config, "name": f"on_{ranks}", "trainer": trainer}))
        exits = run(folder, "validate", "--config", "validate.yaml", "--ckpt_path", checkpoint, ranks=ranks)
        assert exits == [0] * ranks, (folder / "output-0.txt").read_text()[-3000:]
    return [folder / f"lightning_logs/on_{ranks}/version_0" for ranks in (1, 2)]


def last_line(folder):
    return json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])


def flat(metrics):
    return {
        (metric, policy, seed): value
        for metric, policies in metrics.items()
        for policy, seeds in policies.items()
        for seed, value in seeds.items()
    }


def test_two_ranks_find_what_one_process_finds(runs):
    one, two = (last_line(folder) for folder in runs)
    for metric in ("probe_accuracy_k1", "interp_alive_fraction", "seed_pw_mcc", "explained_variance_beyond_gaussian"):
        assert metric in one["metrics"]
    assert one["better"] == two["better"]
    expected, found = flat(one["metrics"]), flat(two["metrics"])
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        if name[0].startswith(("probe_", "interp_")):  # the others are of held-out rows, which are dealt out to ranks
            assert found[name] == (None if value is None else pytest.approx(value, abs=1e-6)), name


def test_items_make_the_metrics(runs):
    for folder in runs:
        line = last_line(folder)
        items = read_items(folder, line["step"])
        assert {"explained_variance", "kl_recovered_mean", "probe_accuracy_k1"} <= set(items)
        for metric, of_metric in items.items():
            for (policy, seed), (numerators, denominators) in of_metric.of.items():
                value = line["metrics"][metric][policy][seed]
                if value is not None:
                    assert numerators.sum() / denominators.sum() == pytest.approx(value, rel=1e-4, abs=1e-5), metric


def test_a_verdict_is_written(runs):
    for folder in runs:
        verdict = json.loads((folder / "verdict.json").read_text())
        baselines = verdict["metrics"]["explained_variance"]["baselines"]
        assert baselines["frozen_decoder"]["n_seeds"] == 2
        assert "explained_variance@gaussian" not in verdict["metrics"], "on noise it does not matter who does better"
