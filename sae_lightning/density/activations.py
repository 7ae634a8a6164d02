"""How many coordinates of a model's activations are in use, layer by layer.

Activations are normalised to norm sqrt(d), as RMSNorm does, without its gain and without LayerNorm's centring. They are
compared with a random rotation of themselves, which has no preferred axes, and with Gaussian noise of their mean and
covariance at the same norm.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sae_lightning.metrics.density import (
    energy_curve,
    excess_kurtosis,
    hoyer,
    massive_dimensions,
    participation_ratio,
    rms_normalise,
)
from sae_lightning.metrics.rotation import random_rotation
from sae_lightning.sources import LanguageModelSource

MASSIVE = 25.0
"""A dimension is massive when its mean square is more than this many times the median: five times the RMS."""
NEAR_ZERO = 0.1
"""A coordinate is near zero below this; where all are equal they are 1, and a Gaussian has 8 % of them below."""
SHARES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Shares of the coordinates, from the largest of a token on, at which the energy curve is given."""
AXES, ROTATED, GAUSSIAN = "neuron axes", "rotated", "Gaussian"
ALL_TOKENS, WITHOUT_FIRST = "all tokens", "without first tokens"
ALL_DIMENSIONS, WITHOUT_MASSIVE = "all dimensions", "without massive dimensions"


def block_outputs(source: LanguageModelSource) -> list[str]:
    """Return the names of the model's blocks, first to last: of its longest list of modules that read every token.

    Raises:
        ValueError: if the model has no list of modules.
    """
    usable = source.usable_hooks()  # a model that also reads images has blocks that never see a token
    lists = [
        (name, list_)
        for name, list_ in source.model.named_modules()
        if isinstance(list_, nn.ModuleList) and all(f"{name}.{i}" in usable for i in range(len(list_)))
    ]
    if not lists:
        raise ValueError(f"{source.name} has no list of blocks: say where to look with --hooks '[NAME, ...]'")
    name, blocks = max(lists, key=lambda item: (len(item[1]), -item[0].count(".")))
    return [f"{name}.{i}" for i in range(len(blocks))]


def read_layers(
    source: LanguageModelSource, datamodule: Any, hooks: list[str]
) -> tuple[list[Float[Tensor, "n d"]], Bool[Tensor, " n"]]:
    """Read activations of held-out text at each hook, in the model's dtype on the CPU, and which are of first tokens.

    First tokens are special tokens, as at the beginning of a document, and those at position 0 of a row.

    Args:
        source: the model.
        datamodule: whose `validation_inputs` are read.
        hooks: names of submodules, whose outputs are taken.
    """
    names = {f"hook{i}": hook for i, hook in enumerate(hooks)}
    reader = source.at(names)
    parts: dict[str, list[Tensor]] = {name: [] for name in names}
    first = []
    for inputs in datamodule.validation_inputs():
        activations, mask = reader.capture(inputs)
        for name, part in zip(names, activations.split(list(reader.widths.values()), -1), strict=True):
            parts[name].append(part.flatten(0, 1).cpu())
        begins = ~mask
        begins[:, 0] = True
        first.append(begins.flatten().cpu())
    return [torch.cat(part) for part in parts.values()], torch.cat(first)


def profile(
    hook: str, x: Float[Tensor, "n d"], first: Bool[Tensor, " n"], generator: torch.Generator
) -> Iterator[dict[str, Any]]:
    """Yield the measures of one layer, a row for each choice of tokens, dimensions and basis: means over tokens.

    Args:
        hook: name of the layer.
        x: activations of all tokens.
        first: which tokens are first tokens.
        generator: of the rotation and the noise, on the CPU.
    """
    for tokens, chosen in ((ALL_TOKENS, torch.ones_like(first)), (WITHOUT_FIRST, ~first)):
        everything = rms_normalise(x[chosen.to(x.device)])
        massive = massive_dimensions(everything, MASSIVE)
        for dimensions in (ALL_DIMENSIONS, WITHOUT_MASSIVE):
            kept = everything if dimensions == ALL_DIMENSIONS else rms_normalise(everything[:, ~massive])
            views = {
                AXES: kept,
                ROTATED: kept @ random_rotation(kept.shape[1], generator).to(kept),
                GAUSSIAN: rms_normalise(gaussian_like(kept, generator)),
            }
            for view, s in views.items():
                choice = {"hook": hook, "tokens": tokens, "dimensions": dimensions, "view": view}
                sizes = {"n_tokens": len(s), "d": s.shape[1], "n_massive": int(massive.sum())}
                yield choice | sizes | measures(s)


def measures(s: Float[Tensor, "n d"]) -> dict[str, Any]:
    """Return the mean over rows of every measure of density; rows of zeros, which have none, are left out."""
    s = s[s.abs().sum(1) > 0]
    return {
        "participation_ratio": float(participation_ratio(s).mean()),
        "hoyer": float(hoyer(s).mean()),
        "excess_kurtosis": float(excess_kurtosis(s).mean()),
        "near_zero": float((s.abs() < NEAR_ZERO).double().mean()),
        "energy": dict(zip(map(str, SHARES), energy_curve(s, SHARES).tolist(), strict=True)),
    }


def gaussian_like(x: Float[Tensor, "n d"], generator: torch.Generator) -> Float[Tensor, "n d"]:
    """Draw as many Gaussian vectors, with the mean and the covariance of the given ones."""
    mean = x.double().mean(0)
    centred = x.double() - mean
    variance, axes = torch.linalg.eigh(centred.T @ centred / len(x))
    noise = torch.randn(x.shape, generator=generator).to(x)
    return (noise @ (axes * variance.clamp_min(0).sqrt()).T.to(noise)) + mean.to(noise)
