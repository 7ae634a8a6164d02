"""A plain file with the four tensors of an SAE and no configuration: what it does not say has to be assumed by name.

W_enc and W_dec may lie either way round, which b_enc [d_sae] and b_dec [d_in] tell; a threshold is [d_sae] or one
number.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sae_lightning.formats.place import Place
from sae_lightning.formats.stored import StoredSAE
from sae_lightning.formats.taking import take

NAME, TITLE = "plain", "a plain file of tensors"
_NAMES = ("W_enc", "W_dec", "b_enc", "b_dec")
_VARIANTS = ("ReLU", "TopK", "BatchTopK", "JumpReLU")


def reads(place: Place) -> bool:
    """Return whether there is one weight file that holds these four tensors, and perhaps a threshold."""
    return len(_fitting(place)) == 1


def _fitting(place: Place) -> list[Path]:
    return [one for one in place.weight_files if set(_NAMES) <= set(place.tensors(one)) <= {*_NAMES, "threshold"}]


def read(place: Place, assumed: Mapping[str, Any]) -> StoredSAE:
    """Read the tensors; variant and whether b_dec is subtracted come from the user.

    Raises:
        ValueError: names what is not known, or does not fit.
    """
    [path] = _fitting(place)
    tensors = place.tensors(path)
    if missing := [name for name in ("variant", "apply_b_dec_to_input") if name not in assumed]:
        raise ValueError(
            f"{path} is a plain file of tensors, which does not say what the SAE computes: assume "
            f"{' and '.join(missing)}, such as variant=ReLU (one of {', '.join(_VARIANTS)}) and "
            "apply_b_dec_to_input=true (is b_dec subtracted before encoding?)"
        )
    variant, needed = assumed["variant"], {"TopK": ("k",), "BatchTopK": ("k",)}.get(assumed["variant"], ())
    if variant not in _VARIANTS:
        raise ValueError(f"variant={variant}: expected one of {', '.join(_VARIANTS)}")
    if missing := [name for name in needed if name not in assumed]:
        raise ValueError(f"{path}: a {variant} needs {missing[0]}, which a plain file does not say: assume it, as k=32")
    layout = {"b_enc": ("b_enc", "m"), "b_dec": ("b_dec", "d"), **_matrices(tensors)}
    used = {"variant", "apply_b_dec_to_input", *needed} | ({"input_norm"} & set(assumed))
    threshold = tensors.get("threshold")
    if variant in ("JumpReLU", "BatchTopK"):
        if threshold is None and "threshold" not in assumed:
            raise ValueError(
                f"{path}: a {variant} needs a threshold, and the file has none: assume it, as threshold=0.5"
            )
        if threshold is not None:
            layout["threshold"] = ("threshold", "m" if threshold.dim() else "")
        else:
            used.add("threshold")
    taken, dtype = take(path, tensors, layout, ignored=["threshold"])
    if "threshold" in used:
        taken["threshold"] = taken["b_enc"].new_tensor(float(assumed["threshold"]))
    if variant == "JumpReLU":
        taken["threshold"] = taken["threshold"].expand_as(taken["b_enc"]).clone()
    if variant == "BatchTopK" and taken["threshold"].dim():
        raise ValueError(f"{path} has a threshold for each latent, and a BatchTopK has one: assume variant=JumpReLU")
    settings = {name: assumed[name] for name in ("apply_b_dec_to_input", "input_norm", *needed) if name in assumed}
    return StoredSAE(
        NAME, variant, taken, settings, dtype=dtype, assumed={name: assumed[name] for name in assumed if name in used}
    )


def _matrices(tensors: Mapping[str, Tensor]) -> dict[str, tuple[str, str]]:
    """Return the layout of both matrices, told by the biases.

    Raises:
        ValueError: if the SAE has as many latents as dimensions, which says nothing of the orientation.
    """
    d_sae, d_in = tensors["b_enc"].numel(), tensors["b_dec"].numel()
    if d_sae == d_in:
        raise ValueError(
            f"the file has b_enc and b_dec of one size, {d_in}, so the shapes do not tell which way its matrices lie: "
            "write it in a format that says so, such as that of SAELens"
        )
    ours = list(tensors["W_enc"].shape) == [d_in, d_sae], list(tensors["W_dec"].shape) == [d_sae, d_in]
    return {"W_enc": ("W_enc", "d m" if ours[0] else "m d"), "W_dec": ("W_dec", "m d" if ours[1] else "d m")}
