"""What only a GPU can show: memory at its peak, equal bits, number formats, and NCCL beside gloo."""

import pytest
import torch
import torch.distributed as dist

from sae_lightning.distributed import Ranks, cpu_group_of
from sae_lightning.kernels import sparse
from sae_lightning.metrics import best_cosine, cosine_to_start
from sae_lightning.saes import BatchTopK, Gated, JumpReLU, ReLU, TopK
from sae_lightning.saes.decoder_norm import normalise_, remove_radial_

pytestmark = pytest.mark.cuda


def peak(function):
    """Bytes that a call takes at its peak, beyond what there was."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    return torch.cuda.max_memory_allocated() - before


@pytest.mark.parametrize("what", [remove_radial_, cosine_to_start, best_cosine, lambda one, _: normalise_(one)])
def test_what_reads_dictionaries_takes_a_part_of_one(what):
    one, other = (torch.randn(65_536, 2304, device="cuda") for _ in range(2))
    assert peak(lambda: what(one, other)) < one.nbytes / 2


def step(sae, x):
    sae.loss_terms(x, 0)["loss"].backward()
    return {name: one.grad.clone() for name, one in sae.named_parameters()}


def test_aux_k_takes_no_matrix_of_all_latents():
    peaks = []
    for n_dead in (0, 35):
        sae = TopK(1024, d_sae=32_768, k=8, aux_coefficient=0.1, dead_after_samples=10).cuda().train()
        sae.samples_since_fired[:n_dead] = 10
        x = torch.randn(64, 1024, device="cuda")
        peaks.append(peak(lambda sae=sae, x=x: sae.loss_terms(x, 0)["loss"].backward()))
    assert peaks[1] - peaks[0] < sae.W_dec.nbytes / 2


@pytest.mark.parametrize("variant", [TopK, BatchTopK, JumpReLU, ReLU, Gated])
def test_a_step_has_the_same_bits_every_time(variant):
    settings = {"k": 8} if variant in (TopK, BatchTopK) else {}
    settings |= {"scale_input": False} if variant is JumpReLU else {}
    x, steps = torch.randn(512, 64, device="cuda"), []
    for _ in range(3):
        sae = variant(64, d_sae=1024, aux_coefficient=0.1, dead_after_samples=10, **settings).cuda().train()
        sae.samples_since_fired[:300] = 10
        steps.append(step(sae, x))
    for name in steps[0]:
        assert all(torch.equal(one[name], steps[0][name]) for one in steps), name


def test_a_relu_sae_as_it_starts_multiplies_in_bfloat16(monkeypatch):
    formats, multiply = [], sparse._multiplied
    monkeypatch.setattr(sparse, "_multiplied", lambda *args: formats.append(args[-1]) or multiply(*args))
    x = torch.randn(512, 64, device="cuda")
    expected = step(ReLU(64, d_sae=1024).cuda().train(), x)
    assert set(formats) == {torch.float32}
    formats.clear()
    with torch.autocast("cuda", dtype=torch.bfloat16):
        loss = (sae := ReLU(64, d_sae=1024).cuda().train()).loss_terms(x, 0)["loss"]
    loss.backward()
    assert set(formats) == {torch.bfloat16}
    assert (sae.W_dec.grad - expected["W_dec"]).norm() < 0.05 * expected["W_dec"].norm()


def test_tensors_of_the_cpu_go_beside_nccl():
    dist.init_process_group("nccl", store=dist.HashStore(), rank=0, world_size=1)
    try:
        ones = torch.ones(3)
        dist.all_reduce(ones, group=cpu_group_of(Ranks.ALL))
        assert ones.tolist() == [1.0] * 3
    finally:
        dist.destroy_process_group()
