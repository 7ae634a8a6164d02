"""Goodfire: one torch file, such as Llama-3.1-8B-Instruct-SAE-l19.pth, with two linear layers.

    latents = relu(x encoder_linear.weight^T + encoder_linear.bias)
    x_hat   = latents decoder_linear.weight^T + decoder_linear.bias

The decoder's bias is not subtracted from the input. Model and layer stand in the name of the file.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sae_lightning.formats.place import Place
from sae_lightning.formats.stored import StoredSAE
from sae_lightning.formats.taking import take

NAME, TITLE = "goodfire", "Goodfire"
_FILE = re.compile(r"(.+)-SAE-l(\d+)\.pth?")
_LAYOUT = {
    "W_enc": ("encoder_linear.weight", "m d"),
    "W_dec": ("decoder_linear.weight", "d m"),
    "b_enc": ("encoder_linear.bias", "m"),
    "b_dec": ("decoder_linear.bias", "d"),
}


def reads(place: Place) -> bool:
    """Return whether there is one torch file, called .pth or as theirs are, with both layers."""
    path = _file(place)
    return path is not None and {"encoder_linear.weight", "decoder_linear.weight"} <= set(place.tensors(path))


def read(place: Place, assumed: Mapping[str, Any]) -> StoredSAE:
    """Read a ReLU SAE.

    Raises:
        ValueError: if the file is damaged.
    """
    path = _file(place)
    assert path is not None
    tensors, dtype = take(path, place.read(path), _LAYOUT)
    name = _FILE.fullmatch(path.name)
    stated = {"model": name[1], "layer": int(name[2])} if name else {}
    notes = (f"it is of the residual stream after block {name[2]}",) if name else ()
    return StoredSAE(NAME, "ReLU", tensors, {"apply_b_dec_to_input": False}, dtype=dtype, stated=stated, notes=notes)


def _file(place: Place) -> Path | None:
    path = place.only_weights(".pt", ".pth")
    return path if path and (path.suffix == ".pth" or _FILE.fullmatch(path.name)) else None
