"""Settings of the process: products that stay exact, and where memory lies."""

import ctypes

import pytest
import torch
from fit_in_server import call

from sae_lightning import cpu_settings


def test_fast_products_stay_float32():
    before = torch.get_float32_matmul_precision()
    try:
        cpu_settings.use_fast_float32_products()
        left, right = torch.randn(300, 200), torch.randn(200, 400)
        exact = left.double() @ right.double()
        assert ((left @ right).double() - exact).abs().max() < 2e-6 * exact.abs().max()
    finally:
        torch.set_float32_matmul_precision(before)


def test_matrix_units_for_bfloat16_are_kept_from_float32_products(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    before = torch.get_float32_matmul_precision()
    try:
        assert not cpu_settings.use_fast_float32_products()
        assert torch.get_float32_matmul_precision() == before
    finally:
        torch.set_float32_matmul_precision(before)


def test_inexact_products_are_refused():
    before = torch.get_float32_matmul_precision()
    assert not cpu_settings.use_fast_float32_products(tolerance=0.0)
    assert torch.get_float32_matmul_precision() == before


class MemoryInfo(ctypes.Structure):
    """What `mallinfo2` of glibc returns."""

    NAMES = ("arena", "ordblks", "smblks", "hblks", "mapped", "usmblks", "fsmblks", "used", "free", "top")
    _fields_ = [(name, ctypes.c_size_t) for name in NAMES]


def print_what_is_mapped():
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = MemoryInfo
    cpu_settings.separate_large_tensors()
    before = mallinfo().mapped
    keep = lambda size: cpu_settings.keep_freed_memory()  # noqa: E731
    for what, size in ((torch.empty, 2**22), (torch.empty, 2**21), (keep, 0), (torch.empty, 2**21)):
        kept = None
        kept = what(size)
        print((mallinfo().mapped - before) // 2**23, flush=True)
    assert kept is not None


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="settings of glibc")
def test_large_tensors_are_mapped_by_themselves_until_memory_is_kept(tmp_path):
    assert call(print_what_is_mapped, tmp_path) == [0]
    # The second, too: from what is freed glibc would learn.
    assert (tmp_path / "output-0.txt").read_text().split() == ["2", "1", "0", "0"]


def test_how_slow_a_number_format_is_is_tried():
    cpu_settings.slowness.cache_clear()
    assert 0.2 < cpu_settings.slowness(torch.float32) < 5
    assert cpu_settings.slowness(torch.float64) > 0.5
