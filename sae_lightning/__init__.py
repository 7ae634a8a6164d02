"""Train sparse autoencoders (SAEs) and find out whether they beat random baselines."""

from sae_lightning import _torchvision

__version__ = "0.1.0"

_torchvision.mend_when_imported()  # Lightning, torchmetrics and transformers import torchvision
