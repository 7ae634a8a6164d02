"""`StoredSAE`: an SAE as a file holds it, brought to the names and orientation of this library.

An adapter reads a file into one, `saving` makes an SAE of it, and an export goes the same way back. It knows no SAE
class: `variant` and `settings` are the name and the arguments of one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

UNIT_NORM_WITHIN = 1e-3
"""Decoder rows whose norms are this near to 1 count as unit vectors; half precision leaves about 1e-4."""


@dataclass(frozen=True)
class StoredSAE:
    """What a file says of one SAE.

    Args:
        format: of the file, the `NAME` of an adapter.
        variant: name of the class, such as TopK.
        tensors: W_enc [d_in, d_sae], W_dec [d_sae, d_out], b_enc [d_sae], b_dec [d_out], W_skip [d_in, d_out] of a
            transcoder with a skip path, and what the variant has beside these (threshold, r_mag, b_mag), float32.
        settings: arguments of the class that decide what it computes, without d_in, d_sae and unit_norm_decoder, which
            follow from the tensors; those of a transcoder have d_out, see `transcoder_settings`.
        version: of the library that wrote it, where it says so.
        dtype: number format of the file, such as bfloat16.
        stated: what the file says of its training, by the names of `STATED`; only what it says.
        folds: what was changed on reading so that the function stays the same, in words.
        notes: what a user should know before relying on it, in words.
        assumed: what the file does not say and the user did.
        config: the file's own configuration, as it stands.
    """

    format: str
    variant: str
    tensors: Mapping[str, Tensor]
    settings: Mapping[str, Any] = field(default_factory=dict)
    version: str | None = None
    dtype: str = "float32"
    stated: Mapping[str, Any] = field(default_factory=dict)
    folds: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    assumed: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def d_in(self) -> int:
        """Width of an activation."""
        return self.tensors["W_enc"].shape[0]

    @property
    def is_transcoder(self) -> bool:
        """Whether it answers at another place than it reads."""
        return "d_out" in self.settings

    @property
    def d_sae(self) -> int:
        """Number of latents."""
        return self.tensors["W_dec"].shape[0]

    @property
    def has_unit_norm_decoder(self) -> bool:
        """Whether all decoder rows have unit norm, as far as the file's number format can say it."""
        norms = torch.linalg.vector_norm(self.tensors["W_dec"].float(), dim=1)
        return bool((norms - 1).abs().max() < UNIT_NORM_WITHIN)

    def provenance(self, where: str) -> dict[str, Any]:
        """Return what `sae.json` keeps of where it came from, plain values."""
        names = ("format", "version", "dtype", "stated", "folds", "notes", "assumed", "config")
        return {"from": where, **{name: _plain(value) for name in names if (value := getattr(self, name))}}


def transcoder_settings(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the arguments that make a class the transcoder of these tensors."""
    d_out = tensors["W_dec"].shape[1]
    return {"apply_b_dec_to_input": False, "d_out": d_out, "skip": "W_skip" in tensors}


STATED = {
    "model": "name of the model",
    "hook": "place in the model, in the words of the file; of a transcoder that which it reads",
    "target": "place in the model at which a transcoder answers",
    "layer": "number of the block",
    "context_length": "tokens in a row",
    "prepend_bos": "whether rows begin with a beginning token",
    "dataset": "text that it was trained on",
    "tokens": "activations that it was trained on",
    "batch_size": "activations in a step",
    "learning_rate": "of the optimizer",
    "seed": "of the random start",
    "k": "latents per sample that it was trained for",
    "l0": "mean number of active latents, measured or aimed at",
    "explained_variance": "share of the variance, measured",
    "l1_coefficient": "weight of the sparsity penalty",
    "input_scale": "what activations were multiplied by in training, folded into the weights",
    "dead": "number of latents that never fire",
    "trained_as": "architecture that it was trained as, where the file has another",
}
"""Names of what a file may state of its training."""


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Return a value as JSON has it; what JSON cannot have as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Tensor):
        return value.tolist()
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
