"""Write an SAE as dictionary_learning reads it."""

import json
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor

from sae_lightning.formats.dictionary_learning_classes import CLASSES, STATED, encoding_with
from sae_lightning.formats.stored import StoredSAE
from sae_lightning.formats.taking import OURS
from sae_lightning.whole_files import whole_file, write_whole


def write(stored: StoredSAE, folder: Path) -> list[Path]:
    """Write `ae.pt` and a `config.json` with which `load_dictionary` of dictionary_learning reads it.

    A class of theirs either subtracts b_dec before encoding or does not. Where that differs, b_dec goes into the bias
    of the encoder, and `config.json` says so under `sae_lightning`.

    Args:
        stored: any variant that dictionary_learning has a class for.
        folder: created if needed.

    Raises:
        ValueError: if dictionary_learning cannot express it.
    """
    names = {kind.variant: name for name, kind in reversed(CLASSES.items())}
    if stored.variant not in names:
        raise ValueError(f"dictionary_learning has no class for a {stored.variant}: expected one of {', '.join(names)}")
    if input_norm := stored.settings.get("input_norm"):
        raise ValueError(
            f"dictionary_learning does not normalise single activations, and this SAE has input_norm={input_norm}"
        )
    subtracts, tensors, folds = stored.settings["apply_b_dec_to_input"], dict(stored.tensors), []
    name = names[stored.variant] if stored.variant != "ReLU" or subtracts else "AutoEncoderNew"
    kind = CLASSES[name]
    if subtracts != kind.subtracts_b_dec:
        tensors = encoding_with(tensors, -tensors["b_dec"] if subtracts else tensors["b_dec"])
        does = "subtracts" if kind.subtracts_b_dec else "does not subtract"
        folds.append(f"b_dec went into the bias of the encoder, since {name} {does} it before encoding")
    weights = {
        theirs: (tensors[ours] if letters == OURS.get(ours, letters) else tensors[ours].T).contiguous()
        for ours, (theirs, letters) in kind.layout.items()
    }
    numbers = _numbers(stored) if kind.numbers else {}
    sizes = {"dict_class": name, "activation_dim": stored.d_in, "dict_size": stored.d_sae}
    said = {theirs: stored.stated[ours] for theirs, ours in STATED.items() if ours in stored.stated}
    given = {theirs: value.tolist() for theirs, value in numbers.items() if theirs != "threshold"}
    config = {"trainer": {**sizes, **given, **said}, "sae_lightning": {"version": stored.version, "folds": folds}}
    with whole_file(folder / "ae.pt") as part:
        torch.save({**weights, **numbers}, part)
    write_whole(folder / "config.json", json.dumps(config, indent=2) + "\n")
    return [folder / "ae.pt", folder / "config.json"]


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
