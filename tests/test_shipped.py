from pathlib import Path

import pytest

from sae_lightning import shipped


def test_a_path_of_the_package_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Path(shipped.located("data/pocket_lm/facts.csv")).is_file()
    assert (Path(shipped.located("data/pocket_lm")) / "config.json").is_file()


def test_what_lies_in_the_working_folder_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "pocket_lm").mkdir(parents=True)
    assert shipped.located("data/pocket_lm") == "data/pocket_lm"


@pytest.mark.parametrize(
    "path", ["", "gpt2", "EleutherAI/pythia-70m", "data/mine", "tests/conftest.py", "/data/pocket_lm"]
)
def test_what_the_package_does_not_have_stays_as_it_is(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shipped.located(path) == path


def test_a_configuration_has_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    topk = shipped.root() / "configs" / "sae" / "topk.yaml"
    names = ("topk", "sae/topk", "configs/sae/topk.yaml")
    assert [Path(shipped.configuration(name)) for name in names] == [topk] * 3
    assert shipped.configuration("mine.yaml") == "mine.yaml"


def test_a_file_of_that_name_comes_before_the_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "topk").write_text("name: mine")
    assert shipped.configuration("topk") == "topk"


def test_a_name_that_several_have_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="--evaluation smollm2: several .* give data/smollm2 or evaluation/smollm2"):
        shipped.configuration("smollm2", "--evaluation")


def test_an_installed_package_has_them_inside(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "__file__", str(tmp_path / "sae_lightning" / "shipped.py"))
    assert shipped.root() == tmp_path
    (tmp_path / "sae_lightning" / "shipped" / "configs").mkdir(parents=True)
    assert shipped.root() == tmp_path / "sae_lightning" / "shipped"
