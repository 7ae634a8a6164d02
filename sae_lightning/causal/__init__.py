"""Causal editing: prompts about attributes of entities, pairs of them, and masks that swap an attribute."""

from sae_lightning.causal.masks import Coordinates, train_mask
from sae_lightning.causal.pairs import Pair, draw_pairs
from sae_lightning.causal.prompts import EntityPrompt, EntityPrompts
from sae_lightning.causal.questions import Question, are_right, ask, entity_activations, read_questions
from sae_lightning.causal.ravel_files import RavelFiles
from sae_lightning.causal.swaps import Known, Swaps, find_known

__all__ = [
    "Coordinates",
    "EntityPrompt",
    "EntityPrompts",
    "Known",
    "Pair",
    "Question",
    "RavelFiles",
    "Swaps",
    "are_right",
    "ask",
    "draw_pairs",
    "entity_activations",
    "find_known",
    "read_questions",
    "train_mask",
]
