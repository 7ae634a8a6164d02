"""Write an SAE as dictionary_learning reads it."""

import json
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor

from sae_lightning.formats.b_dec import with_b_dec_subtracted
from sae_lightning.formats.dictionary_learning_classes import CLASSES, STATED
from sae_lightning.formats.stored import StoredSAE
from sae_lightning.formats.taking import is_ours
from sae_lightning.whole_files import whole_file, write_whole


def writable(stored: StoredSAE) -> StoredSAE:
    """Return the SAE as a class of dictionary_learning expresses it; what that changes is named in `folds`.

    A class of theirs either subtracts b_dec before encoding or does not.

    Raises:
        ValueError: if dictionary_learning cannot express it.
    """
    if stored.is_transcoder:
        raise ValueError("dictionary_learning has no class for a transcoder: write it in the format of SAELens")
    if input_norm := stored.settings.get("input_norm"):
        raise ValueError(
            f"dictionary_learning does not normalise single activations, and this SAE has input_norm={input_norm}"
        )
    return with_b_dec_subtracted(stored, CLASSES[_class_of(stored)].subtracts_b_dec)


def write(stored: StoredSAE, folder: Path) -> list[Path]:
    """Write `ae.pt` and a `config.json` with which `load_dictionary` of dictionary_learning reads it.

    Args:
        stored: any variant that dictionary_learning has a class for.
        folder: created if needed.

    Raises:
        ValueError: if dictionary_learning cannot express it.
    """
    name, stored = _class_of(stored), writable(stored)
    kind, tensors = CLASSES[name], stored.tensors
    weights = {
        theirs: (tensors[ours] if is_ours(ours, letters) else tensors[ours].T).contiguous()
        for ours, (theirs, letters) in kind.layout.items()
    }
    numbers = _numbers(stored) if kind.numbers else {}
    sizes = {"dict_class": name, "activation_dim": stored.d_in, "dict_size": stored.d_sae}
    said = {theirs: stored.stated[ours] for theirs, ours in STATED.items() if ours in stored.stated}
    given = {theirs: value.tolist() for theirs, value in numbers.items() if theirs != "threshold"}
    ours = {"version": stored.version, "folds": list(stored.folds)}
    config = {"trainer": {**sizes, **given, **said}, "sae_lightning": ours}
    with whole_file(folder / "ae.pt") as part:
        torch.save({**weights, **numbers}, part)
    write_whole(folder / "config.json", json.dumps(config, indent=2) + "\n")
    return [folder / "ae.pt", folder / "config.json"]


def _class_of(stored: StoredSAE) -> str:
    """Return the name of the class for a variant; of ReLU there are two, which differ in what they do with b_dec."""
    names = {kind.variant: name for name, kind in reversed(CLASSES.items())}
    if stored.variant not in names:
        raise ValueError(f"dictionary_learning has no class for a {stored.variant}: expected one of {', '.join(names)}")
    is_new = stored.variant == "ReLU" and not stored.settings["apply_b_dec_to_input"]
    return "AutoEncoderNew" if is_new else names[stored.variant]


def _numbers(stored: StoredSAE) -> dict[str, Tensor]:
    """Return k, and the threshold, which a TopK does not have; -1 stands for none."""
    numbers = {"k": torch.tensor(stored.settings["k"], dtype=torch.int32), "threshold": torch.tensor(-1.0)}
    if stored.variant != "TopK":
        threshold = stored.tensors["threshold"]
        if not threshold > 0:
            raise ValueError(
                f"this {stored.variant} has the threshold {float(threshold):g}, and dictionary_learning needs one "
                "above 0: train it for a step"
            )
        numbers["threshold"] = threshold
    if fractions := stored.settings.get("group_fractions"):
        ends = [0, *(round(stored.d_sae * end) for end in accumulate(fractions))]
        numbers["group_sizes"] = torch.tensor(ends).diff()
    return numbers
