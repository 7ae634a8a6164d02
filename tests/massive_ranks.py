"""Data of which each rank would call something else massive; in a module of its own, which other processes import."""

import os
from dataclasses import replace
from pathlib import Path

from sae_lightning.datamodules import LanguageModelDataModule


class Disagreeing(LanguageModelDataModule):
    """Measures a larger median on each further rank, and writes down the limit that each rank goes by."""

    def _prepare_massive(self):
        measure, rank = self.massive._measure, int(os.environ.get("LOCAL_RANK", "0"))
        self.massive._measure = lambda ratio: {
            hook: replace(norms, median=(1 + rank) * norms.median) for hook, norms in measure(ratio).items()
        }
        super()._prepare_massive()
        Path(f"limit-{rank}.txt").write_text(repr(self.massive.limit()))
