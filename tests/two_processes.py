"""Trains every variant, and a panel, and writes the states: called by test_two_processes.py, alone and by two ranks."""

import torch

import sae_lightning
from sae_lightning.freeze import FrozenDecoder, NoFreeze, TiedAtRandom
from sae_lightning.panel import SanityPanel
from sae_lightning.saes import (
    BatchTopK,
    CovarianceMatched,
    Gated,
    JumpReLU,
    MatryoshkaBatchTopK,
    ReLU,
    TargetL0,
    TopK,
)  # fmt: skip

from training import D_IN, fit  # isort: skip


def modules():
    shared = {"d_sae": 64, "scale_input": True, "dead_after_samples": 60, "aux_coefficient": 0.5}
    yield "topk", TopK(D_IN, k=2, **shared)
    yield "batch_topk", BatchTopK(D_IN, k=2, init=CovarianceMatched(), **shared)
    yield "relu", ReLU(D_IN, **shared)
    yield "jump_relu", JumpReLU(D_IN, penalty=TargetL0(3.0), bandwidth=0.1, initial_threshold=0.2, **shared)
    yield "gated", Gated(D_IN, **shared)
    yield "matryoshka", MatryoshkaBatchTopK(D_IN, k=2, **shared)
    yield "panel", SanityPanel(D_IN, lambda d_in: BatchTopK(d_in, k=2, **shared))
    ends = {"widths": {"read": 5, "answer": D_IN - 5}, "targets": {"read": "answer"}}
    yield (
        "transcoders",
        SanityPanel(D_IN, lambda d_in, d_out: TopK(d_in, k=2, d_out=d_out, skip=True, **shared), **ends),
    )
    policies = {"trained": NoFreeze(), "frozen_in_late": FrozenDecoder("late"), "tied_at_random": TiedAtRandom()}
    parts = {"widths": {"early": 5, "late": D_IN - 5}, "crosscoder": True}
    yield (
        "crosscoders",
        SanityPanel(D_IN, lambda d_in, **kind: BatchTopK(d_in, k=2, **shared, **kind), policies, **parts),
    )


def train_all(folder, devices):
    strategy = {"strategy": "ddp", "devices": devices, "use_distributed_sampler": False} if devices > 1 else {}
    for name, module in modules():
        trainer = fit(module, folder, gradient_clip_val=1.0, **strategy)
        dead = sum(int(sae.dead.sum()) for sae in module.members.values())
        if trainer.is_global_zero:
            said = {"dead": dead, "class": type(module).__name__, "package": sae_lightning.__file__}
            torch.save({"state": module.state_dict(), **said}, folder / f"{name}-{devices}.pt")
