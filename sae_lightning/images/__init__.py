"""Pictures that image models read."""

from sae_lightning.images.base import Images
from sae_lightning.images.pocket import PocketCaptions, PocketImages

__all__ = ["Images", "PocketCaptions", "PocketImages"]
