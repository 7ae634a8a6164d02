import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when triton is first imported: kernels/test_triton_bag.py

import pytest  # noqa: E402
from tiny_clip import save_images, save_tiny_clip  # noqa: E402

import sae_lightning  # noqa: E402, F401  (before anything that imports torchvision, see sae_lightning/_torchvision.py)


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory):
    """Folder of a CLIP model with random weights."""
    return str(save_tiny_clip(tmp_path_factory.mktemp("tiny_clip")))


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory):
    """Folder with red, green and blue images, in a folder each."""
    return str(save_images(tmp_path_factory.mktemp("images")))
