"""Batches of activations for training and validation."""

from sae_lightning.datamodules.activation_files import ActivationFiles
from sae_lightning.datamodules.activation_tensors import ActivationTensors
from sae_lightning.datamodules.base import ActivationDataModule
from sae_lightning.datamodules.cached import CachedActivations
from sae_lightning.datamodules.clip_images import ClipImages
from sae_lightning.datamodules.clip_text import ClipText
from sae_lightning.datamodules.decoder_directions import DecoderDirections
from sae_lightning.datamodules.file_text import FileText
from sae_lightning.datamodules.hub_text import HubText
from sae_lightning.datamodules.language_model import LanguageModelDataModule
from sae_lightning.datamodules.synthetic import SyntheticDataModule
from sae_lightning.datamodules.text import SourceError, Text

__all__ = [
    "ActivationDataModule",
    "ActivationFiles",
    "ActivationTensors",
    "CachedActivations",
    "ClipImages",
    "ClipText",
    "DecoderDirections",
    "FileText",
    "HubText",
    "LanguageModelDataModule",
    "SourceError",
    "SyntheticDataModule",
    "Text",
]
