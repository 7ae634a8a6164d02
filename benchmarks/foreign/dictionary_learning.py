"""Small SAEs that dictionary_learning trains and saves, and what its own code computes with them.

    pip install dictionary-learning==0.1.0
    python -m benchmarks.foreign.dictionary_learning tests/formats/files/dictionary_learning

A folder for each: `ae.pt` and `config.json`, written by its `trainSAE`, and `expected.safetensors` with activations x,
latents and reconstructions by its classes. Made with dictionary-learning 0.1.0, torch 2.13.0.

In version 0.1.0 the trainer of the April update writes dict_class=AutoEncoder whatever it trains. For the
AutoEncoderNew the script writes the class that was trained.
"""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from dictionary_learning.dictionary import AutoEncoder, AutoEncoderNew, GatedAutoEncoder, JumpReluAutoEncoder
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE, BatchTopKTrainer
from dictionary_learning.trainers.gdm import GatedSAETrainer
from dictionary_learning.trainers.jumprelu import JumpReluTrainer
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE, MatryoshkaBatchTopKTrainer
from dictionary_learning.trainers.standard import StandardTrainer, StandardTrainerAprilUpdate
from dictionary_learning.trainers.top_k import AutoEncoderTopK, TopKTrainer
from dictionary_learning.training import trainSAE
from safetensors.torch import save_file
from torch import Tensor, nn

D_IN, D_SAE, K, BATCH, STEPS = 5, 12, 3, 64, 60
MEAN = torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0])
SPARSITY = {"sparsity_warmup_steps": 10}
BY_BATCH = {"k": K, "threshold_start_step": 5}
TRAINERS: dict[str, tuple[type, type[nn.Module], dict[str, Any]]] = {
    "AutoEncoder": (StandardTrainer, AutoEncoder, SPARSITY),
    "AutoEncoder_april": (StandardTrainerAprilUpdate, AutoEncoder, SPARSITY),
    "AutoEncoderNew": (StandardTrainerAprilUpdate, AutoEncoderNew, SPARSITY),
    "GatedAutoEncoder": (GatedSAETrainer, GatedAutoEncoder, SPARSITY),
    "AutoEncoderTopK": (TopKTrainer, AutoEncoderTopK, BY_BATCH),
    "BatchTopKSAE": (BatchTopKTrainer, BatchTopKSAE, BY_BATCH),
    "MatryoshkaBatchTopKSAE": (
        MatryoshkaBatchTopKTrainer,
        MatryoshkaBatchTopKSAE,
        {**BY_BATCH, "group_fractions": [0.25, 0.25, 0.5]},
    ),
    "JumpReluAutoEncoder": (JumpReluTrainer, JumpReluAutoEncoder, {**SPARSITY, "bandwidth": 0.1}),
}


class Activations:
    """Batches with a mean that is not zero; what a trainer needs of a buffer."""

    config = {"d_submodule": D_IN, "io": "out", "n_ctxs": 100, "ctx_len": 16, "out_batch_size": BATCH}

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)

    def draw(self, n: int) -> Tensor:
        """Return n of them."""
        return torch.randn(n, D_IN, generator=self.generator) * 2 + MEAN

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            yield self.draw(BATCH)


def write(name: str, folder: Path) -> None:
    """Train, save and run the SAE of this name."""
    trainer, dict_class, options = TRAINERS[name]
    about = {"activation_dim": D_IN, "dict_size": D_SAE, "layer": 3, "lm_name": "tiny", "submodule_name": "resid_post"}
    steps = {"steps": STEPS, "warmup_steps": 5, "lr": 0.01, "seed": 0, "device": "cpu"}
    config = {"trainer": trainer, "dict_class": dict_class, **about, **steps, **options}
    normalise = dict_class is not AutoEncoderNew  # which has no scale_biases
    trainSAE(Activations(), [config], STEPS, save_dir=str(folder), normalize_activations=normalise, device="cpu")
    for path in (folder / "trainer_0").iterdir():
        shutil.move(path, folder / path.name)
    (folder / "trainer_0").rmdir()
    if dict_class is AutoEncoderNew:
        config = json.loads((folder / "config.json").read_text())
        config["trainer"]["dict_class"] = "AutoEncoderNew"
        (folder / "config.json").write_text(json.dumps(config, indent=4))
    save_file(expected(dict_class, folder), folder / "expected.safetensors")


def expected(dict_class: Any, folder: Path) -> dict[str, Tensor]:
    """Return what its own code computes with the file, the rows of its decoder as they are."""
    options = {"normalize_decoder": False} if dict_class is AutoEncoder else {}
    sae = dict_class.from_pretrained(folder / "ae.pt", **options)
    x = Activations().draw(20)
    with torch.no_grad():
        latents = sae.encode(x)
        return {"x": x, "latents": latents, "reconstruction": sae.decode(latents)}


def main() -> None:
    """Write all of them."""
    for name in TRAINERS:
        folder = Path(sys.argv[1]) / name
        shutil.rmtree(folder, ignore_errors=True)
        write(name, folder)


if __name__ == "__main__":
    main()
