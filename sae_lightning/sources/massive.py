"""Massive activations: a few positions whose norm is far above that of all others.

Language models have them at the first tokens of a text (Sun et al. 2024, arXiv 2402.17762; as attention sinks Xiao et
al. 2023, arXiv 2309.17453), image towers at patches that show little (Darcet et al. 2023, arXiv 2309.16588). They carry
hardly anything of the input, and one in thousands holds most of the variance: with them explained variance, the scale
of the activations and their covariance are about these few positions alone.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sae_lightning.checks import check_above

USUAL_RATIO = 10.0
"""Norms above this many times the median are called massive where nothing else is said."""
_N_NAMED = 3  # positions and tokens that a message names
_BLOCK = 8192  # activations that are held in float64 at a time


@dataclass(frozen=True)
class HookNorms:
    """What a sample tells of the norms at one hook.

    Args:
        median: of the norms.
        n: activations in the sample.
        n_massive: those of them that are massive.
        largest: norm in the sample.
        variance_share: of the sum of squared distances from the mean, what the massive ones hold; from 0 to 1.
        places: where the massive ones are, and how many of them: "position 1", the most common first.
        tokens: texts of the tokens there, the most common first; none where the model reads no text.
    """

    median: float
    n: int
    n_massive: int = 0
    largest: float = 0.0
    variance_share: float = 0.0
    places: Mapping[str, int] = field(default_factory=dict)
    tokens: Sequence[str] = ()


class MassiveRule:
    """Which activations are massive: those with a norm above a multiple of the median norm at their hook.

    The medians are measured once, when they are first needed, unless they are taken from a saved state.

    Args:
        max_norm_ratio: the multiple; None keeps massive activations, and calls massive what is above 10 times.
        measure: returns what a sample of the training data tells, by the name of the hook, given the multiple.

    Raises:
        ValueError: if the multiple is not above 1.
    """

    def __init__(self, max_norm_ratio: float | None, measure: Callable[[float], dict[str, HookNorms]]) -> None:
        check_max_norm_ratio(max_norm_ratio)
        self.max_norm_ratio, self._measure = max_norm_ratio, measure
        self._norms: dict[str, HookNorms] | None = None

    @property
    def leaves_out(self) -> bool:
        """Whether massive activations are left out of everything."""
        return self.max_norm_ratio is not None

    @property
    def is_known(self) -> bool:
        """Whether the norms have been measured, or taken from a saved state."""
        return self._norms is not None

    @property
    def ratio(self) -> float:
        """What a norm is, in multiples of the median, before it is massive."""
        return USUAL_RATIO if self.max_norm_ratio is None else self.max_norm_ratio

    @property
    def norms(self) -> dict[str, HookNorms]:
        """What is known of the norms by the name of the hook; measured now if nothing is."""
        if self._norms is None:
            self._norms = self._measure(self.ratio)
        return self._norms

    @property
    def share(self) -> float:
        """Share of the sample that is massive, at the hook where it is largest."""
        return max(norms.n_massive / max(norms.n, 1) for norms in self.norms.values())

    def limit(self, hook: str = "") -> float:
        """Return the largest norm at a hook that is not massive."""
        return self.ratio * self.norms[hook].median

    def keeps(self, norms: Mapping[str, Float[Tensor, "*batch"]]) -> Bool[Tensor, "*batch"]:
        """Return which positions stay: those whose norm is massive at none of these hooks.

        Args:
            norms: of the activations by the name of the hook, from `row_norms`.
        """
        (first, norm), *others = norms.items()
        kept = norm <= self.limit(first)
        for hook, norm in others:
            kept = kept & (norm.to(kept.device) <= self.limit(hook))
        return kept

    def state_dict(self) -> dict[str, Any]:
        """Return what is known as plain values; nothing that is known is measured anew."""
        return {
            "max_norm_ratio": self.max_norm_ratio,
            "norms": {
                name: asdict(norms) | {"tokens": list(norms.tokens), "places": dict(norms.places)}
                for name, norms in self.norms.items()
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the norms of a saved state; the multiple stays that of this rule."""
        self._norms = {name: HookNorms(**norms) for name, norms in state["norms"].items()}

    def keep_all(self) -> None:
        """Keep massive activations from now on."""
        self.max_norm_ratio = None

    def describe(self, unit: str) -> list[str]:
        """Say for each hook with massive activations how many there are, where, and what is done with them.

        Args:
            unit: what one activation is, such as "tokens".
        """
        return [self._describe_hook(hook, norms, unit) for hook, norms in self.norms.items() if norms.n_massive]

    def _describe_hook(self, hook: str, norms: HookNorms, unit: str) -> str:
        where = [f"{n} at {place}" for place, n in norms.places.items()]
        if norms.tokens:
            where.append(f"such as {', '.join(map(repr, norms.tokens))}")
        places = f" ({', '.join(where)})" if where else ""
        kept = "kept (data.max_norm_ratio is null): explained variance is also given without them."
        left_out = "left out of training and metrics, and edits pass them by (data.max_norm_ratio; null keeps them)."
        return (
            f"Massive activations{f' at {hook}' if hook else ''}: {norms.n_massive:,} of the first {norms.n:,} {unit}"
            f"{places} have a norm above {self.ratio:g} times the median of {norms.median:.4g}, up to "
            f"{norms.largest:.4g}, and hold {norms.variance_share:.0%} of the variance. "
            f"They are {left_out if self.leaves_out else kept}"
        )


def check_max_norm_ratio(max_norm_ratio: float | None) -> None:
    """Refuse a multiple of the median norm that leaves out half of all activations, or more.

    Raises:
        ValueError: if it is not above 1.
    """
    if max_norm_ratio is not None:
        check_above(1, max_norm_ratio=max_norm_ratio, hint="such as 10, or null to keep all activations")


def row_norms(activations: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
    """Return the norm of each activation in float32, whatever the dtype: half precision would overflow."""
    return torch.linalg.vector_norm(activations, dim=-1, dtype=torch.float32)


def norms_of_sample(
    x: Float[Tensor, "n d"], ratio: float, positions: Int64[Tensor, " n"] | None = None, tokens: Any = None
) -> HookNorms:
    """Measure the norms of a sample.

    Args:
        x: activations at one hook.
        ratio: norms above this many times the median are massive.
        positions: of the activations in their rows, if they are known.
        tokens: gives the text of the token of an activation by its number; None where the model reads no text.
    """
    norms = row_norms(x).cpu()
    median = float(norms.median())
    massive = norms > ratio * median
    mean = sum(block.double().sum(0) for block in x.split(_BLOCK)) / len(x)
    squared = torch.cat([(block.double() - mean).square().sum(1).cpu() for block in x.split(_BLOCK)])
    which = massive.nonzero()[:, 0].tolist()
    at = [] if positions is None else positions.cpu()[massive].tolist()
    return HookNorms(
        median,
        len(x),
        len(which),
        float(norms.max()),
        float(squared[massive].sum() / squared.sum().clamp(min=torch.finfo(torch.float64).tiny)),
        {f"position {position}": n for position, n in Counter(at).most_common(_N_NAMED)},
        [token for token, _ in Counter(tokens[i] for i in which).most_common(_N_NAMED)] if tokens is not None else [],
    )
