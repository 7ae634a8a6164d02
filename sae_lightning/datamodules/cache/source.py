"""The model behind a cache, loaded when something wants to run it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from jsonargparse import ArgumentParser
from torch import Tensor
from typing_extensions import override

from sae_lightning.datamodules.base import ActivationDataModule
from sae_lightning.datamodules.cache.manifest import DEFAULTS, model_files
from sae_lightning.datamodules.clip_images import ClipImages
from sae_lightning.datamodules.language_model import LanguageModelDataModule
from sae_lightning.sources import ActivationSource, HookedModel, LanguageModelSource
from sae_lightning.sources.checkpoint import load_kind
from sae_lightning.sources.massive import MassiveRule


class CachedSource(ActivationSource):
    """A source that knows its width at once and loads its model when it is first run.

    Args:
        manifest: of the cache.
        path: of the cache, for messages.

    Attributes:
        massive: which activations are massive, for the model once it is loaded.
    """

    massive: MassiveRule | None = None

    def __init__(self, manifest: dict[str, Any], path: str) -> None:
        self.manifest, self.path = manifest, path
        self.d_in, self.widths = manifest["d_in"], manifest["widths"]
        kind = manifest.get("class_path", DEFAULTS["class_path"])
        self.is_language_model = kind == LanguageModelDataModule.__name__
        self.embeds_images = not self.is_language_model
        self.reads_images = kind == ClipImages.__name__
        self._device = torch.device("cpu")
        self._source: HookedModel | None = None

    def __getattr__(self, name: str) -> Any:
        # Evaluators need more of a CLIP model than the two verbs, but no more of a language model, which can be large.
        if name.startswith("_") or self.is_language_model:
            raise AttributeError(name)
        return getattr(self.loaded(), name)

    @override
    def describe(self, part: str = "") -> dict[str, Any]:
        """Return what the source of the cache said of itself; of an older cache the arguments that it was made with."""
        if "provenance" in self.manifest:
            parts = self.manifest["provenance"]["activations"]
            return parts.get(part, parts[""])
        data = self.manifest["data"]
        hook = data["hook"].get(part, data["hook"]) if isinstance(data["hook"], dict) else data["hook"]
        source = "LanguageModelSource" if self.is_language_model else "ClipSource"
        own = {"class": source, "model": data["model"], "hook": hook, "hook_input": data.get("hook_input", False)}
        return own | {name: data[name] for name in ("revision", "pretrained") if name in data}

    @property
    @override
    def no_next_token(self) -> str:
        """Why the model predicts no next token, from its configuration alone until it is loaded."""
        if not self.is_language_model or self._source is not None:
            return self.loaded().no_next_token
        model, revision = self.manifest["data"]["model"], self.manifest["data"]["revision"]
        with self._model_errors():
            reason = load_kind(model, self.manifest["model"]["commit"] or revision).no_next_token
        return f"model={model} is {reason}" if reason else ""

    @property
    @override
    def device(self) -> torch.device:
        """Where the model is, or will be."""
        return self._device

    @override
    def to(self, device: torch.device | str) -> "CachedSource":
        self._device = torch.device(device)
        if self._source is not None:
            self._source.to(self._device)
        return self

    @override
    def capture(self, inputs: Any) -> tuple[Float[Tensor, "batch seq d_in"], Bool[Tensor, "batch seq"]]:
        """Load the model and do as `HookedModel.capture`."""
        return self.loaded().capture(inputs)

    @override
    def same_inputs(self) -> AbstractContextManager[None]:
        return self.loaded().same_inputs()

    @override
    def replace(
        self,
        inputs: Any,
        edit: Callable[[Float[Tensor, "batch seq d_in"]], Float[Tensor, "batch seq d_in"]],
        hook: str = "",
    ) -> Tensor:
        """Load the model and do as `HookedModel.replace`."""
        return self.loaded().replace(inputs, edit, hook)

    @override
    def valid(self, inputs: Any, activations: Tensor, part: str = "") -> Tensor:
        """Load the model and do as `HookedModel.valid`."""
        return self.loaded().valid(inputs, activations, part)

    def loaded(self) -> HookedModel:
        """Return the source with its model, which is loaded the first time.

        Raises:
            ValueError: if there is no such model, or it is not the one that the cache was made with.
        """
        if self._source is None:
            data = self.manifest["data"]
            # Parameters made in a validation could never take part in a gradient.
            with self._model_errors(), torch.inference_mode(False):
                self._source = self._language_model() if self.is_language_model else self.origin.source
            if (identity := model_identity(self._source)) != self.manifest["model"]:
                raise ValueError(
                    f"model={data['model']} is not the one that the cache {self.path} was made with: "
                    f"{identity}, expected {self.manifest['model']}"
                )
            self._source.massive = self.massive
            self._source.to(self._device)
        return self._source

    @contextmanager
    def _model_errors(self) -> Iterator[None]:
        """Say of an error that it concerns the model behind the cache."""
        try:
            yield
        except ValueError as error:
            raise ValueError(
                f"an evaluator runs the model, and that of the cache {self.path}, "
                f"model={self.manifest['data']['model']}, cannot be loaded: {error}. Put it there, "
                "or leave out the evaluator"
            ) from error

    @cached_property
    def origin(self) -> Any:
        """The datamodule that the cache was made from."""
        parser = ArgumentParser(exit_on_error=False)
        parser.add_subclass_arguments(ActivationDataModule, "data")
        data = {"class_path": self.manifest["class_path"], "init_args": self.manifest["data"]}
        origin = parser.instantiate_classes(parser.parse_object({"data": data})).data
        origin.massive = origin.source.massive = self.massive
        return origin

    def _language_model(self) -> LanguageModelSource:
        """Make only the source of the datamodule, since its text may be gone."""
        data = self.manifest["data"]
        arguments = {name: data[name] for name in ("model", "hook", "hook_input", "revision", "dtype")}
        arguments["revision"] = self.manifest["model"]["commit"] or arguments["revision"]
        return LanguageModelSource(**arguments)


def model_identity(source: HookedModel) -> dict[str, Any]:
    """Return the name of a model, the sha256 of its files if it is local, and its commit if it is from the hub."""
    commit = getattr(getattr(source.model, "config", None), "_commit_hash", None)
    return {"name": source.name, "commit": commit, "sha256": model_files(source.name)}
