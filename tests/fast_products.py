"""The kinds of CPU that differ in their fast products, as parameters of a test."""

import pytest
import torch

from sae_lightning.kernels.pre_acts import can_pack


def _on(packed: frozenset[torch.dtype], name: str):
    missing = sorted(str(dtype) for dtype in packed if not can_pack(dtype))
    reason = f"oneDNN does not pack {', '.join(missing)} on this machine"
    return pytest.param(packed, id=name, marks=pytest.mark.skipif(bool(missing), reason=reason))


PACKED = [
    _on(frozenset(), "nothing packed"),
    _on(frozenset({torch.float32}), "float32 packed"),  # AVX2
    _on(frozenset({torch.float32, torch.bfloat16}), "float32 and bfloat16 packed"),  # AVX-512
]
"""Values of `products.packed`."""
