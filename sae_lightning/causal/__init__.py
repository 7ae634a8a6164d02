"""Causal editing: prompts about attributes of entities, pairs of them, and masks that swap an attribute."""

from sae_lightning.causal.fact_file import FactFile
from sae_lightning.causal.knowledge import Answers, Knowledge, ask_what_is_known
from sae_lightning.causal.masks import Coordinates, train_mask
from sae_lightning.causal.pairs import Pair, draw_pairs
from sae_lightning.causal.prompts import EntityPrompt, EntityPrompts
from sae_lightning.causal.questions import EntityQuestion, ask, entity_activations, is_correct, read_questions
from sae_lightning.causal.ravel_files import RavelFiles
from sae_lightning.causal.swaps import KnownPrompts, Swaps, known_prompts

__all__ = [
    "Answers",
    "Coordinates",
    "EntityPrompt",
    "EntityPrompts",
    "EntityQuestion",
    "FactFile",
    "Knowledge",
    "KnownPrompts",
    "Pair",
    "RavelFiles",
    "Swaps",
    "ask",
    "ask_what_is_known",
    "draw_pairs",
    "entity_activations",
    "is_correct",
    "known_prompts",
    "read_questions",
    "train_mask",
]
