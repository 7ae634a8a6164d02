"""What `sae stitch` leaves of a comparison, and what is read back from it: RUN/stitch/SMALL_to_LARGE/."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from sae_lightning.stitching.insertion import CLASSES
from sae_lightning.whole_files import whole_file, write_whole

COMPARISON_FILE, LATENTS_FILE = "stitch.json", "latents.safetensors"
"""The comparison as a whole, and what was measured of each latent of the large SAE."""


def run_of(sae: Path) -> Path:
    """Return the run folder of an exported SAE, RUN/saes/.../SEED; of one that lies elsewhere its own folder."""
    return next((folder.parent for folder in sae.parents if folder.name == "saes"), sae)


def name_of(sae: Path) -> str:
    """Return the name of an SAE in its run, such as `x8/0`; of one that lies elsewhere that of its folder."""
    folder, run = sae.absolute(), run_of(sae.absolute())
    return str(folder.relative_to(run / "saes")) if run != folder else folder.name


def names_of(small: Path, large: Path) -> dict[str, str]:
    """Name two SAEs, with the folders of their runs where they have one name.

    >>> names_of(Path("a/version_0/saes/trained/0"), Path("b/version_0/saes/trained/0"))
    {'small': 'a/version_0/trained/0', 'large': 'b/version_0/trained/0'}
    """
    saes = {"small": small, "large": large}
    names = {which: name_of(sae) for which, sae in saes.items()}
    if names["small"] == names["large"]:
        for which, sae in saes.items():
            run = run_of(sae.absolute())
            own = [names[which]] if run != sae.absolute() else []
            names[which] = "/".join([*run.parts[-2:], *own])
    return names


def default_folder(small: Path, large: Path) -> Path:
    """Return the folder for a comparison of two exported SAEs, in the run of the large one."""
    return run_of(large) / "stitch" / "_to_".join(name_of(sae).replace("/", "-") for sae in (small, large))


def write(comparison: Mapping[str, Any], latents: Mapping[str, Tensor], folder: Path) -> list[Path]:
    """Write both files into a folder, which is made if needed, and return their paths."""
    write_whole(folder / COMPARISON_FILE, json.dumps(comparison, indent=1) + "\n")
    with whole_file(folder / LATENTS_FILE) as part:
        save_file({name: values.contiguous().cpu() for name, values in latents.items()}, part)
    return [folder / COMPARISON_FILE, folder / LATENTS_FILE]


def read_comparisons(run: Path) -> list[dict[str, Any]]:
    """Return the comparisons in the folder of a run, in the order of their names."""
    paths = sorted((run / "stitch").glob(f"*_to_*/{COMPARISON_FILE}"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def read_insertions(run: Path, member: str, latents: Sequence[int]) -> list[list[dict[str, Any]]]:
    """Return, for each latent of a member, its class against each smaller SAE that the member was compared with.

    Only comparisons in the folder of the run are read; the lists are empty if there are none.

    Args:
        run: the run folder.
        member: name of the larger SAE in it, such as `x8/0`.
        latents: of the larger SAE.

    Returns:
        For each latent, dictionaries with the name `small` of the smaller SAE, `class`, `change`, `low`, `high` and
        `best_cosine`.
    """
    rows: list[list[dict[str, Any]]] = [[] for _ in latents]
    for path in sorted((run / "stitch").glob(f"*_to_{member.replace('/', '-')}/{LATENTS_FILE}")):
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in ("change", "low", "high", "best_cosine", "label")}
        labels = tensors.pop("label")
        for row, latent in zip(rows, latents, strict=True):
            values = {name: float(tensor[latent]) for name, tensor in tensors.items()}
            row.append({"small": path.parent.name.split("_to_")[0], "class": CLASSES[int(labels[latent])], **values})
    return rows
