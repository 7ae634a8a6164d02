"""The file of a check: it comes back as it was written, and what is none is refused in one sentence."""

import json

import pytest
from checking.checks import check, sae, write

from sae_lightning.checking.check_file import read_check, write_check


def test_what_is_written_comes_back(tmp_path):
    path = write(tmp_path / "new" / "folder")
    read = read_check(path)
    assert list(read)[:2] == ["format", "format_version"]
    assert read == {"format": "sae_lightning check", "format_version": 1} | check()


def test_a_number_that_is_not_finite_is_null(tmp_path):
    one = sae(l0=float("nan"))
    one["metrics"]["explained_variance"]["controls"]["random_encoder"]["draws"] = [float("inf"), 0.5]
    read = read_check(write(tmp_path, one))["saes"][0]
    assert read["l0"] is None
    assert read["metrics"]["explained_variance"]["controls"]["random_encoder"]["draws"] == [None, 0.5]


def test_the_format_is_that_of_this_version_whatever_the_content_says(tmp_path):
    assert read_check(write(tmp_path, format_version=7))["format_version"] == 1


def test_what_its_readers_would_miss_is_not_written(tmp_path):
    older = write(tmp_path).read_text()
    content = check()
    del content["data"]["text"]
    with pytest.raises(ValueError, match=r"check.json was not written: data lacks text"):
        write_check(tmp_path / "check.json", content)
    assert (tmp_path / "check.json").read_text() == older


def change(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def damaged(*keys, to):
    def apply(path):
        content = json.loads(path.read_text())
        part = content
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = to
        path.write_text(json.dumps(content))

    return apply


OF_ONE_CONTROL = ("saes", 0, "metrics", "ce_recovered_mean", "controls", "random_encoder")
WRONG = {
    "not there": (lambda path: path.unlink(), "check.json: no such file"),
    "empty": (lambda path: path.write_text(""), r"is damaged: line 1 is not JSON \(Expecting value\)"),
    "cut off": (lambda path: path.write_text(path.read_text()[:400]), r"is damaged: line \d+ is not JSON"),
    "no text": (lambda path: path.write_bytes(b"\xff\xfe\x00"), "is no check.json: it is no text in UTF-8"),
    "deep": (lambda path: path.write_text("[" * 100_000), "is no check.json: it is nested too deeply"),
    "a list": (lambda path: path.write_text("[1]"), 'is no check.json: it has no such format, expected "format": "sae'),
    "of another program": (
        lambda path: change(path, format="eval"),
        'is no check.json: it has format "eval", expected',
    ),
    "newer": (lambda path: change(path, format_version=2), "has format version 2, and this version .* up to 1"),
    "no version": (lambda path: change(path, format_version=True), "is damaged: format_version is True"),
    "NaN": (damaged("seconds", to=float("nan")), "is damaged: it has NaN, where a number that is not finite is null"),
    "no SAEs": (damaged("saes", to={}), "is damaged: saes is {}, expected a list"),
    "an SAE that is text": (damaged("saes", 0, to="A"), r'is damaged: saes\[0\] is "A", expected an object'),
    "a value that is text": (
        damaged(*OF_ONE_CONTROL, "value", to="0.9"),
        r'metrics.ce_recovered_mean.controls.random_encoder.value is "0.9", expected a number or null',
    ),
    "half an interval": (damaged(*OF_ONE_CONTROL, "interval", to=[0.1]), r"interval is \[0.1\], expected two numbers"),
    "truth for a number": (damaged("draws", to=True), "draws is true, expected a whole number"),
}


@pytest.mark.parametrize(("damage", "message"), WRONG.values(), ids=WRONG)
def test_what_is_no_check_is_refused(tmp_path, damage, message):
    path = write(tmp_path)
    damage(path)
    with pytest.raises(ValueError, match=message) as error:
        read_check(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300 + len(str(path))
