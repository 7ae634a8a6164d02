"""How often is a random SAE called better than the control that it is a draw of, by the whole of a check?

    python -m benchmarks.check_coverage [--repetitions 50] [--draws 3]

Each repetition has synthetic activations of its own. Two "published" SAEs are made: a random encoder with a
least-squares decoder, and a random decoder with tied codes. A panel that trains nothing measures both beside draws of
the same controls, made from other activations and seeded by the weights of the SAE, and the verdict says of each
whether it beats its own control on explained variance. That should happen in less than 2.5 of 100 repetitions, and
losing as seldom. Beside it stands what other rules would say: the interval of the mean of the draws, and the one over
items alone.
"""

import argparse
import logging
import tempfile
import time
import warnings
from collections import Counter
from contextlib import redirect_stderr
from dataclasses import replace
from io import StringIO
from pathlib import Path

from lightning.pytorch import Trainer

from sae_lightning.callbacks import MetricsFile
from sae_lightning.controls import Control, RandomDecoder, RandomEncoder
from sae_lightning.datamodules import SyntheticDataModule
from sae_lightning.evaluators import Reconstruction, Sparsity
from sae_lightning.loggers import RunFolder
from sae_lightning.members import Tag
from sae_lightning.panel import SanityPanel
from sae_lightning.runs import Run
from sae_lightning.saes import TopK
from sae_lightning.sources import ConstantProbability
from sae_lightning.verdict import Comparison, decide

D_IN, D_SAE, L0, SAMPLES, BATCH = 16, 128, 4, 4096, 1024
ELSEWHERE = 10_000
"""A batch of the training stream that no control is made from."""
CONTROLS: dict[str, Control] = {"random_encoder": RandomEncoder(), "random_decoder_tied": RandomDecoder(codes="tied")}


def main() -> None:
    """Print how often each word was said."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=50)
    parser.add_argument("--draws", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    start, said = time.monotonic(), Counter[tuple[str, str]]()
    for repetition in range(options.repetitions):
        with tempfile.TemporaryDirectory() as folder, redirect_stderr(StringIO()):
            for name, comparison in compared(repetition, options.draws, Path(folder)).items():
                said[name, comparison.verdict] += 1
                said[name, "beats, of the mean"] += _is_above(comparison, of_mean=True)
                said[name, "beats, over items"] += _is_above(comparison, of_mean=False)
    heads = ("beats", "equivalent", "unclear", "loses", "beats, of the mean", "beats, over items")
    print(f"| a draw of | {' | '.join(heads)} |\n{'|---' * (1 + len(heads))}|")
    for name in CONTROLS:
        print(f"| {name} | {' | '.join(str(said[name, word]) for word in heads)} |")
    print(f"{options.repetitions} repetitions, {options.draws} draws, {time.monotonic() - start:.0f} s")


def compared(repetition: int, draws: int, folder: Path) -> dict[str, Comparison]:
    """Return the comparison of a draw of each control with other draws of it.

    Args:
        repetition: seed of the data and of what is drawn.
        draws: of each control.
        folder: to write in.
    """
    data = SyntheticDataModule(
        ConstantProbability(0.05),
        d_in=D_IN,
        n_features=200,
        batch_size=BATCH,
        train_samples=4 * SAMPLES,
        val_samples=16 * BATCH,
        seed=repetition,
    )
    for name, control in CONTROLS.items():
        save_draw(control, data, ELSEWHERE + repetition, folder / name)
    panel = SanityPanel(
        D_IN,
        policies={},
        references={name: str(folder / name) for name in CONTROLS},
        controls=CONTROLS,
        draws=draws,
        control_samples=SAMPLES,
    )
    trainer = Trainer(
        accelerator="cpu",
        logger=RunFolder(str(folder), "runs", version="check"),
        callbacks=[Reconstruction(), Sparsity(), MetricsFile()],
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.validate(panel, datamodule=data, verbose=False)
    comparisons = decide([Run(folder / "runs" / "check").measurements.by_size()])
    return {
        one.published: one
        for one in comparisons
        if one.tag == Tag("explained_variance", one.published) and one.baseline == one.published
    }


def save_draw(control: Control, data: SyntheticDataModule, seed: int, folder: Path) -> None:
    """Save an SAE that is a draw of a control, made from activations that nothing else is made from."""
    template = TopK(D_IN, d_sae=D_SAE, k=L0)
    sae = control.new(template)
    control.start(sae, template, data.source.sample(SAMPLES, seed, "train")[0], float(L0), seed)
    sae.save(folder)


def _is_above(comparison: Comparison, of_mean: bool) -> bool:
    """Return whether the SAE is better by the interval of the mean of the draws, or by the one over items alone."""
    (variance, df), items = comparison.difference.parts
    kept = ((variance / (comparison.n_draws + 1), df), items) if of_mean else (items,)
    return replace(comparison.difference, parts=kept).low > 0


if __name__ == "__main__":
    main()
