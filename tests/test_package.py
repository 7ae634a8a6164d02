"""The package as it is installed."""

from importlib import metadata

from new_process import run

import sae_lightning


def test_version_is_that_of_the_distribution():
    assert metadata.version("sae-lightning") == sae_lightning.__version__


def test_importing_the_package_imports_neither_torch_nor_torchvision():
    code = "import sys, sae_lightning, sae_lightning.cli; print({'torch', 'torchvision', 'lightning'} & {*sys.modules})"
    assert run(code) == "set()"
