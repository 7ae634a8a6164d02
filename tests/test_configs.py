"""Every YAML is parsed by the real command; the smaller ones in the combinations that they are made for."""

from itertools import product
from pathlib import Path

import pytest

from sae_lightning.cli import main

CONFIGS = Path(__file__).parents[1] / "configs"


def of(folder):
    files = sorted((CONFIGS / folder).glob("*.yaml"))
    assert files, folder
    return files


def parse(*files):
    with pytest.raises(SystemExit) as stop:
        main(["fit", *(f"--config={file}" for file in files), "--print_config"])
    assert not stop.value.code


@pytest.mark.parametrize("file", of("experiment"), ids=lambda file: file.stem)
def test_experiments(file, capsys):
    parse(file)
    printed = capsys.readouterr().out
    assert f"name: {file.stem}" in printed
    header = file.read_text().split("\nname:")[0]
    for word in ("# Run:      sae fit --config configs/experiment/" + file.name, "# Hardware:", "# Reach:"):
        assert word in header, word


@pytest.mark.parametrize(
    ("sae", "data", "freeze"), list(product(of("sae"), of("data"), of("freeze"))), ids=lambda file: file.stem
)
def test_small_configs_combine(sae, data, freeze, capsys):
    parse(sae, data, freeze)
    printed = capsys.readouterr().out
    assert "freeze:\n  class_path: sae_lightning.freeze." in printed
    assert "gradient_clip_val: 1.0" in printed


def test_no_config_is_left_out():
    assert {file.parent.name for file in CONFIGS.rglob("*.yaml")} == {"data", "experiment", "freeze", "sae"}
