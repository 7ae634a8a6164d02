"""Freeze policies: what makes a baseline a baseline."""

from sae_lightning.freeze.parts import SeparateParts, TiedAtRandom
from sae_lightning.freeze.policy import FreezePolicy, FrozenDecoder, FrozenEncoder, NoFreeze, Untrained
from sae_lightning.freeze.soft import SoftFrozenDecoder, SoftFrozenEncoder

__all__ = [
    "FreezePolicy",
    "FrozenDecoder",
    "FrozenEncoder",
    "NoFreeze",
    "SeparateParts",
    "SoftFrozenDecoder",
    "SoftFrozenEncoder",
    "TiedAtRandom",
    "Untrained",
]
