import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when triton is first imported: kernels/test_triton_bag.py

import sae_lightning  # noqa: E402, F401  (before anything that imports torchvision, see sae_lightning/_torchvision.py)
