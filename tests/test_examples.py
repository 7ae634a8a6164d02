"""The examples of docs/python.md and of the notebooks run, each file from its beginning, small."""

import json
import re
from pathlib import Path

import matplotlib
import pytest

import sae_lightning

matplotlib.use("agg")
ROOT = Path(sae_lightning.__file__).parents[1]
DOCS = ROOT / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
SMALLER = {
    ", 200)": ", 24)",
    "max_epochs=4": "max_epochs=1",
    "d_sae=1024": "d_sae=256",
    "batch_size=512": "batch_size=128",
    "[random_encoder, permuted_decoder, principal_components]": "[permuted_decoder]",
}
"""What a notebook does at a size for which a test has no time, and what it does here."""


def blocks(file):
    if file.suffix == ".md":
        return re.findall(r"^```python\n(.*?)^```$", file.read_text(), re.M | re.S)
    cells = json.loads(file.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def smaller(code):
    for written, run in SMALLER.items():
        code = code.replace(written, run)
    return code


@pytest.mark.filterwarnings("ignore:The number of training batches")
@pytest.mark.filterwarnings("ignore:Token indices sequence length")
@pytest.mark.parametrize("file", [DOCS / "python.md", *NOTEBOOKS], ids=lambda file: file.stem)
def test_the_examples_run(file, tmp_path, monkeypatch):
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)
    code = blocks(file)
    assert len(code) > 5
    names = {}
    for number, block in enumerate(code):
        exec(compile(smaller(block), f"{file.name}, example {number}", "exec"), names)  # noqa: S102
    assert names["run"].folder.is_dir()


def test_every_notebook_says_what_one_will_see_and_is_kept_without_output():
    assert len(NOTEBOOKS) == 3
    for file in NOTEBOOKS:
        cells = json.loads(file.read_text())["cells"]
        assert "You will see" in "".join(cells[0]["source"])
        assert not any(cell.get("outputs") for cell in cells)
    code = "".join(block for file in NOTEBOOKS for block in blocks(file))
    assert all(written in code for written in SMALLER)
