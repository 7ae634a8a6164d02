"""What the files of SAELens say of a training, brought to our names."""

import re
from collections.abc import Mapping
from typing import Any

from sae_lightning.formats.place import Place

STATED = {
    "model": ("model_name",),
    "hook": ("hook_name",),
    "target": ("hook_name_out",),
    "layer": ("hook_layer",),
    "context_length": ("context_size",),
    "prepend_bos": ("prepend_bos",),
    "dataset": ("dataset_path",),
    "tokens": ("training_tokens", "total_training_tokens"),
    "batch_size": ("train_batch_size_tokens", "train_batch_size"),
    "learning_rate": ("lr",),
    "seed": ("seed",),
    "k": ("k",),
    "l0": ("l0",),
    "l1_coefficient": ("l1_coefficient",),
    "dead": ("num_dead_features",),
}
"""Names that SAELens has had for what we state, the newest first."""
_BLOCK = re.compile(r"(?:blocks|layers|h)\.(\d+)\b")
_NEVER_FIRES = -9.0
"""Log10 of a firing frequency; SAELens adds 1e-10 before it takes the logarithm."""


def stated(place: Place, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is said, by the names of `stored.STATED`.

    Args:
        place: a folder, perhaps with `sparsity.safetensors` and the `trainer_state.pt` of a checkpoint.
        said: what all its JSON files say, by SAELens' names.
    """
    by_our_name: dict[str, Any] = {}
    for name, keys in STATED.items():
        value = next((said[key] for key in keys if said.get(key) is not None), None)
        if isinstance(value, bool | int | float | str):
            by_our_name[name] = value
    if "layer" not in by_our_name and (block := _BLOCK.search(str(said.get("hook_name")))):
        by_our_name["layer"] = int(block[1])
    if "dead" not in by_our_name and (path := place.folder / "sparsity.safetensors").is_file():
        sparsity = place.tensors(path).get("sparsity")
        if sparsity is not None and list(sparsity.shape) == [said["d_sae"]]:
            by_our_name["dead"] = int((sparsity <= _NEVER_FIRES).sum())
    if (path := place.folder / "trainer_state.pt").is_file():
        by_our_name["tokens"] = place.read(path).get("n_training_samples", by_our_name.get("tokens"))
    return by_our_name
