"""Callbacks that answer one question each at validation and test."""

from sae_lightning.datamodules.text_reader import TextReader
from sae_lightning.evaluators.absorption import Absorption
from sae_lightning.evaluators.attribute_editing import AttributeEditing
from sae_lightning.evaluators.attribute_probing import AttributeProbing
from sae_lightning.evaluators.auto_interp import AutoInterp
from sae_lightning.evaluators.base import Evaluator, evaluate_across_ranks, log_histogram
from sae_lightning.evaluators.causal_editing import CausalEditing
from sae_lightning.evaluators.concept_purity import ConceptPurity
from sae_lightning.evaluators.convergence import Convergence
from sae_lightning.evaluators.crosscoder_parts import CrosscoderParts
from sae_lightning.evaluators.drift import Drift
from sae_lightning.evaluators.latent_images import LatentImages
from sae_lightning.evaluators.linear_maps import LinearMaps
from sae_lightning.evaluators.loss_recovered import LossRecovered
from sae_lightning.evaluators.meta_latents import MetaLatents
from sae_lightning.evaluators.meta_steering import MetaSteering
from sae_lightning.evaluators.reconstruction import Reconstruction
from sae_lightning.evaluators.recovery import Recovery
from sae_lightning.evaluators.references import References
from sae_lightning.evaluators.scores import Items, Scores
from sae_lightning.evaluators.seed_agreement import SeedAgreement
from sae_lightning.evaluators.sparse_probing import SparseProbing
from sae_lightning.evaluators.sparsity import Sparsity
from sae_lightning.evaluators.text_evaluator import TextEvaluator
from sae_lightning.evaluators.zero_shot import ZeroShotRecovered

__all__ = [
    "Absorption",
    "AttributeEditing",
    "AttributeProbing",
    "AutoInterp",
    "CausalEditing",
    "ConceptPurity",
    "Convergence",
    "CrosscoderParts",
    "Drift",
    "Evaluator",
    "Items",
    "LatentImages",
    "LinearMaps",
    "LossRecovered",
    "MetaLatents",
    "MetaSteering",
    "Reconstruction",
    "Recovery",
    "References",
    "Scores",
    "SeedAgreement",
    "SparseProbing",
    "Sparsity",
    "TextEvaluator",
    "TextReader",
    "ZeroShotRecovered",
    "log_histogram",
    "evaluate_across_ranks",
]
