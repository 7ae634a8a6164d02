"""Null data: versions of the activations that lack some of their structure, beside the activations themselves.

The variance that an SAE explains in data without sparse structure cannot be due to sparse structure. So the same SAEs
are trained on the real activations and on nulls, and the evidence is the difference at equal l0:

- `GaussianMatched`: only mean and covariance are left;
- `ShuffledDimensions`: each coordinate keeps its distribution, independent of the others;
- `RandomDirections`: each activation keeps its norm and nothing else;
- `RandomRotation`: everything is left but the coordinate axes, which must not matter to an SAE;
- `Reinitialised`: the same text through a model that never learned (Heap et al. 2025, arXiv 2501.17727).

Of a transcoder, which reads at one hook and answers at another, the null is about what the two have to do with each
other. Three nulls are of the activations at several hooks together:

- `GaussianMatched`: mean and covariance of both sides are left, so the best linear map from one to the other is, and
  nothing beyond it;
- `ShuffledHooks`: each side is as it was, and which answer belongs to what was read is random;
- `RedrawnModules`: what is read is real, and what answers is a module of the same shape that never learned.

A null is a function of its seed, the inputs and, for some, statistics of the data: a stream of nulls has no state of
its own, and validation data are the same each time.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from typing_extensions import override

from sae_lightning.checks import check_seed, check_whole
from sae_lightning.metrics.rotation import random_rotation
from sae_lightning.sources.base import ActivationSource
from sae_lightning.sources.hooked import HookedModel

_BLOCK = 8192
"""Samples that are held in float64 at a time."""


class Null(ABC):
    """A null version of the activations of a source.

    Attributes:
        is_noise: whether activations are unrelated to the text at their position.
        takes_several_hooks: whether it is of the activations at several hooks together.
        state: statistics of the data by name; empty while they are unknown.
    """

    is_noise: ClassVar[bool] = False
    takes_several_hooks: ClassVar[bool] = False

    def __init__(self) -> None:
        self.state: dict[str, Tensor] = {}

    def prepare(self, source: ActivationSource) -> None:  # noqa: B027
        """Take from the source what this null needs.

        Raises:
            ValueError: if the source does not have it.
        """

    def n_samples(self, d_in: int) -> int:
        """Return the number of raw activations that `fit` needs; 0 if the null needs no statistics."""
        return 0

    def fit(self, samples: Float[Tensor, "n d_in"]) -> None:  # noqa: B027
        """Set `state` from a sample of raw activations."""

    def to(self, device: torch.device | str) -> None:  # noqa: B027
        """Move what belongs on the model's device."""

    @abstractmethod
    def capture(
        self, inputs: Any, activations: Float[Tensor, "*batch d_in"], valid: Bool[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch d_in"]:
        """Return the null version of activations.

        Args:
            inputs: what the model read.
            activations: of the source, on the model's device.
            valid: which positions are valid; the others may stay as they are.
        """

    @abstractmethod
    def replace(self, source: ActivationSource, inputs: Any, edit: Callable[[Tensor], Tensor]) -> Any:
        """Return the outputs of the model with `edit(null version)` at the hook.

        What an edit means differs between nulls: see their classes.
        """


class Noise(Null):
    """Nulls that are drawn, from a generator seeded by inputs and seed; `replace` puts edited noise at the hook.

    Args:
        seed: of the noise.
    """

    is_noise = True

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        check_seed(seed=seed)
        self.seed = seed

    @abstractmethod
    def draw(self, x: Float[Tensor, "n d_in"], generator: torch.Generator) -> Float[Tensor, "n d_in"]:
        """Return noise for the n valid activations, on their device."""

    @override
    def capture(
        self, inputs: Any, activations: Float[Tensor, "*batch d_in"], valid: Bool[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch d_in"]:
        key = hashlib.blake2b(f"{type(self).__name__} {self.seed} ".encode(), digest_size=8)
        key.update((inputs if isinstance(inputs, Tensor) else inputs.rows).cpu().numpy().tobytes())
        generator = torch.Generator(activations.device).manual_seed(int.from_bytes(key.digest(), "little"))
        noise = activations.clone()
        noise[valid] = self.draw(activations[valid], generator).to(activations)
        return noise

    @override
    def replace(self, source: ActivationSource, inputs: Any, edit: Callable[[Tensor], Tensor]) -> Any:
        return source.replace(inputs, lambda x: edit(self.capture(inputs, x, source.valid(inputs, x))))


class GaussianMatched(Noise):
    """Gaussian noise with the mean and the covariance of the activations, independent from position to position.

    Of several hooks it has the covariance between them, too.

    Args:
        samples_per_dimension: activations for the estimate of mean and covariance, per dimension (50 or more).
        seed: of the noise.
    """

    takes_several_hooks = True

    def __init__(self, samples_per_dimension: int = 100, seed: int = 0) -> None:
        super().__init__(seed)
        check_whole(2, samples_per_dimension=samples_per_dimension, hint="50 to 500 is usual")
        self.samples_per_dimension = samples_per_dimension

    @override
    def n_samples(self, d_in: int) -> int:
        return self.samples_per_dimension * d_in

    @override
    def fit(self, samples: Float[Tensor, "n d_in"]) -> None:
        # In blocks, and about the mean, in float64: E[x x^T] - mean mean^T would lose small variances to rounding.
        mean = sum(block.double().sum(0) for block in samples.split(_BLOCK)) / len(samples)
        centred = (block.double() - mean for block in samples.split(_BLOCK))
        variance, axes = torch.linalg.eigh(sum(block.T @ block for block in centred) / len(samples))
        self.state = {"mean": mean.float(), "scaled_axes": (axes * variance.clamp_min(0).sqrt()).T.float()}

    @override
    def draw(self, x: Float[Tensor, "n d_in"], generator: torch.Generator) -> Float[Tensor, "n d_in"]:
        self.state = {name: tensor.to(x.device) for name, tensor in self.state.items()}
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        return torch.addmm(self.state["mean"], noise, self.state["scaled_axes"])


class ShuffledDimensions(Noise):
    """Activations of which each dimension is permuted on its own, over the valid positions of a forward.

    Every coordinate keeps its distribution and loses its dependence on the others: no covariance is left, and no sparse
    codes but those along the coordinate axes.

    Args:
        seed: of the permutations.
    """

    @override
    def draw(self, x: Float[Tensor, "n d_in"], generator: torch.Generator) -> Float[Tensor, "n d_in"]:
        n, d_in = x.shape
        orders = [torch.randperm(n, generator=generator, device=x.device) for _ in range(d_in)]
        return x.gather(0, torch.stack(orders, 1))


class ShuffledHooks(Noise):
    """Activations at several hooks that belong to different positions: each hook after the first is permuted.

    At each hook the activations are as they were, over the valid positions of a forward; which belong together is
    random.

    Args:
        seed: of the permutations.
    """

    takes_several_hooks = True

    @override
    def prepare(self, source: ActivationSource) -> None:
        if len(source.widths) < 2:
            raise ValueError("nulls: ShuffledHooks shuffles several hooks against each other, and these data have one")
        self._widths = list(source.widths.values())

    @override
    def draw(self, x: Float[Tensor, "n d_in"], generator: torch.Generator) -> Float[Tensor, "n d_in"]:
        first, *others = x.split(self._widths, 1)
        shuffled = [own[torch.randperm(len(x), generator=generator, device=x.device)] for own in others]
        return torch.cat([first, *shuffled], 1)


class RandomDirections(Noise):
    """Activations with directions drawn uniformly from the sphere; each keeps its norm.

    Args:
        seed: of the directions.
    """

    @override
    def draw(self, x: Float[Tensor, "n d_in"], generator: torch.Generator) -> Float[Tensor, "n d_in"]:
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        return noise * (x.float().norm(dim=1, keepdim=True) / noise.norm(dim=1, keepdim=True))


class RandomRotation(Null):
    """Activations in other coordinates: multiplied by an orthogonal matrix from the uniform (Haar) distribution.

    `replace` rotates, edits and rotates back.

    Args:
        seed: of the matrix.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        check_seed(seed=seed)
        self.seed = seed
        self._rotation = torch.empty(0, 0)

    @override
    def prepare(self, source: ActivationSource) -> None:
        self._rotation = random_rotation(source.d_in, torch.Generator().manual_seed(self.seed))

    @override
    def capture(
        self, inputs: Any, activations: Float[Tensor, "*batch d_in"], valid: Bool[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch d_in"]:
        return self._rotate(activations).to(activations)

    @override
    def replace(self, source: ActivationSource, inputs: Any, edit: Callable[[Tensor], Tensor]) -> Any:
        return source.replace(inputs, lambda x: edit(self._rotate(x)).to(self._rotation) @ self._rotation.T)

    def _rotate(self, x: Tensor) -> Tensor:
        self._rotation = self._rotation.to(x.device)
        return x.float() @ self._rotation


class _OtherModel(Null):
    """Activations of another model than that of the source, which `prepare` makes."""

    _source: HookedModel

    @abstractmethod
    def prepare(self, source: ActivationSource) -> None:
        """Make the other model."""

    def _hooked(self, source: ActivationSource) -> HookedModel:
        if not isinstance(source, HookedModel):
            raise ValueError(
                f"nulls: {type(self).__name__} needs a model, and these data have none: take "
                "LanguageModelDataModule, or another null"
            )
        return source

    @override
    def to(self, device: torch.device | str) -> None:
        self._source.to(device)

    @override
    def capture(
        self, inputs: Any, activations: Float[Tensor, "*batch d_in"], valid: Bool[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch d_in"]:
        return self._source.capture(inputs)[0]

    @override
    def replace(self, source: ActivationSource, inputs: Any, edit: Callable[[Tensor], Tensor]) -> Any:
        return self._source.replace(inputs, edit)


class Reinitialised(_OtherModel):
    """Activations of a model of the same architecture on the same text, with weights as before its training.

    Weights are drawn from the architecture's initialisation; their scale need not be that of trained weights. A second
    model is held and run, and `replace` edits its activations.

    Args:
        embeddings: draw the embeddings anew too. Default: true; with false they are those of the trained model.
        seed: of the weights.
    """

    def __init__(self, embeddings: bool = True, seed: int = 0) -> None:
        super().__init__()
        check_seed(seed=seed)
        self.embeddings, self.seed = embeddings, seed

    @override
    def prepare(self, source: ActivationSource) -> None:
        self._source = self._hooked(source).redrawn(self.seed, self.embeddings)


class RedrawnModules(_OtherModel):
    """Activations of the model with some of its submodules drawn anew; what is below them is as it was.

    Args:
        modules: dotted names of submodules, such as [model.layers.2.mlp]; at a hook there is what a module of this
            shape makes of real inputs before it has learned.
        seed: of their weights.
    """

    takes_several_hooks = True

    def __init__(self, modules: list[str], seed: int = 0) -> None:
        super().__init__()
        check_seed(seed=seed)
        if not modules:
            raise ValueError("modules=[]: expected names of submodules, such as [model.layers.2.mlp]")
        self.modules, self.seed = list(modules), seed

    @override
    def prepare(self, source: ActivationSource) -> None:
        source = self._hooked(source)
        redrawn = source.redrawn(self.seed, embeddings=False)
        trained, own = source.model.state_dict(), redrawn.model.state_dict()
        for module in self.modules:
            if not any(name.startswith(f"{module}.") for name in own):
                raise ValueError(f"nulls: RedrawnModules: {source.name} has no submodule {module} with weights")
        kept = {name: trained[name] for name in own if not name.startswith(tuple(f"{one}." for one in self.modules))}
        redrawn.model.load_state_dict(kept, strict=False, assign=True)  # shared with the model, not copied
        self._source = redrawn
