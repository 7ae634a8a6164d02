"""A fingerprint of an SAE: two SAEs have the same where all their tensors are equal to the bit.

Runs record it with what they measure, so that an SAE that is met again, under another path or in another run, is known.
"""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

_CHUNK = 2**20
# Odd constants of splitmix64 (Steele et al. 2014), as signed 64-bit numbers; integer products wrap around.
_BY_VALUE, _BY_PLACE, _MIX = -7046029254386353131, -4658895280553007687, -7723592293110705685
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@torch.no_grad()
def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Return 16 hexadecimal digits that follow from names, shapes, dtypes and every bit of the tensors.

    Args:
        tensors: by name, in any order, on any device.

    >>> one = {"W": torch.eye(2), "b": torch.zeros(2)}
    >>> fingerprint(one) == fingerprint({"b": torch.zeros(2), "W": torch.eye(2)})
    True
    >>> fingerprint(one) == fingerprint({"W": torch.eye(2), "b": torch.tensor([0.0, 1e-30])})
    False
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}{_checksum(tensor)}".encode())
    return digest.hexdigest()[:16]


def _checksum(tensor: Tensor) -> int:
    """Return a sum over elements that mixes value and place: exact on every device, whatever the order of adding."""
    flat = tensor.contiguous().flatten().view(_INTEGERS[tensor.element_size()])
    total = 0
    for begin in range(0, len(flat), _CHUNK):
        mixed = flat[begin : begin + _CHUNK].long() * _BY_VALUE  # a copy: the tensor itself stays as it is
        mixed += torch.arange(begin, begin + len(mixed), device=flat.device) * _BY_PLACE
        mixed ^= mixed >> 29
        total += int(mixed.mul_(_MIX).sum())
    return total
