"""What a run says before its first step, and what its moving line shows."""

import pytest
import torch

from sae_lightning.callbacks.opening import activations_in_words, saes_in_words, samples_in_words
from sae_lightning.callbacks.progress import training_values
from sae_lightning.datamodules import SyntheticDataModule
from sae_lightning.panel import SanityPanel
from sae_lightning.saes import TopK

D_IN, D_SAE, K = 6, 12, 3


@pytest.fixture
def panel():
    return SanityPanel(D_IN, sae=lambda d_in: TopK(d_in, k=K, d_sae=D_SAE), seeds=[0, 1])


def test_a_run_says_which_saes_it_trains(panel):
    names = "trained, frozen_decoder, soft_frozen_decoder, frozen_encoder"
    assert saes_in_words(panel) == f"8 TopK (4 policies x 2 seeds): {names}; 12 latents of width 6; l0 3"
    assert saes_in_words(TopK(D_IN, k=K, d_sae=D_SAE)) == "TopK; 12 latents of width 6; l0 3"


def test_a_run_says_on_what_it_trains():
    data = SyntheticDataModule(d_in=D_IN, n_features=10, batch_size=16, train_samples=48_000, val_samples=1600)
    assert activations_in_words(data) == "SyntheticDataModule"
    assert samples_in_words(data, trains=True) == "48,000 samples in batches of 16; 1,600 held out"
    assert samples_in_words(data, trains=False) == "1,600 held out"


def test_the_moving_line_shows_the_mean_of_what_is_trained_freely(panel):
    """Not of the baselines, of which half would be worse: the line would tell of no SAE at all."""
    losses = {"trained/0": 1.0, "trained/1": 2.0, "frozen_decoder/0": 50.0, "untrained/0": 90.0}
    logged = {f"train/loss/{name}": torch.tensor(loss) for name, loss in losses.items()}
    logged |= {"train/l0/trained/0": torch.tensor(3.0), "val/l0/trained/0": torch.tensor(9.0)}
    assert training_values(logged, panel) == {"loss": 1.5, "l0": 3.0}
