"""Train sparse autoencoders (SAEs) and find out whether they beat random baselines."""

from sae_lightning import _torchvision

__version__ = "0.1.0"

# Before anything can import Lightning, torchmetrics or transformers: all three import torchvision.
_torchvision.declare_missing_operators()
