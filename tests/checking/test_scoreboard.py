"""``sae scoreboard``: what stands side by side, what counts once, and what is refused."""

import csv
import io
import json
import re

import pytest
from checking.checks import DATA, PERMUTED, RANDOM, check, control, metric, sae, write

from sae_lightning.checking.check_file import write_check
from sae_lightning.checking.scoreboard import find_checks, read_boards
from sae_lightning.cli import main


def scoreboard(*arguments):
    main(["scoreboard", *map(str, arguments)])


def printed(capsys, *arguments):
    capsys.readouterr()
    scoreboard(*arguments)
    return capsys.readouterr().out


def refused(capsys, *arguments):
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        scoreboard(*arguments)
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert not out
    return err.removesuffix("(sae scoreboard --help lists the options; SAE_DEBUG=1 shows a traceback)\n")


def row_of(text, table, name):
    """The cells of an SAE in one of the tables of a Markdown text."""
    lines = text.split(f"**{table}**")[1].split("**")[0].splitlines()
    (line,) = [line for line in lines if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("| ").split(" | ")]


def test_an_sae_is_a_row_with_words_values_and_a_cell_for_each_control(tmp_path, capsys):
    write(tmp_path / "a", sae("one", "1a"))
    text = printed(capsys, tmp_path)
    assert row_of(text, "Does each SAE beat its controls?", "one") == [
        "one", "JumpReLU", "32", "31.25", "google/gemma-2-2b", "model.layers.12", "yes", "unclear",
    ]  # fmt: skip
    assert row_of(text, "Explained variance (explained_variance)", "one") == [
        "one", "0.8000", "0.0000", "+0.2000 [+0.1500, +0.2500] beats", "+0.7900 [+0.7800, +0.8000] beats",
    ]  # fmt: skip
    assert row_of(text, "Loss recovered (ce_recovered_mean)", "one")[3] == "-0.0100 [-0.0300, +0.0100] unclear"
    assert "fvu" not in text  # no headline
    assert "- model: Is the model kept?" in text


def test_the_page_is_one_table_whatever_folder_a_check_is_from(tmp_path, capsys):
    files = [write(tmp_path / "deep" / "er", sae("one", "1a")), tmp_path / "two.json"]
    write_check(files[1], check(sae("two", "2b", d_sae=16)))
    (tmp_path / "deep" / "verdict.json").write_text("{}")
    text = printed(capsys, tmp_path / "deep", files[1], files[0])
    names = re.findall(r"^\| (\w+) \| JumpReLU", text, re.M)
    assert names == ["two", "one"]  # by width, not by place
    assert find_checks([tmp_path / "deep", files[0]]) == files[:1]


def test_a_control_that_one_sae_has_not_is_an_empty_cell(tmp_path, capsys):
    alone = sae("alone", "2b")
    alone["metrics"] = {"explained_variance": metric("Explained variance", "model", 0.5, {})}
    alone["metrics"]["explained_variance"]["controls"] = {RANDOM: control(RANDOM, 0.1, None, "unknown")}
    write(tmp_path, sae("one", "1a"), alone)
    text = printed(capsys, tmp_path)
    assert row_of(text, "Explained variance (explained_variance)", "alone")[3:] == ["+0.1000 unknown", "-"]
    assert "| alone |" not in text.split("**Loss recovered (ce_recovered_mean)**")[1].split("\n\n")[1]


def test_hardware_budget_and_how_close_l0_is_are_named(tmp_path, capsys):
    write(tmp_path / "a", sae("one", "1a"))
    far = sae("two", "2b")
    far["controls"][PERMUTED]["l0_off"] = -0.061
    hardware = {"processor": "EPYC", "cores": 1, "accelerator": "H100"}
    budget = {"kind": "minutes", "minutes": 30.0, "tokens": 10}
    write(tmp_path / "b", far, hardware=hardware, budget=budget, seconds=90)
    text = printed(capsys, tmp_path)
    assert "- one: 2 cores of Xeon; nothing trained; 5.2 minutes; l0 of controls within 0.2%; " in text
    twins = "a re-make and its twins trained for 30 minutes"
    assert f"- two: H100, 1 core of EPYC; {twins}; 1.5 minutes; l0 of controls within 6.1%; " in text


def test_a_re_make_has_a_table_of_its_own(tmp_path, capsys):
    remake = {"questions": [{"name": "model", "text": "Is the model kept?", "word": "no"}], "verdict": {}}
    write(tmp_path, sae("one", "1a", remake=remake), sae("two", "2b"))
    text = printed(capsys, tmp_path)
    assert row_of(text, "Does a re-make of each beat its trained twins?", "one") == ["one", "-", "no"]
    assert "two" not in text.split("re-make of each")[1].split("\n\n")[1]


OTHER = {
    "text": ({"data": DATA | {"text": {"files": [], "sha256": "0" * 64}}}, "text 5ca1ab1e5ca1", "text 000000000000"),
    "tokens": ({"data": DATA | {"n_tokens": 4096}}, "n_tokens 65536", "n_tokens 4096"),
    "context": ({"data": DATA | {"context_length": 128}}, "context_length 1024", "context_length 128"),
    "beginning": ({"data": DATA | {"bos_in_every_row": False}}, "bos_in_every_row yes", "bos_in_every_row no"),
    "skip": ({"data": DATA | {"skip_first_positions": 0}}, "skip_first_positions 1", "skip_first_positions 0"),
    "norms": ({"data": DATA | {"max_norm_ratio": None}}, "max_norm_ratio 10.0", "max_norm_ratio none"),
    "an evaluator's argument": (
        {"evaluators": [{"class": "Reconstruction"}, {"class": "LossRecovered", "every_n_validations": 2}]},
        "evaluators LossRecovered(every_n_validations=1)",
        "evaluators LossRecovered(every_n_validations=2)",
    ),
    "an evaluator": (
        {"evaluators": [{"class": "Reconstruction"}]},
        "evaluators LossRecovered(every_n_validations=1)",
        "evaluators none besides",
    ),
    "draws": ({"draws": 5}, "draws 3", "draws 5"),
    "samples": ({"control_samples": 100}, "control_samples 65536", "control_samples 100"),
}


@pytest.mark.parametrize(("change", "usual", "other"), OTHER.values(), ids=OTHER)
def test_other_settings_do_not_stand_side_by_side(tmp_path, capsys, change, usual, other):
    paths = [write(tmp_path / "a", sae("one", "1a")), write(tmp_path / "b", sae("two", "2b"), **change)]
    lines = refused(capsys, tmp_path).splitlines()
    assert lines[1:3] == [f"  {paths[0]}: {usual}", f"  {paths[1]}: {other}"]
    assert lines[3].endswith("make a table of each with --split")
    text = printed(capsys, tmp_path, "--split")
    first, second = text.split("# Table 2")
    assert "| one |" in first
    assert "| one |" not in second
    assert "| two |" in second


SAME = {
    "model and hook": {"data": DATA | {"model": "gpt2", "hook": "transformer.h.8", "weights": "cd"}},
    "hardware and budget": {"budget": {"kind": "tokens", "tokens": 5}, "seconds": 1, "commit": "7654321"},
    "order of evaluators": {"evaluators": list(reversed(check()["evaluators"]))},
    "names of the files of the text": {"data": DATA | {"text": DATA["text"] | {"files": ["elsewhere.txt"]}}},
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_what_else_differs_does(tmp_path, capsys, change):
    write(tmp_path / "a", sae("one", "1a"))
    write(tmp_path / "b", sae("two", "2b"), **change)
    (board,) = read_boards([tmp_path])
    assert {row.name for row in board.rows} == {"one", "two"}


def test_a_text_that_nobody_knows_is_that_of_no_other_file(tmp_path, capsys):
    data = DATA | {"text": {"files": [], "sha256": None}}
    path = write(tmp_path / "a", sae("one", "1a"), sae("two", "2b"), data=data)
    write(tmp_path / "b", sae("three", "3c"), data=data)
    assert f"text unknown, that of {path}" in refused(capsys, tmp_path)
    assert len(read_boards([path])[0].rows) == 2


def test_an_sae_counts_once_at_one_place_and_that_is_said(tmp_path, capsys):
    other = sae("again", "1a")
    other["metrics"]["explained_variance"]["value"] = 0.75
    write(tmp_path / "a", sae("one", "1a"), time="2026-11-02")
    write(tmp_path / "b", other, time="2026-11-01")
    text = printed(capsys, tmp_path)
    assert re.findall(r"^\| (\w+) \| JumpReLU", text, re.M) == ["one"]  # the later
    assert f"- one of {tmp_path}/a/check.json is in {tmp_path}/b/check.json (again) too (fingerprint 1a)" in text
    assert "its explained_variance is 0.05 off there" in text


def test_of_two_checks_the_one_with_a_re_make_counts(tmp_path):
    write(tmp_path / "a", sae("one", "1a", remake={"questions": []}), time="2026-11-01")
    write(tmp_path / "b", sae("one", "1a"), time="2026-11-02")
    (board,) = read_boards([tmp_path])
    assert [row.path.parent.name for row in board.rows] == ["a"]


def test_an_sae_at_another_hook_is_another_row(tmp_path, capsys):
    write(tmp_path / "a", sae("one", "1a"))
    write(tmp_path / "b", sae("one", "1a"), data=DATA | {"hook": "model.layers.2"})
    text = printed(capsys, tmp_path)
    names = re.findall(r"^\| (.*) \| JumpReLU", text, re.M)
    assert names == ["one (1a, model.layers.2, bfloat16)", "one (1a, model.layers.12, bfloat16)"]


def test_saes_of_one_name_are_told_apart_by_where_they_are(tmp_path):
    write(tmp_path, sae("k32", "1a", where="hf://a/b"), sae("k32", "2b", where="hf://c/d"))
    (board,) = read_boards([tmp_path])
    assert [row.name for row in board.rows] == ["k32 (hf://a/b)", "k32 (hf://c/d)"]


def test_an_sae_that_was_checked_alone_is_called_after_its_place(tmp_path):
    write(tmp_path, sae("published", "1a", where="hf://a/b"))
    assert [row.name for row in read_boards([tmp_path])[0].rows] == ["hf://a/b"]


def test_csv_has_a_row_for_each_sae_and_a_column_for_each_end_of_an_interval(tmp_path, capsys):
    write(tmp_path / "a", sae('a "name", with | and\nmore', "1a", l0=float("nan")))
    write(tmp_path / "b", sae("two", "2b"), draws=1)
    out = tmp_path / "board.csv"
    assert printed(capsys, tmp_path, "--split", "--csv", out) == f"{out}\n"
    first, second = csv.DictReader(io.StringIO(out.read_text(encoding="utf-8"), newline=""))
    assert first["sae"] == 'a "name", with | and\nmore'
    assert [row["table"] for row in (first, second)] == ["1", "2"]
    assert float(first["explained_variance/random_encoder"]) == 0.2
    assert float(first["explained_variance/random_encoder/low"]) == pytest.approx(0.15)
    assert (first["l0"], second["draws"], first["word/model"]) == ("", "1", "unclear")
    printed(capsys, tmp_path, "--split", "--csv", out)  # over its own file


def test_json_holds_everything_of_each_sae(tmp_path, capsys):
    path = write(tmp_path, sae("one", "1a"))
    board = json.loads(printed(capsys, path, "--json"))
    assert (board["format"], board["format_version"]) == ("sae_lightning scoreboard", 1)
    (table,) = board["tables"]
    (one,) = table["saes"]
    assert one["metrics"]["fvu"]["value"] == 0.2
    assert one["file"] == str(path)
    assert table["settings"]["draws"] == "3"


def test_the_page_asks_for_nothing_and_takes_no_text_for_markup(tmp_path, capsys):
    script = "<script>alert(1)</script>"
    write(tmp_path / "a", sae(script, "1a"))
    out = tmp_path / "board.html"
    assert printed(capsys, tmp_path / "a", "--html", out) == f"{out}\n"
    text = out.read_text(encoding="utf-8")
    assert script not in text
    assert "&lt;script&gt;alert(1)" in text
    assert 'class="beats">+0.2000\n[+0.1500, +0.2500]\nbeats<' in text
    assert "default-src 'none'" in text
    assert not re.search(r'(src|href)="(?!#)|url\(|@import|https?:', text)
    assert script.replace("<", "&lt;") in printed(capsys, tmp_path / "a")  # Markdown is markup too


def test_nothing_else_is_written_over(tmp_path, capsys):
    path = write(tmp_path / "a")
    for option, message in (("--csv", "is another file, no table of sae scoreboard"), ("--html", "file, no page")):
        assert message in refused(capsys, path, option, path)
        assert "is a folder; give a file" in refused(capsys, path, option, tmp_path)
        assert "there is no folder" in refused(capsys, path, option, tmp_path / "no" / "x")
    assert "give two names" in refused(capsys, path, "--csv", "x", "--html", "x")
    assert json.loads(path.read_text())["draws"] == 3


def test_wrong_paths_are_refused(tmp_path, capsys):
    assert "no such file" in refused(capsys, tmp_path / "nowhere")
    assert "has no check.json in it or below" in refused(capsys, tmp_path)
    path = write(tmp_path / "a")
    broken = tmp_path / "b" / "check.json"
    broken.parent.mkdir()
    broken.write_text(path.read_text()[:-40])
    assert f"{broken} is damaged: line" in refused(capsys, tmp_path)
    write_check(path, check() | {"saes": []})
    assert "no SAE was checked" in refused(capsys, path)
