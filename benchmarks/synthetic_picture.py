"""The picture of docs/results/synthetic.md, from the numbers of its tables: their runs take hours to train again.

    python -m benchmarks.synthetic_picture

It shows the single SAEs with `b_dec` from the geometric median, in the order of their table, and last the panel of
"What is reachable" with its references, as ``sae figures`` draws the runs themselves. Matryoshka SAEs, which would lie
on the points of BatchTopK, are left out.
"""

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from sae_lightning.figures.png import write
from sae_lightning.figures.recovery import RECOVERY
from sae_lightning.figures.runs import explained_variance_vs_recovery
from sae_lightning.runs import Run

_PAGE = Path("docs/results/synthetic.md")
_SINGLE = re.compile(r"\| ((?:constant|variable)_\w+)(, `[^|]*)? \| ([\d.]+) \| [\d.]+ \| \*\*([\d.]+) %\*\* \|")
_REFERENCES = ("true_codes", "true_codes_per_sample", "omp", "omp_random", "pca")
"""What the columns of the table of references are called in a run."""


def single_saes(text: str) -> Iterator[tuple[str, dict[str, tuple[float, float | None]]]]:
    """Yield a name for each row of the second table, with explained variance and the share recovered."""
    for name, other, explained, recovered in _SINGLE.findall(text):
        if name.endswith("matryoshka"):
            continue
        yield name + "_sigma_0.5" * bool(other), {"trained": (float(explained), float(recovered) / 100)}


def panel(text: str) -> dict[str, tuple[float, float | None]]:
    """Return the same of the panel with constant probability by policy; nothing is recovered by a reference."""
    head, explained, recovered = (_cells(text, start) for start in ("constant", "explained variance", "recovered"))
    values: dict[str, tuple[float, float | None]] = {
        policy.replace(" ", "_"): (float(one), float(other.removesuffix(" %")) / 100)
        for policy, one, other in zip(head, explained, recovered, strict=True)
    }
    references = map(float, _cells(text, "constant: explained variance"))
    return values | {name: (one, None) for name, one in zip(_REFERENCES, references, strict=True)}


def _cells(text: str, start: str) -> list[str]:
    """Return the cells of the first row below "What is reachable" that begins so."""
    text = text[text.index("## What is reachable") :]
    row = next(line for line in text.splitlines() if line.startswith(f"| {start} |"))
    return [cell.strip() for cell in row.strip("|").split("|")[1:]]


def write_run(folder: Path, values: Mapping[str, tuple[float, float | None]]) -> Run:
    """Write a run that has measured these values, and no more."""
    metrics = {
        "explained_variance": {policy: {"0": explained} for policy, (explained, _) in values.items()},
        RECOVERY: {policy: {"0": own} for policy, (_, own) in values.items() if own is not None},
    }
    line = {"format": 2, "step": 1, "samples": 1, "seconds": 1.0, "metrics": metrics, "floors": {RECOVERY: 0.0}}
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    return Run(folder)


def main() -> None:
    """Write the picture beside the page."""
    text = _PAGE.read_text(encoding="utf-8")
    shown = [*single_saes(text), ("panel_constant", panel(text))]
    with tempfile.TemporaryDirectory() as folder:
        runs = [write_run(Path(folder) / name, values) for name, values in shown]
        write(explained_variance_vs_recovery(runs), _PAGE.with_suffix(".png"))


if __name__ == "__main__":
    main()
