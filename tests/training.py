"""A tiny deterministic stream and a Trainer that is quiet, for tests that train."""

from inspect import isabstract

import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer

from sae_lightning.saes import (
    BatchTopK,
    Gated,
    JumpReLU,
    MatryoshkaBatchTopK,
    Pursuit,
    ReLU,
    SparseAutoencoder,
    Stitched,
    TopK,
)  # fmt: skip

D_IN = 8


def subclasses(base):
    """All subclasses in the package that can be made, also those of subclasses, without those of other tests."""
    below = [found for child in base.__subclasses__() for found in (child, *subclasses(child))]
    return [one for one in below if one.__module__.startswith("sae_lightning.") and not isabstract(one)]


VARIANTS = [variant for variant in subclasses(SparseAutoencoder) if variant not in (Pursuit, Stitched)]
"""Those that can be trained."""
SETTINGS = {
    TopK: {"k": 5},
    BatchTopK: {"k": 5},
    MatryoshkaBatchTopK: {"k": 5},
    ReLU: {"l1_coefficient": 0.07},
    Gated: {"l1_coefficient": 0.07},
    JumpReLU: {"initial_threshold": 0.5, "bandwidth": 0.6, "scale_input": False},
}
"""What makes each of them sparse, at sizes where its loss can be written out."""


class Batches:
    """A loader whose batch i is a function of (seed, i), split over ranks, and which goes on where it stopped."""

    def __init__(self, n, batch_size, seed, rank=0, world_size=1, columns=slice(None)):
        self.n, self.batch_size, self.seed, self.done, self.columns = n, batch_size, seed, 0, columns
        self.share = slice(rank, None, world_size)

    def __len__(self):
        return self.n

    def __iter__(self):
        while self.done < self.n:
            self.done += 1
            generator = torch.Generator().manual_seed(self.seed * 100_000 + self.done)
            yield torch.randn(self.batch_size, D_IN, generator=generator)[self.share, self.columns]
        self.done = 0

    def state_dict(self):
        return {}  # the datamodule keeps the position; this tells Lightning that the loader can go on mid-epoch

    def load_state_dict(self, state):
        pass


class Stream(LightningDataModule):
    d_in = D_IN

    def __init__(self, n=8, batch_size=32, columns=slice(None)):
        super().__init__()
        self.n, self.batch_size, self.done, self.loader, self.columns = n, batch_size, 0, None, columns

    def state_dict(self):
        return {"done": self.loader.done}

    def load_state_dict(self, state):
        self.done = state["done"]

    def calibration_sample(self, n):
        return (3 * torch.randn(n, D_IN, generator=torch.Generator().manual_seed(5)) + 1)[:, self.columns]

    def train_dataloader(self):
        ranks = (self.trainer.global_rank, self.trainer.world_size)
        self.loader = Batches(self.n, self.batch_size, 1, *ranks, self.columns)
        self.loader.done = self.done
        return self.loader

    def val_dataloader(self):
        return Batches(2, self.batch_size, 2, columns=self.columns)


class SaveAt(Callback):
    """Writes one checkpoint after a number of steps."""

    def __init__(self, step, path):
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def fit(module, folder, ckpt_path=None, n=8, callbacks=(), columns=slice(None), **kwargs):
    """Trains one epoch of n batches and returns the trainer."""
    trainer = Trainer(
        default_root_dir=folder,
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **kwargs,
    )
    trainer.fit(module, datamodule=Stream(n, columns=columns), ckpt_path=ckpt_path)
    return trainer


def steps(sae, x, *target):
    """Takes six steps on one batch in a loop of its own."""
    optimizer = torch.optim.Adam(sae.parameters(), lr=1e-2)
    for step in range(6):
        sae.losses(x, step, *target)["loss"].backward()
        sae.step(optimizer)
    return sae
