"""A LightningModule per SAE variant."""

from sae_lightning.code import Code
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.batch_topk import BatchTopK
from sae_lightning.saes.bias_init import BiasInit, GeometricMedian, Mean, Zero
from sae_lightning.saes.encode_decode import EncodeDecode
from sae_lightning.saes.gated import Gated
from sae_lightning.saes.init import CovarianceMatched, DataPoints, DecoderInit, Isotropic, TrueFeatures
from sae_lightning.saes.jump_relu import JumpReLU, L0Penalty, LinearL0, TargetL0
from sae_lightning.saes.losses import Losses
from sae_lightning.saes.matryoshka import MatryoshkaBatchTopK
from sae_lightning.saes.module import SAEModule
from sae_lightning.saes.pursuit import Pursuit
from sae_lightning.saes.relu import ReLU
from sae_lightning.saes.schedule import WarmupDecay
from sae_lightning.saes.step import Step
from sae_lightning.saes.stitched import Stitched
from sae_lightning.saes.topk import TopK

__all__ = [
    "BatchTopK",
    "BiasInit",
    "Code",
    "CovarianceMatched",
    "DataPoints",
    "DecoderInit",
    "EncodeDecode",
    "Gated",
    "GeometricMedian",
    "Isotropic",
    "JumpReLU",
    "L0Penalty",
    "LinearL0",
    "Losses",
    "MatryoshkaBatchTopK",
    "Mean",
    "Pursuit",
    "ReLU",
    "SAEModule",
    "SparseAutoencoder",
    "Step",
    "Stitched",
    "TargetL0",
    "TopK",
    "TrueFeatures",
    "WarmupDecay",
    "Zero",
]
