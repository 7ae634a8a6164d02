"""An SAE of a language model that sparsify trains with its `Trainer` and saves, in its own format.

    pip install eai-sparsify==1.3.3
    python -m benchmarks.check.sparsify CACHE OUT

CACHE holds activations as in `benchmarks.check`; OUT/sparsify_topk gets the run's `config.json` and a folder a
hookpoint with `cfg.json` and `sae.safetensors`. Made with eai-sparsify 1.3.3 and torch 2.13.0, one CPU core.

The trainer runs a model on rows of token ids and hooks its modules. It gets `StoredActivations`, a model whose
block looks activations up by number instead of computing them, and a data set of numbers instead of token ids.
"""

import os
import shutil
import sys
import time
from pathlib import Path

os.environ["SPARSIFY_DISABLE_TRITON"] = "1"  # read when sparsify is imported

import torch
from datasets import Dataset
from sparsify import SparseCoderConfig, Trainer
from sparsify.__main__ import RunConfig
from torch import Tensor, nn

from benchmarks.check.activations import CachedBatches

BATCH, ROW, D_SAE, K, STEPS = 1024, 64, 2304, 32, 1500
"""ROW: activations in a row of the data set, of which a batch has BATCH / ROW."""


class Lookup(nn.Module):
    """Stands where a block of the model stands, and returns stored activations by their number."""

    def __init__(self, samples: Tensor) -> None:
        super().__init__()
        self.samples = samples

    def forward(self, numbers: Tensor) -> Tensor:
        """Return activations [rows, positions, d_in] for numbers [rows, positions]."""
        return self.samples[numbers]


class StoredActivations(nn.Module):
    """What the trainer asks of a language model, with one block that has activations, `layers.LAYER`."""

    def __init__(self, samples: Tensor, layer: int) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({str(layer): Lookup(samples)})
        self.dummy_inputs = {"input_ids": torch.zeros(1, 2, dtype=torch.long)}
        self.device = torch.device("cpu")

    @property
    def base_model(self) -> nn.Module:
        """Return itself: it has no head."""
        return self

    def forward(self, input_ids: Tensor) -> None:
        """Run the one block."""
        for block in self.layers.values():
            block(input_ids)


def numbers(n: int) -> Dataset:
    """Return rows of shuffled numbers below n, as many epochs as STEPS take."""
    generator = torch.Generator().manual_seed(0)
    epochs = -(-STEPS * BATCH // n)
    order = torch.cat([torch.randperm(n, generator=generator) for _ in range(epochs)])[: STEPS * BATCH]
    return Dataset.from_dict({"input_ids": order.view(-1, ROW).numpy()}).with_format("torch")


def write(batches: CachedBatches, folder: Path) -> None:
    """Train one SAE, and keep of the checkpoint what an upload has: the run's configuration and the hookpoint."""
    data = batches.data
    config = RunConfig(
        SparseCoderConfig(num_latents=D_SAE, k=K),
        model=data["model"],
        dataset=batches.text,
        ctx_len=data["context_length"],
        batch_size=BATCH // ROW,
        optimizer="adam",
        lr=1e-3,
        lr_warmup_steps=50,
        layers=[],
        hookpoints=[f"layers.{batches.layer}"],
        log_to_wandb=False,
        save_every=STEPS + 2,
        save_dir=str(folder.parent),
        run_name=folder.name,
    )
    model = StoredActivations(batches.samples, batches.layer)
    start = time.monotonic()
    Trainer(config, numbers(len(batches.samples)), model).fit()
    for state in folder.glob("*.pt"):
        state.unlink()
    print(f"{folder}: {STEPS} steps of {BATCH} in {time.monotonic() - start:.0f} s")


def main(cache: Path, out: Path) -> None:
    """Write it."""
    shutil.rmtree(out / "sparsify_topk", ignore_errors=True)
    write(CachedBatches(cache, BATCH), out / "sparsify_topk")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
