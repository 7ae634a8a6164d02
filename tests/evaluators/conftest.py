import pytest
import torch
from lightning.pytorch import Trainer
from torch.nn.functional import normalize
from torch.utils.data import DataLoader

from sae_lightning.datamodules import ActivationDataModule, SyntheticDataModule
from sae_lightning.panel import SanityPanel
from sae_lightning.saes import Isotropic, TopK
from sae_lightning.sources import ActivationSource, ConstantProbability

D_IN, D_SAE, K = 6, 24, 3


class Source(ActivationSource):
    """Features, and no model."""

    def __init__(self, features):
        self.features, self.d_in = features, features.shape[1]

    def capture(self, inputs):
        raise NotImplementedError

    replace = capture


class Activations(ActivationDataModule):
    """160 activations with a mean, and the features they are made of."""

    def __init__(self):
        super().__init__(batch_size=16, train_samples=160, val_samples=160, seed=0)
        random = torch.Generator().manual_seed(0)
        features = normalize(torch.randn(10, D_IN, generator=random), dim=1)
        latents = torch.rand(160, 10, generator=random) * (torch.rand(160, 10, generator=random) < 0.2)
        self.x = latents @ features + 0.5
        self.source = Source(features)

    def loader(self):
        return DataLoader(self.x, self.batch_size)

    train_dataloader = val_dataloader = test_dataloader = loader

    def train_stream(self):
        raise NotImplementedError

    val_stream = train_stream

    def calibration_sample(self, n):
        return self.x[:n]


@pytest.fixture
def data():
    return Activations()


@pytest.fixture
def synthetic():
    """160 activations whose true codes are known too: two of 10 features fire at a time."""
    return SyntheticDataModule(ConstantProbability(0.2), D_IN, 10, batch_size=16, train_samples=160, val_samples=160)


@pytest.fixture
def sae():
    sae = TopK(D_IN, k=K, d_sae=D_SAE)
    sae.initialise(0)
    return sae


@pytest.fixture
def panel():
    isotropic = {"frozen_decoder": Isotropic()}  # a start without data, for what measures before any training
    return SanityPanel(D_IN, sae=lambda d_in: TopK(d_in, k=K, d_sae=D_SAE), inits=isotropic)


@pytest.fixture
def trainer(tmp_path):
    """Make quiet trainers of 10 steps with a validation every 2."""

    def make(*callbacks, **settings):
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
        defaults = {"max_steps": 10, "val_check_interval": 2, "logger": False, "accelerator": "cpu"}
        return Trainer(callbacks=list(callbacks), default_root_dir=tmp_path, **(quiet | defaults | settings))

    return make
