"""Trains every variant with its latents on so many ranks, and writes what came out: called by test_latents.py."""

import os
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from sae_lightning.distributed import Ranks, all_gather_int, cpu_group_of, gather_on_first, of_first_rank, use_mesh
from sae_lightning.freeze import (
    FrozenDecoder,
    FrozenEncoder,
    NoFreeze,
    SeparateParts,
    SoftFrozenDecoder,
    SoftFrozenEncoder,
)
from sae_lightning.latent_mesh import LATENTS
from sae_lightning.saes import BatchTopK, Gated, JumpReLU, MatryoshkaBatchTopK, ReLU, TargetL0, TopK
from sae_lightning.saes.optimizers import clip_by_norm, speed_up
from sae_lightning.saes.sharded import load_sharded, save_sharded
from sae_lightning.saes.splitting import split_latents, whole

D_IN, D_SAE, BATCH, STEPS = 8, 45, 32, 5


def cases():
    shared = {"d_sae": D_SAE, "dead_after_samples": 60, "aux_coefficient": 0.5}
    jumping = {"penalty": TargetL0(3.0, settle=True), "bandwidth": 0.1, "initial_threshold": 0.2}
    yield "topk", TopK(D_IN, k=3, **shared), NoFreeze()
    yield "topk_of_most", TopK(D_IN, k=30, **shared), FrozenEncoder()
    yield "batch_topk", BatchTopK(D_IN, k=3, settle=True, **shared), NoFreeze()
    yield "soft_frozen", BatchTopK(D_IN, k=3, apply_b_dec_to_input=False, **shared), SoftFrozenDecoder(0.999)
    yield "frozen", BatchTopK(D_IN, k=3, input_norm="layer_norm", **shared), FrozenDecoder()
    yield "matryoshka", MatryoshkaBatchTopK(D_IN, k=3, **shared), NoFreeze()
    yield "relu", ReLU(D_IN, l1_coefficient=0.1, target_l0=4.0, **shared), NoFreeze()
    yield "free_norms", ReLU(D_IN, l1_coefficient=0.1, unit_norm_decoder=False, **shared), NoFreeze()
    yield "gated", Gated(D_IN, l1_coefficient=0.1, **shared), NoFreeze()
    yield "jump_relu", JumpReLU(D_IN, scale_input=True, **jumping, **shared), NoFreeze()
    transcoder = {"d_out": 5, "skip": True, "scale_input": True}
    yield "transcoder", TopK(D_IN, k=3, **transcoder, **shared), SoftFrozenEncoder(0.999)
    crosscoder = {"crosscoder": True, "widths": {"early": 5, "late": 3}}
    yield "separate_parts", BatchTopK(D_IN, k=3, **crosscoder, **shared), SeparateParts()
    yield "frozen_part", ReLU(D_IN, l1_coefficient=0.1, **crosscoder, **shared), FrozenDecoder("late")


def activations(seed, n=BATCH):
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(n, D_IN, generator=generator, dtype=torch.float64) + 1


def targets(sae, seed, n=BATCH):
    """What a transcoder is to answer with to these activations; nothing of an SAE."""
    return (activations(seed, n)[:, : sae.d_out].square(),) if sae.is_transcoder else ()


def train(sae, policy, dtype, mesh, shards):
    """Five steps; losses of each, gradients of the last by name, state, and what the SAE then does of a batch."""
    sae.to(dtype).initialise(0, *(one.to(dtype) for one in (activations(99, 200), *targets(sae, 99, 200))))
    policy.freeze(sae)
    if mesh is not None:
        split_latents(sae, mesh)
    optimizer = speed_up(torch.optim.Adam([one for one in sae.parameters() if one.requires_grad], lr=0.02))
    losses = []
    for step in range(STEPS):
        losses.append(sae.losses(activations(step).to(dtype), step, *(one.to(dtype) for one in targets(sae, step))))
        losses[-1]["loss"].backward()
        clip_by_norm(sae, 1.0)
        sae.project_decoder_gradient()
        if step == STEPS - 1:
            gradients = {name: one.grad.clone() for name, one in sae.named_parameters() if one.grad is not None}
        optimizer.step()
        optimizer.zero_grad()
        sae.constrain()
        with torch.no_grad():
            policy.project(sae)
    sae.settle(activations(7, 200).to(dtype))
    sae.eval()
    code = sae.encode(activations(8).to(dtype))
    out = {"code": code.to_dense(), "x_hat": sae.decode(code)}
    dims = sae.by_latent
    gradients = {name: sae.mesh.whole(one, dims[name]) if name in dims else one for name, one in gradients.items()}
    if shards is not None:
        save_sharded(sae, shards)
    joined = whole(sae)
    if joined is None:
        return None
    joined_code = joined.encode(activations(8).to(dtype))
    assert torch.equal(joined_code.to_dense() != 0, out["code"] != 0), "the joined SAE is another"
    return {
        "losses": {f"{step}/{name}": value.detach() for step, of in enumerate(losses) for name, value in of.items()},
        "gradients": gradients,
        "state": joined.state_dict(),
        "out": out,
        "dead": int(joined.dead.sum()),
    }


def read_shards(folder, ranks, mesh):
    """Whole SAEs, of the shards that two ranks wrote."""
    for name, sae, _ in cases():
        sae.double().initialise(0, activations(99, 200), *targets(sae, 99, 200))
        if mesh is not None:
            split_latents(sae, mesh)
        load_sharded(sae, folder / f"shards-{name}")
        joined = whole(sae)
        if joined is not None:
            torch.save(joined.state_dict(), folder / f"{ranks}-{name}.pt")


def exchange(ranks):
    """What ranks tell each other through the CPU, whatever their backend is."""
    own = dist.get_rank()
    of_first = of_first_rank(torch.full((2 + own, 3), 1.0 + own))
    assert torch.equal(of_first, torch.ones(2, 3)), "ranks may have sampled different numbers of rows"
    storage = torch.arange(6.0).view(2, 3).T
    states = gather_on_first({"0": {"storage": storage + own, "filled": own}, "more": [own, torch.empty(0)]})
    assert len(states) == (ranks if own == 0 else 1)
    for rank, state in enumerate(states if own == 0 else ()):
        assert torch.equal(state["0"]["storage"], storage + rank)
        assert state["0"]["filled"] == state["more"][0] == rank
        assert state["more"][1].shape == (0,)
    with patch.object(dist, "get_backend", lambda group=None: "nccl"):
        beside = cpu_group_of(Ranks.ALL)
        assert cpu_group_of(Ranks.ALL) is beside is not dist.group.WORLD
        assert all_gather_int(own, ranks=Ranks.ALL) == list(range(ranks))


def train_all(folder, ranks):
    mesh = None
    if ranks > 1:
        os.environ["RANK"] = os.environ["LOCAL_RANK"]
        dist.init_process_group("gloo")
        exchange(ranks)
        mesh = init_device_mesh("cpu", (1, 1, ranks), mesh_dim_names=("members", "data", LATENTS))
        use_mesh(mesh)
        mesh = mesh[LATENTS]
    for dtype in (torch.float64, torch.float32)[: 1 if ranks == 4 else 2]:
        results = {}
        for name, sae, policy in cases():
            shards = folder / f"shards-{name}" if ranks == 2 and dtype == torch.float64 else None
            results[name] = train(sae, policy, dtype, mesh, shards)
        if mesh is None or mesh.get_local_rank() == 0:
            torch.save(results, folder / f"{ranks}-{dtype}.pt")
    if ranks != 2:
        read_shards(folder, ranks, mesh)
    if ranks > 1:
        dist.destroy_process_group()
