"""OpenAI's sparse_autoencoder: one torch file, such as resid_post_mlp_v5_32k/autoencoders/8.pt.

    latents = activation((x - pre_bias) encoder.weight^T + latent_bias)      x_hat = latents decoder.weight^T + pre_bias

`activation` is a class name beside the tensors, ReLU where there is none. With TopK, and only with it, each activation
is normalised by itself before and its reconstruction brought back. A tied model has no decoder of its own.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sae_lightning.formats.place import Place
from sae_lightning.formats.stored import StoredSAE
from sae_lightning.formats.taking import take

NAME, TITLE = "openai", "OpenAI's sparse_autoencoder"
_TIED = "decoder.linear.weight"
_LAYOUT = {
    "W_enc": ("encoder.weight", "m d"),
    "b_enc": ("latent_bias", "m"),
    "W_dec": ("decoder.weight", "d m"),
    "b_dec": ("pre_bias", "d"),
}
_NOT_NEEDED = (
    "activation",
    "activation_state_dict",
    "stats_last_nonzero",
    "latents_activation_frequency",
    "latents_mean_square",
)


def reads(place: Place) -> bool:
    """Return whether there is one torch file with both biases."""
    path = place.only_weights(".pt", ".pth")
    return path is not None and {"pre_bias", "latent_bias"} <= set(place.tensors(path))


def read(place: Place, assumed: Mapping[str, Any]) -> StoredSAE:
    """Read a ReLU or TopK SAE.

    Raises:
        ValueError: if it has another activation, or the file is damaged.
    """
    path = place.only_weights(".pt", ".pth")
    assert path is not None
    content = place.read(path)
    is_tied = _TIED in content
    layout = {**_LAYOUT, "W_dec": (_TIED, "m d")} if is_tied else _LAYOUT
    tensors, dtype = take(path, content, layout, ignored=_NOT_NEEDED)
    activation = content.get("activation", "ReLU")
    settings: dict[str, Any] = {"apply_b_dec_to_input": True}
    if activation == "TopK":
        settings |= {"k": _k(path, content, len(tensors["W_dec"])), "input_norm": "layer_norm"}
    elif activation != "ReLU":
        raise ValueError(f"{path} has the activation {activation!r}: this library has no variant for it, ReLU or TopK")
    return StoredSAE(
        NAME,
        activation,
        tensors,
        settings,
        dtype=dtype,
        stated={**_place_in_model(path), **({"k": settings["k"]} if "k" in settings else {})},
        notes=("it is tied: its decoder is its encoder",) if is_tied else (),
    )


def _k(path: Path, content: Mapping[str, Any], d_sae: int) -> int:
    """Return k.

    Raises:
        ValueError: if there is none, or latents may be negative.
    """
    state = content.get("activation_state_dict")
    state = state if isinstance(state, dict) else {}
    if state.get("postact_fn") != "ReLU":
        raise ValueError(
            f"{path} has a TopK followed by {state.get('postact_fn')!r}: expected 'ReLU', since latents of this "
            "library's TopK are not negative"
        )
    k = state.get("k")
    k = k.item() if isinstance(k, Tensor) and not k.dim() else k
    if not isinstance(k, int) or not 1 <= k <= d_sae:
        raise ValueError(f"{path} has k={k!r} in activation_state_dict: expected 1 to {d_sae}, the number of latents")
    return k


def _place_in_model(path: Path) -> dict[str, Any]:
    """Return hook and layer from folders that are called as OpenAI's are."""
    folder = path.absolute().parent
    if folder.name != "autoencoders" or not path.stem.isdigit():
        return {}
    return {"hook": folder.parent.name, "layer": int(path.stem)}
