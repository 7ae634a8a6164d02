import pytest
import torch
from tiny import WORDS, save_tiny_lm

from sae_lightning.interpretation.excerpts import Excerpts
from sae_lightning.interpretation.firings import Counts, Firings
from sae_lightning.interpretation.tasks import TaskSettings, make_task
from sae_lightning.sources import TokenBatch

LENGTH = 8


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(save_tiny_lm(tmp_path_factory.mktemp("lm")))


@pytest.fixture(scope="session")
def excerpts(tokenizer):
    """150 rows of 3 excerpts of random words."""
    ids = torch.randint(4, 4 + len(WORDS), (150, 3 * LENGTH + 2), generator=torch.Generator().manual_seed(0))
    return Excerpts(TokenBatch(ids, torch.ones_like(ids, dtype=torch.bool)), LENGTH, tokenizer)


SETTINGS = TaskSettings(n_latents=4, n_shown=15, n_judged=50, min_excerpts=5, min_frequency=1e-6)


@pytest.fixture(scope="session")
def task_for(excerpts):
    """Make the task of a latent with these activations of all tokens."""

    def make(activations):
        positions = activations.nonzero()[:, 0]
        firings = Firings(positions, torch.zeros_like(positions), activations[positions])
        n = torch.tensor([len(positions)])
        return make_task(0, 0, Counts(n, n, n, len(activations)), firings, excerpts, SETTINGS)

    return make


@pytest.fixture(scope="session")
def planted(excerpts, task_for):
    """A latent that fires on one word alone, at varying strengths."""
    ids = excerpts.ids.flatten()
    strengths = torch.rand(len(ids), generator=torch.Generator().manual_seed(1)) + 0.1
    return task_for(strengths * (ids == 4 + WORDS.index("moon")))
