"""Causal editing: prompts about attributes of entities, pairs of them, and masks that swap an attribute."""

from sae_lightning.causal.fact_file import FactFile
from sae_lightning.causal.masks import Coordinates, train_mask
from sae_lightning.causal.pairs import Pair, draw_pairs
from sae_lightning.causal.prompts import EntityPrompt, EntityPrompts
from sae_lightning.causal.questions import EntityQuestion, ask, entity_activations, is_correct, read_questions
from sae_lightning.causal.ravel_files import RavelFiles
from sae_lightning.causal.swaps import KnownPrompts, Swaps, find_known_prompts

__all__ = [
    "Coordinates",
    "EntityPrompt",
    "EntityPrompts",
    "EntityQuestion",
    "FactFile",
    "KnownPrompts",
    "Pair",
    "RavelFiles",
    "Swaps",
    "ask",
    "draw_pairs",
    "entity_activations",
    "find_known_prompts",
    "is_correct",
    "read_questions",
    "train_mask",
]
