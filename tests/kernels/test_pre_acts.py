"""The bfloat16 screen changes nothing: not what is selected, and not the values beyond float32's own rounding."""

import os
import subprocess
import sys

import pytest
import torch
from fast_products import PACKED

from sae_lightning import cpu_settings
from sae_lightning.kernels import PreActs, entries_above, largest_per_row, pre_acts, top_k_of_batch, top_k_per_row
from sae_lightning.kernels.pre_acts import can_pack, products

D_IN, D_SAE, BATCH = 256, 2048, 37


@pytest.fixture(autouse=True)
def machine_with_a_screen(monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(products, "screened", True)
    monkeypatch.setattr(pre_acts, "CPU_ENTRIES", 10 * D_SAE)  # several blocks, the last one smaller


def unit(*shape):
    return torch.nn.functional.normalize(torch.randn(*shape), dim=-1)


def of_features(n_active):
    features, active = unit(600, D_IN), torch.rand(BATCH, 600) < n_active / 600
    return active * torch.rand(BATCH, 600) @ features


INPUTS = {
    "normal": lambda: torch.randn(BATCH, D_IN),
    "sparse": lambda: of_features(5),
    "large mean": lambda: of_features(5) + 30 * unit(D_IN),
    "unequal norms": lambda: torch.randn(BATCH, D_IN) * torch.logspace(-6, 6, BATCH)[:, None],
    "zero rows": lambda: torch.randn(BATCH, D_IN) * (torch.arange(BATCH) % 3 > 0)[:, None],
    "equal rows": lambda: torch.randn(1, D_IN).expand(BATCH, D_IN).clone(),
}


def smallest_of_batch(pre):
    return float(pre.flatten().topk(12 * BATCH).values.min())


SELECTIONS = {  # how, and the limit that an entry has to reach, given all in float64
    "entries_above": (lambda given: entries_above(given, 3.0), lambda pre: 3.0),
    "top_k_per_row": (lambda given: top_k_per_row(given, 12), lambda pre: pre.topk(12).values[:, -1:]),
    "top_k_of_batch": (lambda given: top_k_of_batch(given, 12), smallest_of_batch),
    "top_k_of_batch, good guess": (
        lambda given: top_k_of_batch(given, 12, 0.97 * smallest_of_batch(given.exact(torch.arange(BATCH)))),
        smallest_of_batch,
    ),
}


def encoder(norms=None):
    W_enc = unit(D_SAE, D_IN)
    return (W_enc if norms is None else W_enc * norms[:, None]).T


@pytest.mark.parametrize("x", INPUTS.values(), ids=INPUTS)
@pytest.mark.parametrize(("select", "limit"), SELECTIONS.values(), ids=SELECTIONS)
@pytest.mark.parametrize("norms", [None, torch.logspace(-1, 1, D_SAE)], ids=["unit", "unequal"])
@pytest.mark.parametrize("screen", [True, False])
def test_selection_is_that_of_all_pre_activations(x, select, limit, norms, screen):
    x, W_enc, b_enc = x(), encoder(norms), 0.05 * torch.randn(D_SAE)
    exact = x.double() @ W_enc.double() + b_enc.double()
    noise = 1e-6 * (x.norm(dim=1, keepdim=True) * W_enc.norm(dim=0) + b_enc.abs()).double()  # of float32 sums
    code = select(PreActs(x, W_enc, b_enc, screen=screen))
    chosen, values = torch.zeros(exact.shape, dtype=torch.bool), code.to_dense().double()
    chosen[code.rows, code.indices] = True
    assert (values - exact.relu()).abs()[chosen].le(noise[chosen]).all()
    assert (exact >= limit(exact) - 2 * noise)[chosen & (values > 0)].all(), "too small to be chosen"
    assert (exact <= limit(exact) + 2 * noise)[~chosen].all(), "too large to be left out"


def test_the_bound_holds_for_every_entry():
    for norm in (None, torch.logspace(-1, 1, D_SAE)):
        x, W_enc, b_enc = torch.randn(BATCH, D_IN), encoder(norm), torch.randn(D_SAE)
        exact = x.double() @ W_enc.double() + b_enc.double()
        for first, block, bound in PreActs(x, W_enc, b_enc).blocks():
            rows = slice(first, first + block.shape[0])
            assert ((exact[rows] - block.double()).abs() <= bound + 2**-8 * exact[rows].abs()).all()


def screened(x, W_enc_rows, b_enc=None):
    W_enc = torch.zeros(D_SAE, D_IN)
    W_enc[: len(W_enc_rows)] = W_enc_rows
    given = PreActs(x, W_enc.T, torch.zeros(D_SAE) if b_enc is None else b_enc)
    assert given.screened
    return given


def in_one_dimension(value, x):
    """A latent without rounding error, whose pre-activation is about the value."""
    m = x[0].abs().argmax()
    return ((value / x[0, m]).bfloat16() * torch.eye(D_IN)[m]).float()


@pytest.mark.parametrize("rounded", ["W_enc", "x"])
def test_an_entry_that_rounding_lowers_as_far_as_it_can_is_found(rounded):
    """The worst case of the bound, which random data never come near: the rounding errors of one side add up."""
    lowered = 0.0
    while not 5 < lowered < 15:  # above zero, which is what the other latents have, but small beside the norms
        coarse = 1e3 * unit(D_IN)
        lost = coarse - coarse.bfloat16().float()
        aligned = (lost / lost.norm()).bfloat16().float()
        exact, lowered = float(aligned.double() @ coarse.double()), float(aligned.double() @ coarse.bfloat16().double())
    assert exact - lowered > 0.9 * lost.norm()
    x, target = (aligned[None], coarse) if rounded == "W_enc" else (coarse[None], aligned)
    rival = in_one_dimension(lowered + 0.7 * (exact - lowered), x)
    assert top_k_per_row(screened(x, torch.stack([target, rival])), 1).indices.tolist() == [0]
    assert entries_above(screened(x, target[None]), exact - 0.1 * (exact - lowered)).indices.tolist() == [0]


def test_an_entry_whose_bias_is_lowered_is_found():
    x = torch.eye(D_IN)[:1]
    b_enc = torch.zeros(D_SAE)
    b_enc[0] = 1 + 0.99 * 2**-8  # 1 in bfloat16
    rows = torch.stack([-0.8984375 * x[0], 0.1044 * x[0].bfloat16().float()])
    assert top_k_per_row(screened(x, rows, b_enc), 1).indices.tolist() == [0]


def test_an_entry_that_is_lowered_while_its_rival_is_raised_is_found():
    x, half = torch.ones(1, D_IN), D_IN // 2
    rows = torch.full((2, D_IN), -1.0)
    rows[0, :half] = 1 + 0.98 * 2**-8  # rounded down
    rows[1, :half] = 1 + 1.02 * 2**-8  # rounded up
    rows[1, -1] = -1.125
    exact = x.double() @ rows.double().T
    assert exact[0, 0] > exact[0, 1]
    assert top_k_per_row(screened(x, rows), 1).indices.tolist() == [0]


def test_an_entry_that_rounding_makes_negative_is_found():
    x, half = torch.ones(1, D_IN), D_IN // 2
    rows = torch.full((1, D_IN), -1.0)
    rows[0, :half] = 1 + 0.98 * 2**-8  # 1 in bfloat16
    rows[0, -1] = -1.25
    exact = float(x.double()[0] @ rows[0].double())
    assert 0.2 < exact < 0.3
    assert x[0].bfloat16().double() @ rows[0].bfloat16().double() < -0.2
    b_enc = torch.full((D_SAE,), -5.0)
    b_enc[:2] = 0.0
    rows = torch.stack([rows[0], in_one_dimension(0.1, x)])
    assert top_k_per_row(screened(x, rows, b_enc), 1).indices.tolist() == [0]
    assert entries_above(screened(x, rows, b_enc), 0.2).indices.tolist() == [0]


def test_a_screen_that_lets_too_much_through_is_given_up():
    given = PreActs(torch.randn(BATCH, D_IN), encoder(), torch.zeros(D_SAE))
    code = entries_above(given, 0.0)
    assert not given.screened
    assert code.nnz > 0.4 * BATCH * D_SAE
    assert (code.values > 0).all()


def test_no_screen_where_it_would_not_pay_or_was_not_asked_for(monkeypatch):
    x, W_enc, b_enc = torch.randn(BATCH, D_IN), encoder(), torch.zeros(D_SAE)
    assert PreActs(x, W_enc, b_enc).screened
    assert not PreActs(x, W_enc, b_enc, screen=False).screened
    assert not PreActs(x.double(), W_enc.double(), b_enc.double()).screened
    assert not PreActs(x[:, :255], W_enc[:255], b_enc).screened
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not PreActs(x, W_enc, b_enc).screened
    monkeypatch.setattr(products, "screened", False)
    assert not PreActs(x, W_enc, b_enc).screened


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("screened", [True, False])
def test_blocks_are_the_rows_in_order(packed, screened, monkeypatch):
    monkeypatch.setattr(products, "packed", packed)
    x, W_enc, b_enc = torch.randn(BATCH, D_IN), encoder(), torch.randn(D_SAE)
    given = PreActs(x, W_enc, b_enc, screen=screened)
    blocks = list(given.blocks())
    assert [first for first, _, _ in blocks] == [0, 10, 20, 30]
    tolerance = 0.05 if screened else 1e-5
    pre = x @ W_enc + b_enc
    torch.testing.assert_close(torch.cat([block.float() for _, block, _ in blocks]), pre, atol=tolerance, rtol=0.01)
    torch.testing.assert_close(given.exact(torch.tensor([3, 31])), pre[[3, 31]])


@pytest.mark.parametrize("screened", [True, False])
def test_nan_is_not_hidden(screened):
    x = torch.randn(BATCH, D_IN)
    x[7, 3] = torch.nan
    code = top_k_per_row(PreActs(x, encoder(), torch.zeros(D_SAE), screen=screened), 4)
    assert code.nnz == 4 * BATCH
    assert code.to_dense()[7].isnan().any()
    assert not code.to_dense()[8].isnan().any()


@pytest.mark.parametrize("screened", [True, False])
def test_ties_and_rows_without_positive_entries(screened):
    W_enc = unit(4, D_IN).repeat(D_SAE // 4, 1).T  # each pre-activation occurs 512 times
    x = torch.cat([torch.randn(3, D_IN), torch.zeros(2, D_IN)])
    for b_enc in (torch.zeros(D_SAE), torch.full((D_SAE,), -1e3)):
        code = top_k_per_row(PreActs(x, W_enc, b_enc, screen=screened), 7)
        expected = (x @ W_enc + b_enc).topk(7).values.relu()
        torch.testing.assert_close(code.values.view(5, 7).sort(descending=True).values, expected)
        assert all(len(set(row)) == 7 for row in code.indices.view(5, 7).tolist())


@pytest.mark.parametrize("bias", [-0.5, 0.0])
def test_the_largest_are_those_of_float32_negative_ones_included(bias):
    x, W_enc, b_enc = of_features(5), encoder(), torch.full((D_SAE,), bias)
    given = PreActs(x, W_enc, b_enc)
    values, indices = largest_per_row(given, 12)
    exact = x @ W_enc + b_enc
    assert given.screened
    assert (values < 0).any() == (bias < 0)
    torch.testing.assert_close(values.sort(descending=True).values, exact.topk(12).values)
    torch.testing.assert_close(exact.gather(1, indices), values)


@pytest.mark.parametrize("screen", [True, False])
def test_empty_batches(screen):
    for select, argument in ((entries_above, 0.1), (top_k_per_row, 4), (top_k_of_batch, 4)):
        code = select(PreActs(torch.zeros(0, D_IN), encoder(), torch.zeros(D_SAE), screen=screen), argument)
        assert (code.nnz, code.batch_size) == (0, 0)


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_products_of_every_dtype(packed, dtype, monkeypatch):
    monkeypatch.setattr(products, "packed", packed)
    x, W_enc, b_enc = torch.randn(BATCH, D_IN).to(dtype), encoder().to(dtype), torch.randn(D_SAE).to(dtype)
    exact = x.double() @ W_enc.double() + b_enc.double()
    blocks = torch.cat([block for _, block, _ in PreActs(x, W_enc, b_enc, screen=False).blocks()])
    assert blocks.dtype == dtype
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(blocks.double(), exact, atol=64 * eps, rtol=4 * eps)


@pytest.mark.parametrize("packed", PACKED)
def test_under_autocast_the_products_have_its_precision(packed, monkeypatch):
    monkeypatch.setattr(products, "packed", packed)
    x, W_enc, b_enc = torch.randn(BATCH, D_IN), encoder(), torch.zeros(D_SAE)
    exact = x.bfloat16().double() @ W_enc.bfloat16().double()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        code = top_k_per_row(PreActs(x, W_enc, b_enc), 4)
    torch.testing.assert_close(code.take_from(exact), code.values.double(), atol=0.0, rtol=2**-8)


def refuse_bfloat16(weight, n_rows, reorder=torch.ops.mkldnn._reorder_linear_weight):
    if weight.dtype == torch.bfloat16:
        raise RuntimeError("mkldnn_reorder_linear_weight: bf16 path needs the cpu support avx512bw")
    return reorder(weight, n_rows)


def distort(weight, n_rows, reorder=torch.ops.mkldnn._reorder_linear_weight):
    return reorder(weight.float().bfloat16().to(weight.dtype), n_rows)


@pytest.mark.skipif(not can_pack(torch.float32), reason="oneDNN packs nothing on this machine")
def test_each_dtype_is_tried_for_itself(monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", refuse_bfloat16)
    assert can_pack(torch.float32)
    assert not can_pack(torch.bfloat16)
    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", distort)
    assert not can_pack(torch.float32), "inexact"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_product_that_is_a_few_roundings_off_is_not_used(monkeypatch, dtype):
    def off(weight, bias, n_rows):
        return lambda x: (x @ weight.T + bias) * (1 + 30 * torch.finfo(dtype).eps)

    monkeypatch.setattr(pre_acts, "_packed_product", off)
    assert not can_pack(dtype)


def test_a_screen_of_numbers_that_bfloat16_holds_still_allows_for_the_sums():
    x, W_enc = (tensor.bfloat16().float() for tensor in (torch.randn(BATCH, D_IN), encoder()))
    exact = x.double() @ W_enc.double()
    for start, block, bound in PreActs(x, W_enc, torch.zeros(D_SAE)).blocks():
        rows = slice(start, start + len(block))
        sums = (x[rows] @ W_enc).double() - exact[rows]
        assert (bound >= sums.abs().max()).all()


def test_plain_products_can_be_asked_for(monkeypatch):
    monkeypatch.setenv("SAE_PLAIN_PRODUCTS", "1")
    monkeypatch.setattr(cpu_settings, "use_fast_float32_products", lambda: pytest.fail("tried"))
    chosen = chosen_products(monkeypatch)
    assert not chosen.packed
    assert not chosen.screened


def test_beside_a_gpu_float32_products_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # there the setting would mean TF32
    monkeypatch.setattr(cpu_settings, "use_fast_float32_products", lambda: pytest.fail("set"))
    assert not chosen_products(monkeypatch).packed


def chosen_products(monkeypatch):
    """What a command would choose on this machine, for this test."""
    monkeypatch.setattr(products, "packed", frozenset())
    monkeypatch.setattr(products, "screened", False)
    before = torch.get_float32_matmul_precision()
    try:
        cpu_settings.choose_products()
    finally:
        torch.set_float32_matmul_precision(before)
    return products


def test_what_is_chosen_works_here(monkeypatch):
    chosen = chosen_products(monkeypatch)
    assert all(can_pack(dtype) for dtype in chosen.packed)
    x, W_enc, b_enc = torch.randn(BATCH, D_IN), encoder(), torch.zeros(D_SAE)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            assert top_k_per_row(PreActs(x, W_enc, b_enc), 4).nnz == 4 * BATCH


@pytest.mark.parametrize(("batch", "d_sae"), [(4096, 73_728), (4096, 131_072), (100, 2**29), (1, 8), (7, 2**26)])
def test_blocks_on_a_gpu_are_equal_and_bounded(batch, d_sae):
    n_rows = pre_acts.rows_of_blocks(batch, d_sae, "cuda")
    assert n_rows == 1 or n_rows * d_sae <= pre_acts.DEVICE_ENTRIES
    n_blocks = max(1, -(-batch // n_rows))
    assert n_blocks * n_rows - batch < n_blocks, "no block has more than a row less than another"


@pytest.mark.skipif(torch.cuda.is_available(), reason="beside a GPU nothing is packed")
def test_without_bfloat16_products_float32_ones_are_packed_and_nothing_is_screened(monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", refuse_bfloat16)
    chosen = chosen_products(monkeypatch)
    assert torch.bfloat16 not in chosen.packed
    assert not chosen.screened


AVX2_ONLY = """
import torch
from sae_lightning import cpu_settings
from sae_lightning.kernels.pre_acts import PreActs, products

cpu_settings.choose_products()
x, W_enc, b_enc = torch.randn(8, 256), torch.randn(256, 512), torch.zeros(512)
for enabled in (False, True):
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
        PreActs(x, W_enc, b_enc).dense()
print(products.screened, torch.bfloat16 in products.packed)
"""


@pytest.mark.slow
def test_a_cpu_without_avx512():
    """oneDNN is told to do without the instructions that its bfloat16 products need."""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    command = [sys.executable, "-W", "ignore", "-c", AVX2_ONLY]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"]
