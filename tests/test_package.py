"""The package as it is installed."""

import subprocess
import sys
from importlib import metadata

import pytest
import torch

import sae_lightning
from sae_lightning import startup


def test_version_is_that_of_the_distribution():
    assert metadata.version("sae-lightning") == sae_lightning.__version__


@pytest.mark.slow
def test_what_needs_torchvision_can_be_imported():
    code = (
        "import sae_lightning, lightning.pytorch, torchmetrics, open_clip; "
        "from transformers import AutoModelForCausalLM, CLIPModel"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


@pytest.mark.slow
def test_training_imports_no_library_that_it_does_not_use():
    code = (
        "import sys, sae_lightning.lightning_cli; "
        "print(*{'sklearn', 'pandas', 'pyarrow', 'datasets', 'open_clip', 'tensorboard'} & {*sys.modules})"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    assert not subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def test_fast_products_stay_float32():
    before = torch.get_float32_matmul_precision()
    try:
        startup.use_fast_float32_products()
        left, right = torch.randn(300, 200), torch.randn(200, 400)
        exact = left.double() @ right.double()
        assert ((left @ right).double() - exact).abs().max() < 2e-6 * exact.abs().max()
    finally:
        torch.set_float32_matmul_precision(before)


def test_inexact_products_are_refused():
    before = torch.get_float32_matmul_precision()
    assert not startup.use_fast_float32_products(tolerance=0.0)
    assert torch.get_float32_matmul_precision() == before
