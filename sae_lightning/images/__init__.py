"""Pictures that image models read."""

from sae_lightning.images.base import Images

__all__ = ["Images"]
