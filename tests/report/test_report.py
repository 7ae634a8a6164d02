"""``sae report``: what is on the page, and that nothing on it can be taken for markup."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from report.runs import POLICIES, SCRIPT, write_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from sae_lightning.cli import main
from sae_lightning.evaluators.drift import cosine_metric
from sae_lightning.evaluators.loss_recovered import loss_metric
from sae_lightning.evaluators.meta_latents import share_above_metric
from sae_lightning.evaluators.probes import accuracy_metric
from sae_lightning.evaluators.reconstruction import EXPLAINED_VARIANCE
from sae_lightning.evaluators.recovery import recovery_at
from sae_lightning.figures.sparsity import read_histograms
from sae_lightning.members import Tag
from sae_lightning.metric import undescribed
from sae_lightning.report.tensorboard import into_tensorboard


class Page(HTMLParser):
    """Elements with their attributes, the text, and what was left open."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words, self.open = [], [], []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("meta", "path", "use", "rect", "wbr"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.elements and self.elements[-1][0] == "wbr" and self.words[-1].endswith("/"):
            self.words[-1] += data  # a word goes on where it may be broken
        else:
            self.words.append(data)

    def all(self, *tags):
        return [attributes for tag, attributes in self.elements if tag in tags]


def report(*arguments):
    main(["report", *map(str, arguments)])


def page_of(run, capsys):
    capsys.readouterr()
    report(run)
    path = Path(capsys.readouterr().out.strip())
    assert path == run / "report.html"
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(run):
    return Page((run / "report.html").read_text(encoding="utf-8"))


def test_the_page_is_whole_and_asks_for_nothing(run, page):
    assert page.open == []
    for attributes in (attributes for _, attributes in page.elements):
        for name in ("src", "href", "xlink:href", "action", "data", "poster"):
            assert (attributes.get(name) or "#").startswith("#")
        assert "http" not in (attributes.get("style") or "")
    assert not page.all("link", "img", "iframe", "object", "base", "form")
    css = re.findall("<style>(.*?)</style>", (run / "report.html").read_text(), re.S)
    assert not re.search(r"url\(|@import|http", css[0])
    (policy,) = [of["content"] for of in page.all("meta") if of.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")


def test_text_from_a_run_is_text(page):
    assert not page.all("script")
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert f"</script>{SCRIPT}" in page.text
    assert "<img src=http://x.y/z onerror=alert(2)>" in page.text
    assert f"Mine {SCRIPT} $x" in page.text


def test_every_id_is_there_once_and_every_reference_leads_to_one(page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = {of["href"][1:] for of in page.all("a", "use")}
    wanted |= {of[name] for of in page.all("svg") for name in ("aria-labelledby", "aria-describedby")}
    wanted |= {of["clip-path"][5:-1] for _, of in page.elements if "clip-path" in of}
    assert wanted <= set(ids)


def test_colours_of_charts_are_those_of_the_page(run):
    text = (run / "report.html").read_text()
    inside = "".join(re.findall(r"<svg.*?</svg>|svg \.s\d+ \{.*?\}", text, re.S))  # charts, and their classes
    assert "var(--soft-frozen-decoder)" in inside
    assert not re.search('#[0-9a-f]{6}[;"]', inside)
    for name in set(re.findall(r"var\(--([a-z-]+)\)", text)):
        assert f"--{name}:" in text


def test_the_verdict_is_told_in_words(page):
    text = page.text
    assert "Against the Frozen Decoder it does better on 2 of 3 metrics and has no interval on 1" in text
    assert "In part: better than some random baselines on explained variance and mine" in text
    assert "Explained variance 0.855: 1.5 times the Frozen Decoder (0.554), 31 % more than the Frozen Encoder" in text
    assert "no clear difference from the Soft-Frozen Decoder (0.839)" in text
    assert "explained_variance: Trained SAE 0.8550; Frozen Decoder 0.5545, the trained SAE beats" in text


def test_sections_are_there_where_their_data_are(page, tmp_path, capsys):
    titles = (
        "Training",
        "Explained variance and sparsity",
        "Probing",
        "Agreement of seeds",
        "On noise",
        "Every number",
    )
    missing = ("Stitching", "Density", "Recovery by", "Firing frequency", "Interpretation", "Meta-latents", "Causal")
    text = page.text
    assert [title for title in (*titles, *missing) if title in text] == list(titles)
    run = write_run(tmp_path / "version_0")
    write_latents(run)
    text = page_of(run, capsys).text
    for words in ("Stitching", "x2/0 to x8/0", "Density of", "All is dense", "Scores of single latents", "6 latents"):
        assert words in text


def test_training_on_null_data_is_folded_under_that_on_activations(run):
    text = (run / "report.html").read_text()
    training = text[text.index('<section id="run1-training"') :]
    open_, folded = training[: training.index("</section>")].split('<details class="folded">')
    assert "explained_variance" in open_
    assert "@noise" not in open_
    assert "The same on null data (noise): 1 chart" in folded
    assert "explained_variance@noise" in folded


def write_latents(run):
    """What `sae stitch`, `sae density` and AutoInterp leave."""
    of_class = {"n": 3, "share": 0.5, "firing_share": 0.25, "best_cosine": None, "change": -0.01, "shuffled": 0.0}
    steps = [{"phase": "small SAE", "mse": 2.0, "explained_variance": 0.7, "l0": 4.0}]
    steps += [{"phase": "novel inserted", "mse": 1.0, "explained_variance": 0.8, "l0": 5.0}]
    stitch = {"small": "x2/0", "large": "x8/0", "n_samples": 1024, "classes": {"novel": of_class}}
    stitch["curve"] = {"steps": steps, "small": steps[0], "large": steps[1]}
    row = {"tokens": "without first tokens", "dimensions": "all dimensions", "view": "neuron axes"}
    row |= {"participation_ratio": 0.3, "hoyer": 0.2, "excess_kurtosis": 1.0, "near_zero": 0.1}
    density = {"n_tokens": 512, "layers": [row | {"hook": "a"}, row | {"hook": "b"}]}
    density["verdicts"] = [{"claim": "All is dense", "verdict": "supported", "evidence": "numbers"}]
    for path, found in (("stitch/x2-0_to_x8-0/stitch.json", stitch), ("density/density.json", density)):
        (run / path).parent.mkdir(parents=True)
        (run / path).write_text(json.dumps(found))
    scores = [
        {"member": f"{policy}/0", "score": score}
        for policy in ("trained", "frozen_decoder")
        for score in (0.5, 0.6, 0.9)
    ]
    (run / "interpretation.jsonl").write_text("".join(json.dumps(score) + "\n" for score in scores))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    lines[-1]["metrics"]["interp_alive_fraction"] = {"trained": {"0": 0.9}}
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_histograms_are_those_of_tensorboard(run):
    with SummaryWriter(str(run / "frozen_decoder-1")) as writer:
        writer.add_histogram("val/log10_firing_frequency", np.array([9.0, 9.0]), 100)
    with SummaryWriter(str(run / "frozen_decoder-0")) as writer:
        writer.add_histogram("val/log10_firing_frequency", np.array([9.0, 9.0]), 100)
        writer.add_histogram("val/log10_firing_frequency", np.array([-3.0, -3.0, -2.0, -1.0]), 200)
    edges = np.arange(-6, 0.1, 0.5)
    (series,) = read_histograms(run, Tag("log10_firing_frequency"), edges)
    assert series.name == "frozen_decoder"
    assert sum(series.y) == pytest.approx(1)
    shares = dict(zip(series.x, series.y, strict=True))
    assert shares[-3.25] + shares[-2.75] == pytest.approx(0.5)  # on an edge, and in a bin of TensorBoard beside it
    assert shares[-2.25] + shares[-1.75] == shares[-1.25] + shares[-0.75] == pytest.approx(0.25)
    assert read_histograms(run, Tag("cosine_to_start"), edges) == []


def test_a_lone_sae_and_an_older_run(tmp_path, capsys):
    older = write_run(tmp_path / "older" / "version_0")
    lines = [json.loads(line) for line in (older / "metrics.jsonl").read_text().splitlines()]
    new = ("format", "about", "nulls")
    lines = [{name: value for name, value in line.items() if name not in new} | {"better": {}} for line in lines]
    (older / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (older / "config.yaml").unlink()
    text = page_of(older, capsys).text
    assert "as older versions do not: measure it again with sae validate" in text
    assert "What else was measured?" in text  # a plain name for each metric, and no question
    assert "Accuracy of probes" in text
    assert "Seed mmcs" in text
    alone = write_run(tmp_path / "alone" / "version_0", n_lines=1)
    line = json.loads((alone / "metrics.jsonl").read_text())
    line["metrics"] = {"explained_variance": {"trained": {"0": 0.5}}}
    (alone / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    assert "No random baseline was trained beside it" in page_of(alone, capsys).text


def test_several_runs_begin_with_the_answers_and_their_comparison(tmp_path, capsys):
    one = write_run(tmp_path / "one" / "version_0")
    same = write_run(tmp_path / "one" / "version_1", seed=1, trained=0.6)
    other = write_run(tmp_path / "two" / "version_0", name="another", trained=0.1)
    report(one, same, other, one, "--out", tmp_path / "all.html")
    page = Page((tmp_path / "all.html").read_text())
    assert (
        page.text.index("one/version_0 + one/version_1") < page.text.index("Comparison") < page.text.rindex("Settings")
    )
    assert page.text.count("Settings and provenance") == 2 * 3  # a link and a heading of each run
    assert "one/version_0 + one/version_1 Trained SAE 0.805" in page.text
    assert "Against the Frozen Decoder it does worse on 2 of 3" in page.text
    assert "Settings that differ option one/version_0 + one/version_1 two/version_0 data.model a run" in page.text
    assert "seeds" not in page.text[page.text.index("Settings that differ") :].split("Mean ±")[0]  # which are the same
    assert f"{one} is the folder {one} again, which counts once." in page.text
    assert "one/version_0+one/version_1 and two/version_0 are different experiments: data.model a run" in page.text
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_a_run_and_its_validation_are_one(tmp_path, capsys):
    """With the metrics of both; the page of either alone has half of them."""
    fit = write_run(tmp_path / "run" / "version_0")
    validated = write_run(tmp_path / "run" / "version_1", n_lines=1)
    line = json.loads((validated / "metrics.jsonl").read_text())
    line["metrics"] = {
        "explained_variance": json.loads((fit / "metrics.jsonl").read_text().splitlines()[-1])["metrics"][
            "explained_variance"
        ]
    } | {"later": {policy: {"0": 0.5, "1": 0.25} for policy in POLICIES}}
    (validated / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    (validated / "starts.jsonl").write_text(
        '{"time": "2026-11-22", "command": "validate", "commit": null, "versions": {}}\n'
    )
    for order in ((fit, validated), (validated, fit)):
        report(*order, "--out", tmp_path / "all.html")
        page = Page((tmp_path / "all.html").read_text())
        assert "Comparison" not in page.text
        assert (
            "run/version_1 measured again the SAEs of run/version_0, which count once; it adds 1 metric." in page.text
        )
        assert page.text.count("Settings and provenance") == 2
        for words in ("Later", "Does it explain?", "300 steps, 60,000 activations"):
            assert words in page.text


def test_what_ran_it_is_told_where_it_is_known(page, tmp_path, capsys):
    assert "Versions lightning.pytorch 2.6.6" in page.text
    run = write_run(tmp_path / "version_0", n_lines=1)
    start = {"time": "2026-11-22T03:00:00+00:00", "command": "fit", "commit": "abc+", "devices": "2 x cuda"}
    lines = [start | {"versions": {"torch": "2.13"}}, start | {"time": "2026-11-23", "versions": {"torch": "2.14"}}]
    (run / "starts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"time": "cut')
    text = page_of(run, capsys).text
    for words in (
        "Started 2026-11-22 03:00 UTC, last again 2026-11-23",
        "Commit abc, with changes",
        "2 x cuda",
        "torch 2.14",
    ):
        assert words in text


def test_metrics_have_plain_words():
    assert recovery_at(0.8).label == "True features recovered (cosine above 0.8)"
    assert accuracy_metric(1, "test").label == "Probe on the best single latent, accuracy"
    assert share_above_metric(512).label == "Meta-latents that are latents of the SAE with 512 (cosine above 0.7)"
    metrics = (cosine_metric("mean"), EXPLAINED_VARIANCE, loss_metric("kl", "zero"), undescribed("unheard_of"))
    assert [metric.question.name for metric in metrics] == ["drift", "explain", "loss", "other"]


def test_tensorboard_gets_the_verdict_once(run):
    into_tensorboard(run)
    into_tensorboard(run)
    events = EventAccumulator(str(run / "verdict"))
    events.Reload()
    (image,) = events.Images("verdict")
    assert image.step == 300
    assert min(image.width, image.height) > 200
    (wins,), (unclear,) = (
        events.Scalars(f"verdict/{name}") for name in ("beats_frozen_decoder", "unclear_soft_frozen_decoder")
    )
    assert wins.value == unclear.value == 2
    assert "_hparams_/session_start_info" in events.summary_metadata


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{run}/none"], "no such folder; give a run folder"),
        (["{run}", "--out", "{run}"], "is a folder; give a file, such as"),
        (["{run}", "--out", "{run}/no/page.html"], "there is no folder"),
        ([], "the following arguments are required: RUN"),
    ],
)
def test_wrong_input(run, arguments, words, capsys):
    with pytest.raises(SystemExit) as stop:
        report(*(argument.format(run=run) for argument in arguments))
    assert stop.value.code == 2
    assert words in capsys.readouterr().err
