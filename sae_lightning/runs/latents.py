"""``latents.safetensors``: what evaluators measured of single latents at the last line of ``metrics.jsonl``.

Tensors `<name>@<part>/<policy>/<seed>` [d_sae], float32, nan for a latent of which the quantity was not measured. The
metadata hold the format, the optimizer step, and what is said of each quantity.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sae_lightning.members import Member, Tag
from sae_lightning.whole_files import whole_file

if TYPE_CHECKING:
    from sae_lightning.evaluators.latent_scores import LatentScores

LATENTS_FILE = "latents.safetensors"
FORMAT = 1


@dataclass(frozen=True)
class LatentValues:
    """A quantity that single latents have, see `LatentScores`.

    Args:
        label: in plain words.
        is_quality: whether more of it makes a latent better.
        members: [d_sae] for each member.
    """

    label: str
    is_quality: bool
    members: Mapping[Member, NDArray[np.float32]]


def write_latents(folder: Path, step: int, measured: Sequence["LatentScores"]) -> None:
    """Write what was measured of single latents, in place of an earlier validation's; nothing where nothing was."""
    from safetensors.numpy import save_file

    if not measured:
        return
    tensors = {
        f"{Tag(scores.name, member.part)}/{member.curve}": values.detach().float().cpu().numpy().copy()
        for scores in measured
        for member, values in scores.members.items()
    }
    about = {scores.name: {"label": scores.label, "is_quality": scores.is_quality} for scores in measured}
    metadata = {"format": str(FORMAT), "step": str(step), "about": json.dumps(about)}
    with whole_file(folder / LATENTS_FILE) as part:
        save_file(tensors, part, metadata=metadata)


def read_latents(folder: Path, step: int) -> dict[str, LatentValues]:
    """Read them by name; none where the run has written none at this step.

    Raises:
        ValueError: if the file is damaged or of a newer format.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / LATENTS_FILE
    if not path.is_file():
        return {}
    try:
        with safe_open(path, "np") as file:
            metadata = file.metadata()
            if int(metadata["format"]) > FORMAT:
                raise ValueError(f"it has format {metadata['format']}, and this version reads up to {FORMAT}")
            if int(metadata["step"]) != step:
                return {}
            about = json.loads(metadata["about"])
            members: dict[str, dict[Member, NDArray[np.float32]]] = {name: {} for name in about}
            for key in file.keys():  # noqa: SIM118 - not a dict
                text, curve = key.split("/", 1)
                tag = Tag.parse(text)
                members[tag.metric][Member.parse(f"{tag.part}/{curve}".lstrip("/"))] = file.get_tensor(key)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path} cannot be read: {error}; remove it, and nothing is said of single latents") from error
    return {name: LatentValues(**about[name], members=own) for name, own in members.items()}
