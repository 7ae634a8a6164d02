"""SAEs of a language model that dictionary_learning trains with its `trainSAE` and saves, in its own format.

    pip install dictionary-learning==0.1.0
    python -m benchmarks.check.dictionary_learning CACHE OUT [NAME ...]

CACHE holds activations as in `benchmarks.check`; each NAME of TRAINERS becomes OUT/dictionary_learning_NAME with
`ae.pt` and `config.json`. Made with dictionary-learning 0.1.0 and torch 2.13.0, one CPU core.

Activations are scaled to a mean squared norm of 1, and the biases scaled back before saving, by its
`normalize_activations`. Not its defaults: lr, and warm-ups and thresholds that fit in hundreds of steps (by default
they take 1,000 and 2,000 steps).
"""

import shutil
import sys
import time
from pathlib import Path
from typing import Any

from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
from dictionary_learning.trainers.standard import StandardTrainer
from dictionary_learning.training import trainSAE

from benchmarks.check.activations import CachedBatches

BATCH = 1024
BY_BATCH = {"k": 32, "threshold_start_step": 10, "threshold_beta": 0.98}
TRAINERS: dict[str, tuple[type, int, dict[str, Any]]] = {
    "batch_top_k": (BatchTopKTrainer, 800, {"dict_size": 4608, "lr": 1e-3, **BY_BATCH}),
    "relu": (StandardTrainer, 900, {"dict_size": 2304, "lr": 1e-3, "l1_penalty": 0.07, "sparsity_warmup_steps": 50}),
    "undertrained": (BatchTopKTrainer, 20, {"dict_size": 4608, "lr": 1e-3, **BY_BATCH, "threshold_beta": 0.5}),
}
"""Trainer, steps and settings by name."""


def write(name: str, batches: CachedBatches, folder: Path) -> None:
    """Train the SAE of this name, and put what is saved into the folder."""
    trainer, steps, settings = TRAINERS[name]
    schedule = {"steps": steps, "warmup_steps": min(50, steps // 2), "decay_start": steps * 4 // 5, "seed": 0}
    about = {"layer": batches.layer, "lm_name": batches.data["model"], "submodule_name": batches.data["hook"]}
    config = {"trainer": trainer, "activation_dim": batches.d_in, "device": "cpu", **about, **schedule, **settings}
    start = time.monotonic()
    trainSAE(
        batches,
        [config],
        steps,
        save_dir=str(folder),
        normalize_activations=True,
        device="cpu",
        verbose=True,
        log_steps=max(1, steps // 10),
    )
    for path in (folder / "trainer_0").iterdir():
        shutil.move(path, folder / path.name)
    (folder / "trainer_0").rmdir()
    print(f"{folder}: {steps} steps of {batches.batch_size} in {time.monotonic() - start:.0f} s")


def main(cache: Path, out: Path, names: list[str]) -> None:
    """Write those that are named, or all."""
    batches = CachedBatches(cache, BATCH)
    for name in names or TRAINERS:
        folder = out / f"dictionary_learning_{name}"
        shutil.rmtree(folder, ignore_errors=True)
        write(name, batches, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
