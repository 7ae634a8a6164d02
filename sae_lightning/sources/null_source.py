"""`NullSource`: the activations of a source, and null versions of them beside them."""

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from sae_lightning.provenance import describe
from sae_lightning.sources.base import ActivationSource
from sae_lightning.sources.nulls import Null


class NullSource(ActivationSource):
    """A source and null versions of it: the part "" is real, the others have the names of their nulls.

    Activations of all parts are concatenated. All other attributes are those of the wrapped source.

    Args:
        source: with one hook.
        nulls: by the name of their part.
        sample: returns n raw activations of the source; nulls take their statistics from them when first used.

    Raises:
        ValueError: if the source has several hooks, or a name is not made of letters, digits and underscores.
    """

    def __init__(
        self, source: ActivationSource, nulls: Mapping[str, Null], sample: Callable[[int], Float[Tensor, "n d_in"]]
    ) -> None:
        self.source, self.nulls, self._sample = source, dict(nulls), sample
        self.is_language_model, self.vocabulary = source.is_language_model, source.vocabulary
        self.embeds_images, self.reads_images = source.embeds_images, source.reads_images
        self.features, self.firing_probabilities = source.features, source.firing_probabilities
        if source.widths:
            raise ValueError(
                f"nulls={', '.join(nulls)} beside several hooks ({', '.join(source.widths)}): "
                "expected one hook; make a run for each"
            )
        if bad := [name for name in nulls if not re.fullmatch(r"\w+", name)]:
            raise ValueError(f"nulls: the name {bad[0]!r} becomes a folder and a chart; use letters, digits and _")
        for null in nulls.values():
            null.prepare(source)
        self.widths = dict.fromkeys(("", *nulls), source.d_in)
        self.d_in = sum(self.widths.values())

    def __getattr__(self, name: str) -> Any:  # only for what `ActivationSource` does not have, such as `at`
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.__dict__["source"], name)

    @property
    def noise_parts(self) -> tuple[str, ...]:
        """Names of the nulls that are noise, which no text explains."""
        return tuple(name for name, null in self.nulls.items() if null.is_noise)

    @override
    def describe(self, part: str = "") -> dict[str, Any]:
        """Return what the source says, for a null with what was made of it."""
        return self.source.describe() | {"null": describe(self.nulls[part]) if part else None}

    @property
    @override
    def no_next_token(self) -> str:
        return self.source.no_next_token

    @property
    @override
    def device(self) -> torch.device:
        return self.source.device

    @override
    def to(self, device: torch.device | str) -> "NullSource":
        """Move the source and the models of nulls."""
        self.source.to(device)
        for null in self.nulls.values():
            null.to(device)
        return self

    @override
    def capture(self, inputs: Any) -> tuple[Tensor, Tensor]:
        self._fit()
        activations, valid = self.source.capture(inputs)
        nulls = [null.capture(inputs, activations, valid) for null in self.nulls.values()]
        return torch.cat([activations, *nulls], -1), valid

    @override
    def same_inputs(self) -> AbstractContextManager[None]:
        return self.source.same_inputs()

    @override
    def replace(self, inputs: Any, edit: Callable[[Tensor], Tensor], part: str = "") -> Any:
        """Return the outputs of the part's model, with edited activations of that part at the hook."""
        if not part:
            return self.source.replace(inputs, edit)
        self._fit()
        return self.nulls[part].replace(self.source, inputs, edit)

    @override
    def valid(self, inputs: Any, activations: Tensor, part: str = "") -> Tensor:
        """Return the mask of valid positions; what is massive is known of the real activations alone."""
        return super().valid(inputs, activations) if part else self.source.valid(inputs, activations)

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Return the statistics of the data by null."""
        return {name: {key: tensor.cpu() for key, tensor in null.state.items()} for name, null in self.nulls.items()}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Restore the statistics, after which the nulls have the bits of the run that saved them."""
        for name, statistics in state.items():
            self.nulls[name].state = dict(statistics)

    def _fit(self) -> None:
        """Give the nulls that need statistics and have none a sample of the source."""
        for null in self.nulls.values():
            if not null.state and (n := null.n_samples(self.source.d_in)):
                with torch.inference_mode(False), torch.no_grad():
                    null.fit(self._sample(n))
