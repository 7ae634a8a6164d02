"""How dense activations are, layer by layer, as ``sae density`` left it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sae_lightning.density.figures import layer_charts
from sae_lightning.figures.chart import Table
from sae_lightning.report.section import Group, Section
from sae_lightning.runs import Run


def density(run: Run) -> Iterator[Section]:
    """Show each measure over the layers, and what that says of six claims."""
    for _, results in run.found("density/density.json", _read):
        claims = [[row["claim"], row["verdict"], row["evidence"]] for row in results.get("verdicts") or ()]
        head = ["claim", "verdict", "evidence"]
        tables = [Table("Claims of dense representations", head, claims, prose=True)] if claims else []
        lead = f"Activations of {results['n_tokens']:,} held-out tokens at norm sqrt(d), without first tokens."
        group = Group(charts=layer_charts(results), tables=tables)
        yield Section("density", "Density of the representation", lead, [group])


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
