"""The re-make of a published SAE: what is taken from it, what is filled in, and its l0."""

import pytest
import torch
from training import fit_panel

from sae_lightning.checking.remake import remake_of
from sae_lightning.saes import BatchTopK, Gated, JumpReLU, MatryoshkaBatchTopK, ReLU, TopK
