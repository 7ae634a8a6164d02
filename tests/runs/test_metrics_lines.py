"""Lines of metrics.jsonl: written, read, of older formats, damaged."""

import json
from pathlib import Path

import pytest

from sae_lightning.members import Member, Tag
from sae_lightning.metric import Metric, Question
from sae_lightning.runs.metrics_lines import FORMAT, Validation, forget_after, read_validations

ASKS = Question("explain", "Does it explain?", 10, title="Explaining")
FVU = Metric(
    "fvu", "Fraction of variance unexplained", ASKS, "lower", "nats", "doing nothing", "a sum over a sum", True
)
VALUES = {
    Tag("fvu"): {Member("trained", 0): 0.25, Member("trained", 1): None, Member("pca", 0): 0.5},
    Tag("fvu", "early"): {Member("trained", 0, "early"): 0.75},
}
WRITTEN = Validation(
    10, 640, 1.5, VALUES, {Tag("fvu"): 1.0, Tag("ce"): None}, {"fvu": FVU}, ("noise",), {"x2": ["x2", "trained"]},
    member_floors={Tag("fvu", "early"): {Member("trained", 0, "early"): 0.875}},
    repeats={Tag("fvu"): {Member("trained", 0): (0.25, 0.5), Member("trained", 1): (0.0, 1.0)}},
    fingerprints={Member("trained", 0): "5ca1ab1e", Member("trained", 0, "early"): "deadbeef"},
)  # fmt: skip


def old_line(**changes):
    line = {"step": 5, "samples": 50, "seconds": 1.0, "metrics": {"fvu": {"trained": {"0": 0.5}}}, "floors": {}}
    return json.dumps(line | changes)


def test_a_line_comes_back_as_it_was_written():
    assert Validation.parse(WRITTEN.as_json()) == WRITTEN


def test_the_line_is_what_programs_expect():
    line = json.loads(WRITTEN.as_json())
    assert line["format"] == FORMAT
    assert line["metrics"] == {
        "fvu": {"trained": {"0": 0.25, "1": None}, "pca": {"0": 0.5}},
        "fvu@early": {"trained": {"0": 0.75}},
    }
    assert line["about"]["fvu"]["label"] == "Fraction of variance unexplained"
    assert line["about"]["fvu"]["better"] == "lower"
    assert line["floors"] == {"fvu": 1.0, "ce": None}
    assert line["member_floors"] == {"fvu@early": {"trained": {"0": 0.875}}}
    assert line["repeats"] == {"fvu": {"trained": {"0": [0.25, 0.5], "1": [0.0, 1.0]}}}
    assert line["saes"] == {"trained/0": "5ca1ab1e", "early/trained/0": "deadbeef"}


def test_a_line_of_an_older_version_says_which_way_is_better():
    line = Validation.parse(old_line(better={"fvu@early": "lower"}))
    assert line.better == {Tag("fvu", "early"): "lower"}
    assert (line.about, line.nulls, line.sizes, line.member_floors, line.repeats) == ({}, (), {}, {}, {})
    assert line.fingerprints == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty"),
        ('{"step": 5}\n', "line 1 is no validation of a run"),
        ("[1]\n", "line 1 is no validation of a run"),
        ("garbage\n" + old_line(), "line 1 is not JSON"),
        (old_line(format=FORMAT + 1), f"line 1: it has format {FORMAT + 1}, and this version .* reads up to {FORMAT}"),
        (old_line(metrics={"fvu": {"trained": {"zero": 1}}}), "line 1: invalid literal"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path: Path, text: str, expected: str):
    path = tmp_path / "metrics.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"metrics.jsonl.*{expected}"):
        read_validations(path)


def test_a_last_line_cut_off_by_a_crash_is_passed_over(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(old_line() + '\n{"step": 20, "sam')
    assert [line.step for line in read_validations(path)] == [5]


def test_a_restart_forgets_what_it_will_write_again(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    lines = [{"step": 10, "about": {"fvu": {}}}, {"step": 20}, {"step": 30, "about": {"l0": {}}}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 4')
    assert forget_after(path, 20) == {"fvu"}, "l0 has to be described again"
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [10, 20]
    assert list(tmp_path.iterdir()) == [path]
    assert forget_after(tmp_path / "none", 20) == set()
