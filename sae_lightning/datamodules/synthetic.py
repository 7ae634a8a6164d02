"""Batches of synthetic activations: batch i is a function of (seed, i), so a run can be resumed anywhere."""

from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from sae_lightning.code import Code
from sae_lightning.datamodules.base import ActivationDataModule
from sae_lightning.datamodules.stream import Stream
from sae_lightning.sources import ActivationSource, Dependence, FiringProbability, Null, NullSource, SyntheticSource


class SyntheticStream(Stream):
    """Every `world_size`-th batch of the source's "train" stream, beginning with number `rank`."""

    def __init__(self, source: SyntheticSource | NullSource, batch_size: int, rank: int, world_size: int) -> None:
        self.source, self.batch_size, self.rank, self.world_size = source, batch_size, rank, world_size
        self.done = 0

    @override
    def __next__(self) -> Float[Tensor, "batch d_in"]:
        x, _ = self.source.sample(self.batch_size, self.done * self.world_size + self.rank, "train")
        self.done += 1
        return self.source.capture(x)[0]

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"batches": self.done}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.done = state["batches"]


class SyntheticDataModule(ActivationDataModule):
    """Synthetic activations whose true features are known, after Korznikov et al. (2026).

    Args:
        firing_probability: how often each feature fires. Default: ConstantProbability(0.00625), 20 of 3200 at a time.
        d_in: width of an activation, in dimensions.
        n_features: number of true features.
        coefficient_sigma: standard deviation of the logarithm of a coefficient, at least 0.
        dependence: how the firings of the features depend on each other. Default: they are independent.
        sample_norm: scale the coefficients of every sample so that it has this norm, above 0. Default: as they are.
        batch_size: samples in a batch of one rank.
        train_samples: samples in an epoch, all ranks together; no sample is repeated.
        val_samples: held-out samples in a validation, all ranks together.
        nulls: null versions of the samples, by names of yours, on which a SanityPanel trains the same SAEs again:
            GaussianMatched, ShuffledDimensions, RandomRotation. Default: none.
        seed: decides the features and every sample.
        d_answer: width of an answer beside each activation, for transcoders: samples then have the parts `read` and
            `answer`. Default: none.
    """

    source: SyntheticSource | NullSource

    def __init__(
        self,
        firing_probability: FiringProbability | None = None,
        d_in: int = 100,
        n_features: int = 3200,
        coefficient_sigma: float = 0.25,
        dependence: Dependence | None = None,
        sample_norm: float | None = None,
        batch_size: int = 1024,
        train_samples: int = 10_000_000,
        val_samples: int = 65_536,
        nulls: dict[str, Null] | None = None,
        seed: int = 0,
        d_answer: int | None = None,
    ) -> None:
        super().__init__(batch_size, train_samples, val_samples, seed)
        source = SyntheticSource(
            firing_probability, d_in, n_features, coefficient_sigma, dependence, sample_norm, seed, d_answer
        )
        self.source = NullSource(source, nulls, partial(self._sample, source)) if nulls else source

    @override
    def train_stream(self) -> SyntheticStream:
        """Return this rank's training stream, from its beginning."""
        return SyntheticStream(self.source, self.batch_size, *self.share)

    @override
    def val_stream(self) -> Iterator[Float[Tensor, "batch d_in"]]:
        """Iterate over this rank's held-out batches, the same each time."""
        return (self.source.capture(x)[0] for x, _ in self.held_out(self.rank, self.world_size))

    @override
    def val_codes(self) -> Iterator[Code]:
        """Iterate over the true codes of the batches of `val_stream`, in its order."""
        return (code for _, code in self.held_out(self.rank, self.world_size))

    @override
    def held_out(self, first: int = 0, step: int = 1) -> Iterator[tuple[Float[Tensor, "batch d_in"], Code]]:
        """Iterate over held-out batches, without nulls, and their true codes."""
        for index in count(first, step):
            yield self.source.sample(self.batch_size, index, "validation")

    @override
    def calibration_sample(self, n: int) -> Float[Tensor, "n d_in"]:
        """Return the first n samples of the training data: they are independent, so no shuffle is needed."""
        return self._sample(self.source, n)

    def _sample(self, source: ActivationSource, n: int) -> Float[Tensor, "n d_in"]:
        batches = (self.source.sample(self.batch_size, index, "train")[0] for index in range(-(-n // self.batch_size)))
        return torch.cat([source.capture(x)[0] for x in batches])[:n]
