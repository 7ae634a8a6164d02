"""Trains panels whose members are spread over ranks: called by strategies/test_members.py, alone and by ranks."""

from functools import partial

import numpy as np
import torch
from lightning.pytorch import Trainer
from training import D_IN, SaveAt

from sae_lightning.datamodules import ActivationFiles
from sae_lightning.evaluators import Convergence, Drift, Reconstruction, SeedAgreement, Sparsity
from sae_lightning.family import SAEFamily
from sae_lightning.freeze import FrozenDecoder, NoFreeze
from sae_lightning.panel import SanityPanel
from sae_lightning.saes import BatchTopK, JumpReLU, TargetL0, TopK
from sae_lightning.strategies import MembersStrategy

BATCH, STEPS, STOP = 48, 24, 14


def panel(**kwargs):
    settings = {"d_sae": 64, "k": 2, "scale_input": True, "dead_after_samples": 400, "aux_coefficient": 0.5}
    return SanityPanel(D_IN, lambda d_in: BatchTopK(d_in, **settings), **kwargs)


KINDS = ("four", "rates", "sizes", "transcoders")


def make(kind):
    """The paper's four; two seeds with a rate of their own for one policy; sizes beside references; a single SAE."""
    two = {"trained": NoFreeze(), "frozen_decoder": FrozenDecoder()}
    match kind:
        case "four":
            return panel()
        case "rates":
            return panel(policies=two, seeds=(0, 1), learning_rates={"frozen_decoder": 3e-3})
        case "sizes":
            sae = partial(JumpReLU, penalty=TargetL0(3.0), bandwidth=0.1, initial_threshold=0.2)
            return SAEFamily(D_IN, sae, (1, 2, 8), references={"published": "published", "other": "other"})
        case "transcoders":
            ends = {"widths": {"read": 5, "answer": D_IN - 5}, "targets": {"read": "answer"}}
            settings = {"d_sae": 64, "k": 2, "scale_input": True, "dead_after_samples": 400, "aux_coefficient": 0.5}
            return SanityPanel(
                D_IN, lambda d_in, d_out: BatchTopK(d_in, d_out=d_out, skip=True, **settings), policies=two, **ends
            )
        case "one":
            return panel(policies={"trained": NoFreeze()})


def rows(folder):
    path = folder / "rows.npy"
    if not path.exists():
        features = np.random.default_rng(0).standard_normal((16, D_IN))
        codes = np.random.default_rng(1).exponential(size=(BATCH * 64, 16)) * (np.arange(16) % 5 == 0)
        noise = np.random.default_rng(2).standard_normal((BATCH * 64, D_IN))
        np.save(path, (codes @ features + 0.3 * noise).astype(np.float32))
    return str(path)


def fit(module, folder, ranks, name, data=1, ckpt_path=None, readers=None, save=None, more=()):
    """Train on batches of BATCH rows that all ranks together read, or of as many as readers of the checkpoint read."""
    strategy = MembersStrategy(data=data) if ranks > 1 else "auto"
    callbacks = [Reconstruction(), Sparsity(), Drift(), Convergence(), *more]
    callbacks += [SaveAt(STOP, save)] if save else []
    batch = BATCH // (readers or ranks)
    stream = ActivationFiles(rows(folder), batch_size=batch, train_samples=BATCH * STEPS, val_samples=BATCH * 4)
    trainer = Trainer(
        default_root_dir=folder, max_epochs=1, accelerator="cpu", devices=ranks, strategy=strategy, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, callbacks=callbacks,
        gradient_clip_val=1.0, log_every_n_steps=5,
    )  # fmt: skip
    trainer.fit(module, datamodule=stream, ckpt_path=ckpt_path)
    said = {key: float(value) for key, value in trainer.callback_metrics.items()}
    of_members = {str(member): sae.state_dict() for member, sae in module.members.items()}
    path = folder / f"{name}-rank{trainer.global_rank}.pt"
    torch.save({"members": of_members, "metrics": said}, path)


def train_all(folder, ranks):
    for kind in KINDS:
        name = f"{kind}-{ranks}"
        fit(make(kind), folder, ranks, name, save=folder / f"{name}.ckpt")
    if ranks > 1:
        resume(folder, "rates-1", ranks)


def resume(folder, checkpoint, ranks, data=1):
    """Go on from a checkpoint that another number of ranks has written, which stands in its name."""
    kind, readers = checkpoint.split("-")
    name = f"{checkpoint}-then-{ranks}-{data}"
    fit(make(kind), folder, ranks, name, data, folder / f"{checkpoint}.ckpt", int(readers))


def on_four(folder):
    """Two members to a group of two ranks; more ranks than members; a lone SAE; what compares members."""
    resume(folder, "four-2", 4, data=2)
    for name, module, more in (
        ("ranks", make("one"), ()),
        ("lone", TopK(D_IN, d_sae=16, k=2), ()),
        ("compares", panel(seeds=(0, 1)), (SeedAgreement(),)),
    ):
        try:
            fit(module, folder, 4, name, more=more)
        except ValueError as error:
            (folder / f"{name}.txt").write_text(str(error))
