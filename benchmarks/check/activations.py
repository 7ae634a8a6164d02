"""Activations of a cache in memory, as the trainers of other libraries take them: shuffled batches without end."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor


class CachedBatches:
    """The training activations of a cache of one language model and hook, in a new order each epoch.

    Attributes:
        samples: Activations [n, d_in], float32, without special tokens and massive activations.
        config: What dictionary_learning writes beside an SAE of its buffer.
    """

    def __init__(self, folder: Path, batch_size: int, seed: int = 0) -> None:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
        self.data: dict[str, Any] = manifest["data"]
        files = sorted(folder.glob("train-*.safetensors"))
        self.samples = torch.cat([load_file(file)["activations"].float() for file in files])
        self.batch_size = batch_size
        self.seed = seed
        self.config = {"d_submodule": self.d_in, "io": "out", "ctx_len": self.data["context_length"]}
        self.config["out_batch_size"] = batch_size

    @property
    def d_in(self) -> int:
        """Return the width of the activations."""
        return self.samples.shape[1]

    @property
    def layer(self) -> int:
        """Return the index of the block whose output the hook is, such as 14 for model.layers.14."""
        return int(self.data["hook"].rpartition(".")[2])

    @property
    def text(self) -> str:
        """Return the name of the training text, without its folder."""
        return Path(self.data["text"]["init_args"]["paths"]).name

    def __iter__(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            order = torch.randperm(len(self.samples), generator=generator)
            for rows in order.split(self.batch_size)[:-1]:  # the last one is smaller
                yield self.samples[rows]
