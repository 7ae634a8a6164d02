"""What is said of a configuration file that cannot be one; most of it is in bad_inputs.txt."""

import pytest

from sae_lightning.commands.config_files import with_config_files


@pytest.mark.parametrize("option", ["--config", "-c", "--config="])
def test_each_file_is_looked_at_however_it_is_given(option, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.yaml").write_text("name: a\n")
    (tmp_path / "list.yaml").write_text("[1]\n")
    given = [f"{option}list.yaml"] if option.endswith("=") else [option, "list.yaml"]
    with_config_files(["--config", "good.yaml"])
    with pytest.raises(ValueError, match=r"^--config list.yaml: it holds list"):
        with_config_files(["--config", "good.yaml", *given, "--name", "a"])


def test_settings_on_the_command_line_are_no_file():
    with_config_files(["--config", "{name: a}"])
    with_config_files(["--config", "name: a\nmodel: TopK"])
    with_config_files([])


def test_a_configuration_is_one(tmp_path):
    (tmp_path / "a.yaml").write_text("model: {class_path: TopK, init_args: {lr: 1e-3, k: 2}}\n")
    with_config_files(["--config", str(tmp_path / "a.yaml")])
