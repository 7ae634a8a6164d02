"""Images with labels, and how models read them."""

from sae_lightning.images.base import Images
from sae_lightning.images.embeddings import ClipEmbedding, Embedding, PixelEmbedding
from sae_lightning.images.folder import ImageFolder
from sae_lightning.images.hub import HubImages
from sae_lightning.images.reader import ImageReader

__all__ = [
    "ClipEmbedding",
    "Embedding",
    "HubImages",
    "ImageFolder",
    "ImageReader",
    "Images",
    "PixelEmbedding",
]
