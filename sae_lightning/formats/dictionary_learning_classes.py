"""The seven classes of dictionary_learning: what their tensors are called, and which of them a file holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class DictClass:
    """A class of dictionary_learning.

    Args:
        variant: ours.
        layout: of its weights, see `take`.
        subtracts_b_dec: from the activation before encoding.
        numbers: tensors beside the weights.
    """

    variant: str
    layout: Mapping[str, tuple[str, str]]
    subtracts_b_dec: bool = True
    numbers: frozenset[str] = frozenset()

    def fits(self, names: set[str]) -> bool:
        """Return whether a file with tensors of these names can be of this class; older files lack numbers."""
        weights = {theirs for theirs, _ in self.layout.values()}
        return weights | (self.numbers & {"group_sizes"}) <= names <= weights | self.numbers


_LINEAR = {"W_enc": ("encoder.weight", "m d"), "W_dec": ("decoder.weight", "d m"), "b_enc": ("encoder.bias", "m")}
_PLAIN = {"W_enc": ("W_enc", "d m"), "W_dec": ("W_dec", "m d"), "b_enc": ("b_enc", "m"), "b_dec": ("b_dec", "d")}
_GATED = {
    **_LINEAR,
    "b_enc": ("gate_bias", "m"),
    "b_mag": ("mag_bias", "m"),
    "r_mag": ("r_mag", "m"),
    "b_dec": ("decoder_bias", "d"),
}
_TOPK = {**_LINEAR, "b_dec": ("b_dec", "d")}
_K = frozenset({"k", "threshold"})
CLASSES = {
    "AutoEncoder": DictClass("ReLU", {**_LINEAR, "b_dec": ("bias", "d")}),
    "AutoEncoderNew": DictClass("ReLU", {**_LINEAR, "b_dec": ("decoder.bias", "d")}, False),
    "GatedAutoEncoder": DictClass("Gated", _GATED),
    "AutoEncoderTopK": DictClass("TopK", _TOPK, numbers=_K),
    "BatchTopKSAE": DictClass("BatchTopK", _TOPK, numbers=_K),
    "MatryoshkaBatchTopKSAE": DictClass("MatryoshkaBatchTopK", _PLAIN, numbers=_K | {"group_sizes"}),
    "JumpReluAutoEncoder": DictClass("JumpReLU", {**_PLAIN, "threshold": ("threshold", "m")}, False),
}
STATED = {
    "lr": "learning_rate",
    "seed": "seed",
    "layer": "layer",
    "lm_name": "model",
    "submodule_name": "hook",
    "l1_penalty": "l1_coefficient",
    "target_l0": "l0",
}
"""What the trainer's configuration states, by its names."""


def class_name(path: Path, names: set[str], said: str, assumed: Any) -> str:  # noqa: ANN401
    """Return the class that the configuration says and the tensors fit.

    Raises:
        ValueError: if there is none, or two fit and nothing is said.
    """
    fitting = [name for name, one in CLASSES.items() if one.fits(names)]
    if said and said not in CLASSES:
        raise ValueError(
            f"{path} is a {said} of dictionary_learning: this library has no variant for it, only for "
            f"{', '.join(CLASSES)}"
        )
    if said:
        if fitting and said not in fitting:
            raise ValueError(
                f"{path}: the configuration says dict_class={said}, and the weights are those of {fitting[0]}: the two "
                "do not belong together"
            )
        return said
    if not fitting:
        raise ValueError(
            f"{path} has {', '.join(sorted(map(str, names))[:12])}: expected the tensors of one of {', '.join(CLASSES)}"
        )
    if len(fitting) == 1:
        return fitting[0]
    by_variant = {CLASSES[name].variant: name for name in fitting} | {"ReLU": "BatchTopKSAE"}
    if assumed not in by_variant:
        raise ValueError(
            f"{path} can be {' or '.join(fitting)}, whose files have the same tensors, and no config.json beside it "
            "says which: assume variant=TopK or variant=BatchTopK"
        )
    return by_variant[assumed]
