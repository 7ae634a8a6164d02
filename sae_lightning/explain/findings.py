"""What is known of latents beside the texts: the data to read, the logits they reach, and what `sae stitch` found."""

import pkgutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonargparse
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor

from sae_lightning.canonical.insertion import CLASSES
from sae_lightning.canonical.stitching import LATENTS_FILE
from sae_lightning.data_options import add_data, parse_data
from sae_lightning.datamodules import ActivationDataModule, CachedActivations, LanguageModelDataModule
from sae_lightning.datamodules.cache.source import CachedSource
from sae_lightning.density.logits import read_unembedding
from sae_lightning.interpretation.excerpts import token_texts

TEXT_DATA = (LanguageModelDataModule, CachedActivations)
"""Data of which a model reads text."""
_BLOCK_ENTRIES = 2**24


def data_of_run(
    run: Path, part: str = "", kinds: tuple[type[ActivationDataModule], ...] = (ActivationDataModule,)
) -> ActivationDataModule | None:
    """The data of a run without nulls, of a cache of pictures what it was made of; None if they are of no such kind.

    Raises:
        ValueError: if the part is a null, or the data cannot be made.
    """
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    add_data(parser)
    settings = parse_data(parser, [f"--config={run / 'config.yaml'}"])
    if part in (settings.data.init_args.get("nulls") or {}):
        raise ValueError(
            f"MEMBER {part}/...: this SAE was trained on {part}, a null version of the activations, of which there is "
            "nothing to explain; give one of the activations themselves, such as trained/0"
        )
    if not issubclass(pkgutil.resolve_name(settings.data.class_path), (CachedActivations, *kinds)):
        return None
    if "nulls" in settings.data.init_args:
        settings.data.init_args.nulls = None
    datamodule = parser.instantiate_classes(settings).data
    if isinstance(datamodule, CachedActivations) and not datamodule.source.is_language_model:
        datamodule.source.loaded()  # which says so if it is not the model that the cache was made with
        datamodule = datamodule.source.origin
    return datamodule if isinstance(datamodule, kinds) else None


def added_logits(
    datamodule: Any, directions: Float[Tensor, "n_latents d_in"], n: int
) -> list[dict[str, list[tuple[str, float]]]] | None:
    """For each decoder direction the n tokens whose logits it raises (`promoted`) and lowers (`suppressed`) most.

    None where the directions are none of the residual stream, or the model has no head.
    """
    of_cache = isinstance(datamodule.source, CachedSource)
    source: Any = datamodule.source.loaded() if of_cache else datamodule.source
    unembedding = read_unembedding(source)
    if unembedding is None or len(unembedding.W_U) != directions.shape[1]:
        return None
    W_U, rows = unembedding.W_U, []  # noqa: N806
    n = min(n, W_U.shape[1])
    for block in directions.to(W_U).split(max(1, _BLOCK_ENTRIES // W_U.shape[1])):
        added = block @ W_U
        ends = {name: added.topk(n, largest=name == "promoted") for name in ("promoted", "suppressed")}
        rows += [
            {name: (top.indices[i].tolist(), top.values[i].tolist()) for name, top in ends.items()}
            for i in range(len(block))
        ]
    ids = sorted({token for row in rows for tokens, _ in row.values() for token in tokens})
    texts = dict(zip(ids, token_texts(datamodule.packing.tokenizer, ids), strict=True))
    return [
        {name: [(texts[i], value) for i, value in zip(*pair, strict=True)] for name, pair in row.items()}
        for row in rows
    ]


def stitched(run: Path, member: str, latents: Sequence[int]) -> list[list[dict[str, Any]]]:
    """For each latent its class against each smaller SAE that `sae stitch` has compared this SAE with.

    Only what lies in the folder of the run is found; without that the lists are empty.
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
