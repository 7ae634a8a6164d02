"""`NullSource`: a source of activations with null versions of them, side by side."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from sae_lightning.sources.base import ActivationSource
from sae_lightning.sources.nulls import Null


class NullSource(ActivationSource):
    """A source and null versions of it, side by side: the part "" is real, the others have the names of their nulls.

    In everything else it is the source that it wraps.

    Args:
        source: with one hook.
        nulls: by the name of their part.
        sample: gives n raw activations of the source, from which nulls take their statistics when they are first used.
    """

    def __init__(
        self, source: ActivationSource, nulls: Mapping[str, Null], sample: Callable[[int], Float[Tensor, "n d_in"]]
    ) -> None:
        self.source, self.nulls, self._sample = source, dict(nulls), sample
        self.predicts_tokens = source.predicts_tokens
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
            null.look_at(source)
        self.widths = dict.fromkeys(("", *nulls), source.d_in)
        self.d_in = sum(self.widths.values())

    def __getattr__(self, name: str) -> Any:  # only for what `ActivationSource` does not have, such as `at`
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.__dict__["source"], name)

    @property
    def noise_parts(self) -> tuple[str, ...]:
        """The nulls that are noise to a reader of the text."""
        return tuple(name for name, null in self.nulls.items() if null.is_noise)

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
        activations, counts = self.source.capture(inputs)
        nulls = [null.capture(inputs, activations, counts) for null in self.nulls.values()]
        return torch.cat([activations, *nulls], -1), counts

    @override
    def replace(self, inputs: Any, edit: Callable[[Tensor], Tensor], part: str = "") -> Any:
        """Outputs of the model that the part comes from, with edited activations of that part at the hook."""
        if not part:
            return self.source.replace(inputs, edit)
        self._fit()
        return self.nulls[part].replace(self.source, inputs, edit)

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Statistics of the data, by null."""
        return {name: {of: tensor.cpu() for of, tensor in null.state.items()} for name, null in self.nulls.items()}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """The nulls of the run that had this state, to the bit."""
        for name, of in state.items():
            self.nulls[name].state = dict(of)

    def _fit(self) -> None:
        for null in self.nulls.values():
            if not null.state and (n := null.n_samples(self.source.d_in)):
                with torch.inference_mode(False), torch.no_grad():
                    null.fit(self._sample(n))
