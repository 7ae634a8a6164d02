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

    Of several hooks there are those of the source, and for each null a part NULL_HOOK for each hook. Activations of all
    parts are concatenated. All other attributes are those of the wrapped source.

    Args:
        source: with one hook, or with several for nulls that are of all of them together.
        nulls: by the name of their part.
        sample: returns n raw activations of the source; nulls take their statistics from them when first used.

    Raises:
        ValueError: if a null is of one hook and the source has several, or a name is not made of letters, digits and
            underscores.
    """

    def __init__(
        self, source: ActivationSource, nulls: Mapping[str, Null], sample: Callable[[int], Float[Tensor, "n d_in"]]
    ) -> None:
        self.source, self.nulls, self._sample = source, dict(nulls), sample
        self.is_language_model, self.vocabulary = source.is_language_model, source.vocabulary
        self.embeds_images, self.reads_images = source.embeds_images, source.reads_images
        self.features, self.firing_probabilities = source.features, source.firing_probabilities
        if source.widths and (of_one := [name for name, null in nulls.items() if not null.takes_several_hooks]):
            raise ValueError(
                f"nulls={', '.join(of_one)} beside several hooks ({', '.join(source.widths)}): "
                "expected one hook; make a run for each, or for transcoders take GaussianMatched, ShuffledHooks or "
                "RedrawnModules"
            )
        if bad := [name for name in nulls if not re.fullmatch(r"\w+", name)]:
            raise ValueError(f"nulls: the name {bad[0]!r} becomes a folder and a chart; use letters, digits and _")
        for null in nulls.values():
            null.prepare(source)
        hooks = dict(source.widths) or {"": source.d_in}
        self.null_parts = {null_part(null, hook): (null, hook) for null in nulls for hook in hooks}
        """Null and hook of each part that is a null version."""
        self.widths = hooks | {part: hooks[hook] for part, (_, hook) in self.null_parts.items()}
        self.d_in = sum(self.widths.values())
        if taken := sorted({*hooks} & {*self.null_parts}):
            raise ValueError(f"nulls: a part of one is called {taken[0]}, as a hook is: give the null another name")

    def __getattr__(self, name: str) -> Any:  # only for what `ActivationSource` does not have, such as `at`
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.__dict__["source"], name)

    @property
    def noise_parts(self) -> tuple[str, ...]:
        """Names of the parts that are noise, which no text explains."""
        return tuple(part for part, (null, _) in self.null_parts.items() if self.nulls[null].is_noise)

    @override
    def describe(self, part: str = "") -> dict[str, Any]:
        """Return what the source says, for a null with what was made of it."""
        null, hook = self.null_parts.get(part, ("", part))
        return self.source.describe(hook) | {"null": describe(self.nulls[null]) if null else None}

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
        if part not in self.null_parts:
            return self.source.replace(inputs, edit, *([part] if part else []))
        if self.source.widths:
            raise ValueError(f"{part}: of nulls of several hooks together no hook is edited alone")
        self._fit()
        return self.nulls[part].replace(self.source, inputs, edit)

    @override
    def valid(self, inputs: Any, activations: Tensor, part: str = "") -> Tensor:
        """Return the mask of valid positions; what is massive is known of the real activations alone."""
        is_null = part in self.null_parts
        return super().valid(inputs, activations) if is_null else self.source.valid(inputs, activations, part)

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


def null_part(null: str, hook: str) -> str:
    """Name the null version of the activations at a hook; the only hook is called "".

    >>> null_part("gaussian", ""), null_part("gaussian", "mlp_in")
    ('gaussian', 'gaussian_mlp_in')
    """
    return f"{null}_{hook}" if hook else null
