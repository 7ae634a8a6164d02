"""The language model behind a cache, loaded when something wants to run it."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from typing_extensions import override

from sae_lightning.datamodules.cache.manifest import model_files
from sae_lightning.sources import ActivationSource, LanguageModelSource, TokenBatch


class CachedSource(ActivationSource):
    """A `LanguageModelSource` that knows its width at once and has no model until it is used.

    Args:
        manifest: of the cache.
        path: of the cache, for messages.
    """

    predicts_tokens = True

    def __init__(self, manifest: dict[str, Any], path: str) -> None:
        self.manifest, self.path = manifest, path
        self.d_in, self.widths = manifest["d_in"], manifest["widths"]
        self.device = torch.device("cpu")
        self._source: LanguageModelSource | None = None

    def to(self, device: torch.device | str) -> "CachedSource":
        """Says where the model will be."""
        self.device = torch.device(device)
        if self._source is not None:
            self._source.to(self.device)
        return self

    @override
    def capture(self, inputs: TokenBatch) -> tuple[Float[Tensor, "batch seq d_in"], Bool[Tensor, "batch seq"]]:
        """As `LanguageModelSource.capture`; loads the model."""
        return self.loaded().capture(inputs)

    @override
    def replace(
        self,
        inputs: TokenBatch,
        edit: Callable[[Float[Tensor, "batch seq d_in"]], Float[Tensor, "batch seq d_in"]],
        hook: str = "",
    ) -> Float[Tensor, "batch seq vocabulary"]:
        """As `LanguageModelSource.replace`; loads the model."""
        return self.loaded().replace(inputs, edit, hook)

    def loaded(self) -> LanguageModelSource:
        """The source with its model, which is loaded the first time."""
        if self._source is None:
            data = self.manifest["data"]
            arguments = {name: data[name] for name in ("model", "hook", "hook_input", "revision", "dtype")}
            arguments["revision"] = self.manifest["model"]["commit"] or arguments["revision"]
            try:
                with torch.inference_mode(False):  # parameters made in a validation could never take part in a gradient
                    self._source = LanguageModelSource(**arguments)
            except ValueError as error:
                raise ValueError(
                    f"an evaluator runs the model, and that of the cache {self.path}, model={data['model']}, cannot be "
                    f"loaded: {error}. Put it there, or leave out the evaluator"
                ) from error
            if (found := model_identity(self._source)) != self.manifest["model"]:
                raise ValueError(
                    f"model={data['model']} is not the one that the cache {self.path} was made with: "
                    f"{found}, expected {self.manifest['model']}"
                )
            self._source.to(self.device)
        return self._source


def model_identity(source: LanguageModelSource) -> dict[str, Any]:
    """Name, sha256 of the files of a local model, commit of one from the hub."""
    commit = getattr(source.model.config, "_commit_hash", None)
    return {"name": source.name, "commit": commit, "sha256": model_files(source.name)}
