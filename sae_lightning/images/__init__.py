"""Pictures that image models read."""

from sae_lightning.images.base import Images
from sae_lightning.images.folder import ImageFolder
from sae_lightning.images.hub import HubImages
from sae_lightning.images.pocket import PocketCaptions, PocketImages
from sae_lightning.images.reader import ImageReader

__all__ = ["HubImages", "ImageFolder", "ImageReader", "Images", "PocketCaptions", "PocketImages"]
