"""Loading an open_clip model, with errors that name the architecture, tag or folder at fault."""

import difflib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from torch import nn

from sae_lightning import shipped
from sae_lightning.moving_line import LINE
from sae_lightning.provenance import sampled_fingerprint

_SCHEMAS = ("hf-hub:", "local-dir:")
_CONFIG = "open_clip_config.json"


@dataclass(frozen=True)
class LoadedClip:
    """An open_clip model and what belongs to it.

    Args:
        model: without gradients, in evaluation mode, float32, on the CPU.
        preprocess: turns an image into pixels [3, height, width] float32.
        fresh: makes a model of the same architecture with weights as before training.
        tokenizer: gives the tokenizer, which it makes once.
    """

    model: nn.Module
    preprocess: Callable[[Any], Any]
    fresh: Callable[[], nn.Module]
    tokenizer: Callable[[], Any]


def load_clip(model: str, pretrained: str | None) -> LoadedClip:
    """Load a model with trained weights.

    Args:
        model: name of an architecture of open_clip, folder with an open_clip_config.json and weights, or hf-hub:<name>.
        pretrained: tag of the weights of an architecture, or their file; None for a folder and for a name on the hub.

    Raises:
        ValueError: if there is no such model, or its weights cannot be loaded.
    """
    import open_clip

    LINE.show(f"loading {model}")
    name = _checked_name(model, pretrained)
    # With the wrong activation function the weights would load too, and give slightly wrong activations.
    quick = bool(pretrained and open_clip.get_pretrained_cfg(name.replace("/", "-"), pretrained).get("quick_gelu"))
    with _quiet():
        try:
            loaded, _, preprocess = open_clip.create_model_and_transforms(
                name, pretrained=pretrained, force_quick_gelu=quick
            )
        except Exception as error:  # open_clip raises what the downloader and torch raise
            what = f"model={model}" + (f" pretrained={pretrained}" if pretrained else "")
            raise ValueError(
                f"{what}: open_clip cannot load it ({(str(error).splitlines() or [type(error).__name__])[0]}). Without "
                f"a network give a local folder with {_CONFIG}, weights and tokenizer files, or pretrained: FILE"
            ) from error
    loaded.fingerprint = sampled_fingerprint(loaded.state_dict())
    return LoadedClip(
        loaded.float().eval().requires_grad_(False),
        preprocess,
        lambda: open_clip.create_model(name, load_weights=False, force_quick_gelu=quick).float().eval(),
        cache(lambda: open_clip.get_tokenizer(name)),
    )


def _checked_name(model: str, pretrained: str | None) -> str:
    """Return the name by which open_clip knows the model.

    Raises:
        ValueError: if there is no such model, or no such weights for it.
    """
    import open_clip

    folder = Path(model := shipped.located(model)).expanduser()
    if folder.is_dir():
        if not (folder / _CONFIG).is_file():
            raise ValueError(f"model={model}: the folder has no {_CONFIG}; expected an open_clip checkpoint")
        if not [*folder.glob("*.safetensors"), *folder.glob("*.bin"), *folder.glob("*.pt")]:
            raise ValueError(f"model={model}: the folder has no weights; expected open_clip_model.safetensors")
        model = f"local-dir:{folder}"
    if model.startswith(_SCHEMAS):
        if pretrained is not None:
            raise ValueError(f"pretrained={pretrained}: expected none, {model} has its own weights")
        return model
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise ValueError(f"model={model}: there is no such folder")
    names = open_clip.list_models()
    if model.replace("/", "-") not in names:
        near = difflib.get_close_matches(model, names, n=4, cutoff=0.3) or names[:4]
        raise ValueError(
            f"model={model}: open_clip has no such model and there is no such folder; near are {', '.join(near)}; "
            "a name on the hub begins with hf-hub:"
        )
    tags = open_clip.list_pretrained_tags_by_model(model.replace("/", "-"))
    if pretrained is None:
        raise ValueError(
            f"model={model}: expected pretrained, the tag or file of its weights; tags are {_listed(tags)}"
        )
    if pretrained.lower() not in tags and not Path(pretrained).expanduser().is_file():
        near = difflib.get_close_matches(pretrained, tags, n=4, cutoff=0.3) or tags
        raise ValueError(
            f"pretrained={pretrained}: {model} has no such weights and there is no such file; near are {_listed(near)}"
        )
    return model


def _listed(tags: list[str]) -> str:
    return ", ".join(tags[:12]) or "none, so give a file"


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what open_clip logs and warns about while it loads; what matters of it is checked here."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.root.setLevel(level)
