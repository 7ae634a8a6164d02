"""Loading a transformers checkpoint or a GGUF file, with errors that name the folder, file or name at fault."""

import copy
from pathlib import Path
from typing import Any

import torch

from sae_lightning import shipped
from sae_lightning.moving_line import LINE, without_bars
from sae_lightning.provenance import sampled_fingerprint
from sae_lightning.sources import gguf
from sae_lightning.sources.model_kind import ModelKind, kind_of


def load_kind(model: str, revision: str | None) -> ModelKind:
    """Read what a checkpoint is from its configuration alone.

    Raises:
        ValueError: if the folder or the hub name has no model to load.
    """
    check_folder(model)
    return kind_of(_load_config(model, revision))


def load_model(model: str, revision: str | None, dtype: str) -> tuple[torch.nn.Module, ModelKind]:
    """Load a checkpoint, with its language-modelling head if it has one.

    Args:
        model: folder, GGUF file or a folder of one, or name on the hub.
        revision: branch, tag or commit on the hub; None for its main branch.
        dtype: name of a torch dtype, or auto for the stored one, which is float32 for a GGUF file.

    Returns:
        The model without gradients, in evaluation mode, on the CPU; and what it is.

    Raises:
        ValueError: if the folder or the hub name has no model to load.
    """
    import transformers

    check_folder(model)
    LINE.show(f"loading {model}")
    config = _load_config(model, revision)
    kind = kind_of(config)
    with without_bars():
        loaded = _load(getattr(transformers, kind.loader), model, revision, config)
    loaded.fingerprint = sampled_fingerprint(loaded.state_dict())
    # Set after loading: the argument of from_pretrained was renamed between versions of transformers.
    torch_dtype = _stored_dtype(config) if dtype == "auto" else getattr(torch, dtype)
    return loaded.to(torch_dtype).eval().requires_grad_(False), kind


def submodule_names(model: str, revision: str | None = None) -> list[str]:
    """Return the dotted names of all submodules of a checkpoint, from its configuration alone.

    Raises:
        ValueError: if the folder or the hub name has no model to load.
    """
    import transformers

    check_folder(model)
    config = _load(transformers.AutoConfig, model, revision)
    with torch.device("meta"):
        built = getattr(transformers, kind_of(config).loader).from_config(config)
    return [name for name, _ in built.named_modules() if name]


def redrawn(model: Any, seed: int, embeddings: bool) -> torch.nn.Module:
    """Return a model of the same architecture, dtype and device, with weights as before its training.

    Args:
        model: a transformers model.
        seed: of the weights.
        embeddings: draw the embeddings too; otherwise they are copied.
    """
    with torch.random.fork_rng(devices=[]):  # transformers draws from the global random state
        torch.manual_seed(seed)
        new = type(model)(copy.deepcopy(model.config))
    if not embeddings:
        trained = dict(model.named_modules())
        for name, module in new.named_modules():
            if isinstance(module, torch.nn.Embedding):
                module.load_state_dict(trained[name].state_dict())
    return new.to(model.device, model.dtype).eval().requires_grad_(False)


def load_tokenizer(tokenizer: str, revision: str | None = None) -> Any:
    """Load a fast tokenizer; that of a GGUF file is in the file.

    Raises:
        ValueError: if the folder, file or hub name has no tokenizer to load.
    """
    import transformers

    if not (loaded := _load(transformers.AutoTokenizer, tokenizer, revision)).is_fast:
        raise ValueError(f"tokenizer={tokenizer}: expected a fast tokenizer (a tokenizer.json)")
    return loaded


def check_folder(model: str) -> None:
    """Refuse a folder that cannot hold a model, and a path that does not exist.

    Raises:
        ValueError: in either case.
    """
    model = shipped.located(model)
    folder = Path(model).expanduser()
    if file := gguf.gguf_file(model):
        gguf.check_packages(file)
        return
    if folder.is_file():
        raise ValueError(f"model={model}: expected the folder of a transformers checkpoint, or a file *{gguf.SUFFIX}")
    if not folder.is_dir():
        if model.lower().endswith(gguf.SUFFIX):
            raise ValueError(f"model={model}: there is no such file")
        if model.startswith((".", "/", "~")) or model.count("/") > 1:
            raise ValueError(f"model={model}: there is no such folder")
        return
    if not (folder / "config.json").is_file():
        raise ValueError(f"model={model}: the folder has no config.json; expected a transformers checkpoint")
    if not gguf.has_weights(folder):
        raise ValueError(
            f"model={model}: the folder has no weights; expected {' or '.join(gguf.WEIGHTS)} beside config.json, "
            "for example model.safetensors as written by model.save_pretrained(folder)"
        )


def _load_config(model: str, revision: str | None) -> Any:
    import transformers

    config = _load(transformers.AutoConfig, model, revision)
    return gguf.with_architecture(config) if gguf.gguf_file(model) else config


def _load(loader: Any, name: str, revision: str | None, config: Any = None) -> Any:
    """Load with one of transformers' auto classes.

    Args:
        loader: the class.
        name: folder, GGUF file or name on the hub.
        revision: on the hub.
        config: where a model is loaded, what was read of it before; reading it again takes long for a GGUF file.
    """
    if file := gguf.gguf_file(name := shipped.located(name)):
        return gguf.load(loader, file, config)
    path = Path(name).expanduser()
    try:
        return loader.from_pretrained(str(path) if path.is_dir() else name, revision=revision or "main")
    except (OSError, ValueError) as error:
        if path.is_dir():
            raise ValueError(f"{name}: transformers cannot load this folder with {loader.__name__}: {error}") from error
        raise ValueError(
            f"{name}: there is no such folder, and it could not be fetched from the hub ({_first_line(error)}). "
            "Without a network give a local folder, with config.json, weights and tokenizer.json"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _stored_dtype(config: Any) -> torch.dtype:
    """Return the dtype of the stored weights; `torch_dtype` is its name in older versions of transformers."""
    stored = getattr(config, "dtype", None) if hasattr(config, "dtype") else getattr(config, "torch_dtype", None)
    if isinstance(stored, str):
        stored = getattr(torch, stored)
    return stored or torch.float32
