"""The package as it is installed."""

import ctypes
import subprocess
import sys
from importlib import metadata

import pytest
import torch
from fit_in_server import call

import sae_lightning
from sae_lightning import cpu_settings


def test_version_is_that_of_the_distribution():
    assert metadata.version("sae-lightning") == sae_lightning.__version__


def run(code):
    """What a new process prints that runs some code."""
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


needs_entry_point = pytest.mark.skipif(
    not any(point.module == "sae_lightning._torchvision" for point in metadata.entry_points(group="torch.backends")),
    reason="this environment was installed before the package had an entry point: pip install -e .",
)
"""For imports of torchvision, as by all libraries that use it, without the package or before it.

In all other tests the package comes first.
"""


@pytest.mark.slow
@needs_entry_point
def test_torchvision_can_be_imported_after_torch_without_the_package():
    run("import torch, torchvision")


@pytest.mark.slow
@needs_entry_point
def test_training_can_be_imported_after_torchvision_and_imports_no_library_that_it_does_not_use():
    unused = {"sklearn", "pandas", "pyarrow", "datasets", "open_clip", "tensorboard"}
    assert not run(f"import sys, torchvision, sae_lightning.commands.fit; print(*{unused} & {{*sys.modules}})")


HEAVY = "{'torchvision', 'transformers', 'scipy', 'torchmetrics.functional'} & {*sys.modules}"
WHOLE = """
import torchmetrics, torchmetrics.classification
from torchmetrics import Accuracy, Metric
assert torchmetrics.classification.accuracy.Accuracy is torchmetrics.classification.Accuracy is Accuracy
assert torchmetrics.Metric is torchmetrics.metric.Metric is Metric
assert isinstance(Accuracy(task="binary"), Metric)
assert torchmetrics.functional.mean_squared_error
for module in (torchmetrics, torchmetrics.classification):
    assert module.__spec__.loader is module.__loader__
    assert type(module.__loader__).__name__ == "SourceFileLoader"
"""


@pytest.mark.slow
def test_lightning_imports_no_metric_and_torchmetrics_is_whole_when_it_is_used():
    assert run(f"import sys, sae_lightning, lightning.pytorch; print({HEAVY}){WHOLE}") == "set()"


@pytest.mark.slow
@pytest.mark.parametrize("first", ["torchmetrics.regression", "torchmetrics.metric", "torchmetrics.utilities.data"])
def test_a_part_of_torchmetrics_can_be_imported_first(first):
    run(f"import sae_lightning, {first}{WHOLE}")


@pytest.mark.slow
def test_a_torchmetrics_whose_base_classes_need_the_rest_is_imported_whole():
    fail = "def fail(name):\n    import torchmetrics.utilities, torchmetrics.metric\n    raise ImportError(name)\n"
    code = f"{fail}_torchmetrics._light = fail\nfrom torchmetrics import Metric{WHOLE}"
    run(f"from sae_lightning import _torchmetrics\n{code}")


def test_importing_the_package_imports_neither_torch_nor_torchvision():
    code = "import sys, sae_lightning, sae_lightning.cli; print({'torch', 'torchvision', 'lightning'} & {*sys.modules})"
    assert run(code) == "set()"


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
