"""Qwen-Scope: a file a block, layer{n}.sae.pt, with TopK SAEs of the residual stream after it.

    latents = the k largest of x W_enc^T + b_enc      x_hat = latents W_dec^T + b_dec

Both matrices lie the other way round than here, and `b_dec` is not subtracted from the input. How many latents are kept
stands only in the name of the repository, such as SAE-Res-Qwen3-8B-Base-W64K-L0_50.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sae_lightning.formats.place import Place
from sae_lightning.formats.stored import StoredSAE
from sae_lightning.formats.taking import take

NAME, TITLE = "qwen_scope", "Qwen-Scope"
_FILE = re.compile(r"layer(\d+)\.sae\.pt")
_REPOSITORY = re.compile(r"SAE-Res-(.+?)-W\d+K-L0_\d+")
_L0 = re.compile(r"(?:^|[-_])L0_(\d+)$")
_LAYOUT = {"W_enc": ("W_enc", "m d"), "W_dec": ("W_dec", "d m"), "b_enc": ("b_enc", "m"), "b_dec": ("b_dec", "d")}


def reads(place: Place) -> bool:
    """Return whether there are files of such names; a folder has one for each block."""
    return bool(_files(place))


def read(place: Place, assumed: Mapping[str, Any]) -> StoredSAE:
    """Read the SAE of one block.

    Raises:
        ValueError: if several are there, k is not known, or the file is damaged.
    """
    path, *others = _files(place)
    if others:
        raise ValueError(
            f"{place} holds {len(others) + 1} SAEs, one for each block: name a file, such as {place.folder / path.name}"
        )
    tensors, dtype = take(path, place.read(path), _LAYOUT)
    folders = path.absolute().parent.parts[::-1]
    k = next((int(match[1]) for one in folders if (match := _L0.search(one))), None)
    used = {} if k is not None or "k" not in assumed else {"k": assumed["k"]}
    if k is None and not used:
        raise ValueError(
            f"{path} does not say how many latents it keeps, and no folder above is called after its repository, such "
            "as SAE-Res-Qwen3-8B-Base-W64K-L0_50: assume it, as k=50"
        )
    repository = next((match for one in folders if (match := _REPOSITORY.search(one))), None)
    layer = _FILE.fullmatch(path.name)
    assert layer is not None
    stated: dict[str, Any] = {"layer": int(layer[1])}
    stated.update({"k": k} if k is not None else {}, **({"model": repository[1]} if repository else {}))
    return StoredSAE(
        NAME,
        "TopK",
        tensors,
        {"k": k if k is not None else used["k"], "apply_b_dec_to_input": False},
        dtype=dtype,
        stated=stated,
        notes=(
            f"it is of the residual stream after block {layer[1]}",
            "where fewer than k pre-activations are positive, Qwen's own code keeps negative ones, which are 0 here",
        ),
        assumed=used,
    )


def _files(place: Place) -> list[Path]:
    """Return its files in the order of blocks."""
    named = [(int(match[1]), one) for one in place.weight_files if (match := _FILE.fullmatch(one.name))]
    return [one for _, one in sorted(named)]
