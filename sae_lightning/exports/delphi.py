"""The latent cache of delphi: which latents fire where in a text, from which it explains them.

    <folder>/<hook>/{start}_{end}.safetensors     latents from start to end, both included
        locations [n, 3]     row, position in the row, latent - start; uint16 where all of them fit, else uint32
        activations [n]      float16
        tokens [rows, context_length]    the text, in each file
    <folder>/<hook>/config.json                   what text, of what model

The order is that of the text, and an entry is one with |latent| > 1e-5. Codes are written to a temporary file for each
split as they come, so no more than one split is in memory, and never a dense latent.

Positions that are not valid (special tokens, massive activations that are left out) have no latents here: the SAE has
not been trained on them, and delphi itself would encode them as well.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from safetensors.numpy import save_file
from torch import Tensor

from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.data import columns_by_part
from sae_lightning.sources import TokenBatch
from sae_lightning.whole_files import whole_file, write_whole

NAME, TITLE = "delphi", "delphi"
_SMALLEST = 1e-5
_LARGEST = torch.finfo(torch.float16).max


@torch.no_grad()
def write_cache(
    datamodule: Any, sae: SparseAutoencoder, part: str, folder: Path, n_tokens: int, n_splits: int
) -> tuple[list[Path], list[str]]:
    """Write the latents of an SAE on held-out text.

    Args:
        datamodule: whose source reads text.
        sae: on the source's device.
        part: of the activations that the SAE reads.
        folder: for the folder of the hook.
        n_tokens: most valid tokens to read.
        n_splits: files that the latents are divided into.

    Returns:
        The files, and what is to be said of them.

    Raises:
        ValueError: if there are fewer latents than splits.
    """
    if not 1 <= n_splits <= sae.d_sae:
        raise ValueError(f"--n_splits {n_splits}: expected 1 to {sae.d_sae}, the number of latents")
    rows = datamodule.heldout_rows(n_tokens)
    place = datamodule.describe_activations()[part]
    folder = folder / place["hook"]
    folder.mkdir(parents=True)
    bounds = torch.linspace(0, sae.d_sae, n_splits + 1).long().tolist()
    widest = max(end - start for start, end in zip(bounds, bounds[1:], strict=False))
    fits = max(*rows.input_ids.shape, widest) <= 2**16
    split = _Splits(bounds, np.uint16 if fits else np.uint32)
    n_read = n_entries = n_clipped = 0
    with TemporaryDirectory(dir=folder, prefix=".") as spill, ExitStack() as stack:
        split.open(Path(spill), stack)
        for n_valid, locations, values in _entries(datamodule, sae, part, rows):
            split.append(locations, values.clamp(-_LARGEST, _LARGEST).half())
            n_read += n_valid
            n_entries += len(values)
            n_clipped += int((values.abs() > _LARGEST).sum())
        stack.close()
        files = split.save(folder, rows.input_ids.numpy())
    config = _config(datamodule, place, rows, n_splits)
    write_whole(folder / "config.json", json.dumps(config, indent=2) + "\n")
    n_all = rows.input_ids.numel()
    said = [
        f"{len(rows.input_ids)} rows of {rows.input_ids.shape[1]} tokens, {n_entries / max(n_read, 1):.2f} latents for "
        f"each of {n_read} valid tokens",
        f"{n_all - n_read} of the {n_all} positions have no latents: {datamodule.packing.left_out} and massive "
        "activations are left out, as in training; delphi encodes them as well",
    ]
    if n_clipped:
        said.append(f"{n_clipped} latents are larger than float16 holds and stand as {_LARGEST:g}")
    return [*files, folder / "config.json"], said


def _entries(
    datamodule: Any, sae: SparseAutoencoder, part: str, rows: TokenBatch
) -> Iterator[tuple[int, Int64[Tensor, "n 3"], Float[Tensor, " n"]]]:
    """Yield for each forward of the model the number of valid tokens, and where which latents fire."""
    own = columns_by_part(datamodule.widths)[part] if part else slice(None)
    length, n_rows = rows.input_ids.shape[1], datamodule.llm_batch_size
    parts = zip(rows.input_ids.split(n_rows), rows.mask.split(n_rows), strict=True)
    for number, inputs in enumerate(parts):
        captured, mask = datamodule.source.capture(TokenBatch(*inputs))
        code = sae.encode(captured[mask][:, own].float().to(sae.device))
        code = code.where(code.values.abs() > _SMALLEST)
        at = (number * n_rows * length + mask.flatten().nonzero()[:, 0]).to(sae.device)[code.rows]
        order = (at * sae.d_sae + code.indices).argsort()
        locations = torch.stack([at // length, at % length, code.indices], dim=1)[order].cpu()
        yield code.batch_size, locations, code.values[order].float().cpu()


class _Splits:
    """Entries of each range of latents, gathered in files of raw numbers."""

    def __init__(self, bounds: list[int], dtype: type[np.unsignedinteger[Any]]) -> None:
        self.starts, self.ends, self.dtype = bounds[:-1], bounds[1:], dtype

    def open(self, spill: Path, stack: ExitStack) -> None:
        self._paths = [(spill / f"{start}.locations", spill / f"{start}.activations") for start in self.starts]
        self._files = [[stack.enter_context(path.open("wb")) for path in pair] for pair in self._paths]

    def append(self, locations: Int64[Tensor, "n 3"], values: Float[Tensor, " n"]) -> None:
        for start, end, (of_locations, of_values) in zip(self.starts, self.ends, self._files, strict=True):
            own = (locations[:, 2] >= start) & (locations[:, 2] < end)
            moved = locations[own] - torch.tensor([0, 0, start])
            moved.numpy().astype(self.dtype).tofile(of_locations)
            values[own].numpy().tofile(of_values)

    def save(self, folder: Path, tokens: np.ndarray) -> list[Path]:
        files = []
        for start, end, (locations, values) in zip(self.starts, self.ends, self._paths, strict=True):
            tensors = {
                "locations": np.fromfile(locations, self.dtype).reshape(-1, 3),
                "activations": np.fromfile(values, np.float16),
                "tokens": tokens,
            }
            files.append(folder / f"{start}_{end - 1}.safetensors")
            with whole_file(files[-1]) as part:
                save_file(tensors, part)
        return files


def _config(datamodule: Any, place: dict[str, Any], rows: TokenBatch, n_splits: int) -> dict[str, Any]:
    """Return the settings that delphi reads a cache with; the names of its text matter only without `tokens`."""
    text = datamodule.describe().get("text") or {}
    n_rows, length = rows.input_ids.shape
    return {
        "dataset_repo": str(text.get("dataset") or text.get("paths") or text.get("class") or ""),
        "dataset_split": str(text.get("heldout_split") or text.get("split") or ""),
        "dataset_name": str(text.get("name") or ""),
        "dataset_column": str(text.get("column") or ""),
        "batch_size": datamodule.llm_batch_size,
        "cache_ctx_len": length,
        "ctx_len": length,
        "n_tokens": n_rows * length,
        "n_splits": n_splits,
        "model_name": str(place.get("model") or ""),
    }
