"""The norms that decide which activations are massive: measured at the start of the training data, and kept.

A run measures once. Its checkpoints, its folder and a cache keep the result, so that whatever goes on from these
(resume, ``sae validate``, ``sae explain``) leaves out the same activations.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_lightning.moving_line import LINE
from sae_lightning.saes.data import columns_by_part
from sae_lightning.sources import HookedModel
from sae_lightning.sources.massive import HookNorms, MassiveRule, norms_of_sample
from sae_lightning.whole_files import write_whole

if TYPE_CHECKING:
    from sae_lightning.datamodules.model_activations import ModelActivations

FILE_NAME = "massive_activations.json"
STATE_KEY = "massive"
"""Key of the norms in the state of a datamodule."""
_N_SAMPLES = 8192
_N_FORWARDS = 16  # of the model at most, about: one position of an image may be valid


def sample_size(block_samples: int) -> int:
    """Return how many activations are measured.

    Args:
        block_samples: activations of a forward of the model at most.
    """
    return min(_N_SAMPLES, _N_FORWARDS * block_samples)


@torch.no_grad()
def measure_norms(data: "ModelActivations", source: HookedModel, ratio: float) -> dict[str, HookNorms]:
    """Measure the first activations of the training data, the same on every rank.

    Args:
        data: the rows that the model reads.
        source: without a rule about massive activations.
        ratio: norms above this many times the median are massive.
    """
    n, blocks = sample_size(data.rows_at_once * data.positions), data.train_blocks()
    samples, positions, ids = list[Tensor](), list[Tensor](), list[Tensor]()
    while (n_read := sum(map(len, samples))) < n:
        LINE.show("measuring norms", n_read, n)
        inputs = data.inputs(next(blocks))
        if not len(inputs.mask):  # none of these images can be decoded
            continue
        activations, mask = source.capture(inputs)
        samples.append(activations[mask])
        positions.append(inputs.mask.nonzero()[:, 1].cpu())
        if inputs.rows.shape == inputs.mask.shape:
            ids.append(inputs.rows[inputs.mask].cpu())
    x, at = torch.cat(samples)[:n], torch.cat(positions)[:n]
    return norms_by_hook(x, source.widths, ratio, at, _Tokens(data, torch.cat(ids)) if ids else None)


class _Tokens:
    """Texts of tokens by their number in the sample, made only where they are asked for."""

    def __init__(self, data: "ModelActivations", ids: Int64[Tensor, " n"]) -> None:
        assert data.packing is not None
        self.tokenizer, self.ids = data.packing.tokenizer, ids

    def __getitem__(self, number: int) -> str:
        return str(self.tokenizer.decode([int(self.ids[number])]))


def norms_by_hook(
    x: Float[Tensor, "n d_in"],
    widths: Mapping[str, int],
    ratio: float,
    positions: Int64[Tensor, " n"] | None = None,
    tokens: Any = None,
) -> dict[str, HookNorms]:
    """Measure a sample of activations at one hook, or at several side by side.

    Args:
        x: the sample.
        widths: of the hooks by name; empty for one.
        ratio: norms above this many times the median are massive.
        positions: of the activations in their rows, if they are known.
        tokens: gives the text of the token of an activation by its number; None where the model reads no text.
    """
    columns = columns_by_part(widths or {"": x.shape[1]})
    return {hook: norms_of_sample(x[:, own], ratio, positions, tokens) for hook, own in columns.items()}


def norms_of_checkpoint(path: str | Path | None) -> Mapping[str, Any] | None:
    """Return the norms that a checkpoint keeps; None where there is none.

    An empty mapping stands for those of a checkpoint that was written when nothing was left out yet. What is wrong with
    a file is left to those who load it.
    """
    if path is None:
        return None
    checkpoint: Mapping[str, Any] = {}
    with suppress(Exception):
        checkpoint = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    of_data = [state for state in checkpoint.values() if isinstance(state, Mapping) and "ranks" in state]
    return of_data[0].get(STATE_KEY, {}) if of_data else None


def write_norms(folder: Path, rule: MassiveRule) -> None:
    """Keep the norms in the folder of a run."""
    write_whole(folder / FILE_NAME, json.dumps(rule.state_dict(), ensure_ascii=False, indent=1) + "\n")


def read_norms(folder: Path) -> dict[str, Any] | None:
    """Return what the folder of a run keeps; None of older runs.

    Raises:
        ValueError: if the file is damaged.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return None
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        MassiveRule(None, lambda _: {}).load_state_dict(state)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: {error}; remove it, and the norms are measured anew") from error
    return state
