"""Without a GPU the kernels run under Triton's interpreter, which tests/conftest.py turns on."""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from sae_lightning.kernels import triton_bag
from sae_lightning.kernels.triton_bag import bag_sum, is_available, sampled_dot

needs_triton = pytest.mark.skipif(triton_bag.triton is None, reason="triton is not installed")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LENGTHS = {
    "mixed": [0, 3, 1, 0, 9, 2, 0],
    "one entry": [1],
    "empty": [0, 0],
    "no bags": [],
    "long": [3, 70, 0, 33, 32, 1],
    "at the edges of chunks": [8, 16, 8, 0, 7, 1, 24],
}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def rand(*shape, dtype=torch.float32):
    return torch.randn(*shape, device=DEVICE, dtype=torch.float64).to(dtype)


def entries(lengths, m):
    offsets = torch.tensor([0, *lengths], device=DEVICE).cumsum(0)
    return torch.randint(m, (sum(lengths),), device=DEVICE), offsets


def bag_sum_by_hand(indices, offsets, weights, matrix):
    out = matrix.new_zeros(len(offsets) - 1, matrix.shape[1], dtype=torch.float64)
    for bag in range(len(out)):
        for e in range(offsets[bag], offsets[bag + 1]):
            out[bag] += weights[e].double() * matrix[indices[e]].double()
    return out


def sampled_dot_by_hand(left, right, indices, offsets):
    dots = left.double() @ right.double().T
    rows = torch.repeat_interleave(torch.arange(len(left), device=DEVICE), offsets.diff())
    return dots[rows, indices]


def assert_close(got, wanted, dtype, scale=1.0):
    assert got.dtype == dtype
    rounding = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}[dtype]
    torch.testing.assert_close(got.double(), wanted, rtol=rounding, atol=rounding * 0.1 * scale)


@needs_triton
def test_kernels_are_available():
    assert is_available()


@needs_triton
@pytest.mark.parametrize("d", [1, 5, 100, 130])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
@pytest.mark.parametrize("chunk", [8, 256])
def test_bag_sum(lengths, d, chunk, monkeypatch):
    monkeypatch.setattr(triton_bag, "CHUNK", chunk)
    indices, offsets = entries(lengths, m=11)
    weights, matrix = rand(len(indices), dtype=torch.float64), rand(11, d, dtype=torch.float64)
    got = bag_sum(indices, offsets, weights, matrix)
    assert_close(got, bag_sum_by_hand(indices, offsets, weights, matrix), torch.float64)


@needs_triton
@pytest.mark.parametrize("d", [1, 5, 100, 130])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
def test_sampled_dot(lengths, d):
    indices, offsets = entries(lengths, m=11)
    left, right = rand(len(lengths), d, dtype=torch.float64), rand(11, d, dtype=torch.float64)
    got = sampled_dot(left, right, indices, offsets)
    assert_close(got, sampled_dot_by_hand(left, right, indices, offsets), torch.float64)


@needs_triton
def test_a_bag_of_several_chunks_of_the_usual_size():
    indices, offsets = entries([3, 800, 0, 256, 221, 1], m=11)
    weights, matrix = rand(len(indices)), rand(11, 5)
    assert_close(
        bag_sum(indices, offsets, weights, matrix),
        bag_sum_by_hand(indices, offsets, weights, matrix),
        torch.float32,
        10,
    )


@needs_triton
@pytest.mark.parametrize("chunk", [8, 256])
def test_order_names_the_entries_of_the_bags(chunk, monkeypatch):
    monkeypatch.setattr(triton_bag, "CHUNK", chunk)
    indices, offsets = entries([4, 0, 21, 2], m=6)
    weights, matrix = rand(27, dtype=torch.float64), rand(6, 5, dtype=torch.float64)
    order = torch.randperm(27, device=DEVICE)
    got = bag_sum(indices, offsets, weights, matrix, order)
    assert_close(got, bag_sum_by_hand(indices[order], offsets, weights[order], matrix), torch.float64)


@needs_triton
@pytest.mark.parametrize("matrix_dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("other_dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_dtypes(matrix_dtype, other_dtype):
    if DEVICE == "cpu" and {matrix_dtype, other_dtype} == {torch.bfloat16, torch.float64}:
        pytest.skip("the interpreter of Triton 3.9 cannot convert between bfloat16 and float64")
    indices, offsets = entries([5, 0, 2], m=4)
    weights, matrix, left = rand(7, dtype=other_dtype), rand(4, 9, dtype=matrix_dtype), rand(3, 9, dtype=other_dtype)
    wanted = bag_sum_by_hand(indices, offsets, weights, matrix)
    assert_close(bag_sum(indices, offsets, weights, matrix), wanted, matrix_dtype)
    wanted = sampled_dot_by_hand(left, matrix, indices, offsets)
    dtype = torch.promote_types(matrix_dtype, other_dtype)
    assert_close(sampled_dot(left, matrix, indices, offsets), wanted, dtype, 10)


@needs_triton
def test_half_precision_is_summed_in_single_precision():
    n = 300  # bfloat16 cannot count past 256
    indices, offsets = entries([n], m=1)
    ones = torch.ones(n, dtype=torch.bfloat16, device=DEVICE)
    assert bag_sum(indices, offsets, ones, ones[:1, None]).item() == n
    assert sampled_dot(ones[None], ones[None], indices[:1], offsets.clamp(max=1)).item() == n


@needs_triton
def test_double_weights_are_summed_in_double_precision():
    indices, offsets = entries([3], m=1)
    weights = torch.tensor([2.0**30, 1.0, -(2.0**30)], dtype=torch.float64, device=DEVICE)
    assert bag_sum(indices, offsets, weights, torch.ones(1, 1, device=DEVICE)).item() == 1


@needs_triton
@pytest.mark.parametrize(
    "view", [lambda wide: wide[:, 3:8], lambda wide: wide[:5].T, lambda wide: wide[:1, :5].expand(6, 5)]
)
def test_matrices_that_are_views(view):
    matrix, left = view(rand(6, 12)), view(rand(6, 12))
    if matrix.shape[0] == 12:
        matrix, left = matrix[:6], left[2:8]
    indices, offsets = entries([2, 0, 3, 1, 0, 4], m=6)
    weights = rand(20)[::2]
    wanted = bag_sum_by_hand(indices, offsets, weights, matrix)
    assert_close(bag_sum(indices, offsets, weights, matrix), wanted, torch.float32)
    wanted = sampled_dot_by_hand(left, matrix, indices, offsets)
    assert_close(sampled_dot(left, matrix, indices, offsets), wanted, torch.float32, 10)


@needs_triton
def test_a_matrix_larger_than_the_cache_is_taken_in_narrower_slices(monkeypatch):
    indices, offsets = entries([4, 1, 40], m=6)
    weights, matrix, left = rand(45), rand(6, 130), rand(3, 130)
    wide = bag_sum(indices, offsets, weights, matrix), sampled_dot(left, matrix, indices, offsets)
    assert triton_bag._plan(torch.float32, matrix)[1] == 2
    for cache, n_slices in ((6 * 256, 3), (0, 5)):
        monkeypatch.setattr(triton_bag, "L2_BYTES", cache)
        assert triton_bag._plan(torch.float32, matrix)[1] == n_slices
        narrow = bag_sum(indices, offsets, weights, matrix), sampled_dot(left, matrix, indices, offsets)
        torch.testing.assert_close(narrow, wide)


@needs_triton
def test_agrees_with_embedding_bag():
    indices, offsets = entries([4, 0, 7, 12, 1], m=13)
    weights, matrix, left = rand(24), rand(13, 100), rand(5, 100)
    wanted = F.embedding_bag(indices, matrix, offsets, mode="sum", per_sample_weights=weights, include_last_offset=True)
    torch.testing.assert_close(bag_sum(indices, offsets, weights, matrix), wanted)
    rows = torch.repeat_interleave(torch.arange(5, device=DEVICE), offsets.diff())
    wanted = torch.ops.aten._embedding_bag_per_sample_weights_backward(left, matrix, indices, offsets, rows, 0)
    torch.testing.assert_close(sampled_dot(left, matrix, indices, offsets), wanted)


@needs_triton
def test_weight_gradient_of_a_code():
    dense = rand(6, 13) * (torch.rand(6, 13, device=DEVICE) < 0.3)
    rows, latents = dense.nonzero(as_tuple=True)
    order = torch.argsort(latents, stable=True)
    starts = F.pad(torch.bincount(latents, minlength=13).cumsum(0), (1, 0))
    x = rand(6, 5)
    torch.testing.assert_close(bag_sum(rows, starts, dense[rows, latents], x, order), dense.T @ x)


@needs_triton
def test_empty_matrices():
    indices, offsets = entries([0, 0], m=1)
    assert bag_sum(indices, offsets, rand(0), rand(0, 3)).tolist() == [[0.0] * 3] * 2
    assert bag_sum(indices, offsets, rand(0), rand(4, 0)).shape == (2, 0)
    assert sampled_dot(rand(1, 0), rand(4, 0), *entries([2], m=4)).tolist() == [0.0, 0.0]


def test_without_triton_the_module_can_be_imported_but_not_used(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    spec = importlib.util.spec_from_file_location("triton_bag_without_triton", triton_bag.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert not module.is_available()
    indices, offsets = entries([1], m=1)
    with pytest.raises(RuntimeError, match="need the package triton"):
        module.bag_sum(indices, offsets, rand(1), rand(1, 1))
    with pytest.raises(RuntimeError, match="need the package triton"):
        module.sampled_dot(rand(1, 1), rand(1, 1), indices, offsets)


@needs_triton
def test_trying_out_runs_a_kernel(monkeypatch):
    runs = []
    monkeypatch.setattr(triton_bag, "bag_sum", lambda *args: runs.append(bag_sum(*args)))
    triton_bag.try_out(DEVICE)
    assert [run.item() for run in runs] == [1.0]


COMPILE = """
import torch, triton, triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from sae_lightning.kernels import triton_bag

bag, chunk, dot = triton_bag._bag_sum_kernel, triton_bag._chunk_sum_kernel, triton_bag._sampled_dot_kernel
fp32, widths = torch.float32, set()
for rows, d, matrix_dtype, order in [
    (4096, 2304, fp32, "*i64"),  # gradients of the weights
    (73_728, 2304, fp32, "constexpr"),  # decode and the gradient of the latents, Gemma
    (131_072, 4096, fp32, "constexpr"),  # the same, Llama
    (73_728, 2304, torch.bfloat16, "*i64"),
    (64, 100, torch.float64, "constexpr"),
]:
    _, _, options = triton_bag._plan(fp32, torch.empty(rows, d, dtype=matrix_dtype, device="meta"))
    acc, block_n, block_d = (options.pop(name) for name in ("ACC", "BLOCK_N", "BLOCK_D"))
    widths.add(block_d * matrix_dtype.itemsize)
    dtype = {fp32: "fp32", torch.bfloat16: "bf16", torch.float64: "fp64"}[matrix_dtype]
    types = {"indices": "*i64", "offsets": "*i64", "order": order, "bag_end": "*i64", "weights": "*fp32"}
    types |= {"matrix": f"*{dtype}", "left": f"*{dtype}", "right": f"*{dtype}", "chunk_sums": f"*{acc}"}
    types |= {"stride": "i64", "left_stride": "i64", "right_stride": "i64", "d": "i32", "n": "i32"}
    constants = {"ACC": acc, "CHUNK": 256, "BLOCK_N": block_n, "BLOCK_D": block_d}
    constants |= {} if "i64" in order else {"order": None}
    for kernel, out in [(bag, f"*{dtype}"), (chunk, ""), (dot, f"*{acc}")]:
        signature = {name: (types | {"out": out}).get(name, "constexpr") for name in kernel.arg_names}
        values = {name: constants[name] for name in kernel.arg_names if name in constants}
        source = ASTSource(kernel, signature, values)
        assert triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["cubin"]
assert widths == {512, 256, 128}, "all widths of a slice"
"""


@needs_triton
@pytest.mark.slow
def test_kernels_compile_for_hopper(tmp_path):
    """The interpreter runs what the compiler would refuse; compiling needs no GPU."""
    env = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    result = subprocess.run([sys.executable, "-W", "error", "-c", COMPILE], env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@needs_triton
@pytest.mark.skipif(DEVICE == "cpu", reason="CUDA graphs need a GPU")
def test_capture_in_a_cuda_graph():
    indices, offsets = entries([3, 700, 0, 20], m=11)
    weights, matrix, left = rand(723), rand(11, 100), rand(4, 100)

    def run():
        return bag_sum(indices, offsets, weights, matrix), sampled_dot(left, matrix, indices, offsets)

    wanted = run()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = run()
    graph.replay()
    torch.testing.assert_close(got, wanted, rtol=0, atol=0)
