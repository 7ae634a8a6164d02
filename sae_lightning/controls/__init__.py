"""Controls of an SAE: nulls at the same l0, for which nothing is trained by gradient."""

from sae_lightning.controls.base import Control

__all__ = ["Control"]
