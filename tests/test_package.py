"""The package as it is installed."""

import ctypes
import subprocess
import sys
from importlib import metadata

import pytest
import torch

import sae_lightning
from sae_lightning import cpu_settings


def test_version_is_that_of_the_distribution():
    assert metadata.version("sae-lightning") == sae_lightning.__version__


ORDERS = {
    "torch first": "import torch, torchvision",
    "torchvision first": "import torchvision, sae_lightning",
}
"""Orders in which torchvision is imported, as all libraries that use it do, without the package or before it.

In all other tests, and below, the package comes first.
"""


@pytest.mark.slow
@pytest.mark.parametrize("code", ORDERS.values(), ids=ORDERS)
def test_what_needs_torchvision_can_be_imported_in_any_order(code):
    if not any(point.module == "sae_lightning._torchvision" for point in metadata.entry_points(group="torch.backends")):
        pytest.skip("this environment was installed before the package had an entry point: pip install -e .")
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_importing_the_package_imports_neither_torch_nor_torchvision():
    code = "import sys, sae_lightning, sae_lightning.cli; print({'torch', 'torchvision', 'lightning'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "set()\n"


@pytest.mark.slow
def test_training_imports_no_library_that_it_does_not_use():
    code = (
        "import sys, sae_lightning.commands.fit, torchvision; "
        "print(*{'sklearn', 'pandas', 'pyarrow', 'datasets', 'open_clip', 'tensorboard'} & {*sys.modules})"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    assert not subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


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


MAPPED = """
import ctypes, torch
from sae_lightning import cpu_settings

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks mapped usmblks fsmblks used".split()]
    _fields_ += [("free", ctypes.c_size_t), ("top", ctypes.c_size_t)]

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Info
cpu_settings.separate_large_tensors()
before, mapped = mallinfo().mapped, []
keep = lambda size: cpu_settings.keep_freed_memory()
for what, size in ((torch.empty, 2**22), (torch.empty, 2**21), (keep, 0), (torch.empty, 2**21)):
    kept = None
    kept = what(size)
    mapped.append((mallinfo().mapped - before) // 2**23)
print(*mapped)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="settings of glibc")
def test_large_tensors_are_mapped_by_themselves_until_memory_is_kept():
    done = subprocess.run([sys.executable, "-c", MAPPED], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["2", "1", "0", "0"]  # the second, too: from what is freed glibc would learn


def test_how_slow_a_number_format_is_is_tried():
    cpu_settings.slowness.cache_clear()
    assert 0.2 < cpu_settings.slowness(torch.float32) < 5
    assert cpu_settings.slowness(torch.float64) > 0.5
