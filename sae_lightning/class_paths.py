"""Class paths in the files of older runs.

``config.yaml`` of a run and ``manifest.json`` of a cache name a class by its import path. A class that has moved since
is looked for in its new place, so that these files can still be read.
"""

from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

_MOVED = {
    "sae_lightning.causal.PocketFacts": "sae_lightning.pocket.PocketFacts",
    "sae_lightning.datamodules.PocketText": "sae_lightning.pocket.PocketText",
    "sae_lightning.images.PocketCaptions": "sae_lightning.pocket.PocketCaptions",
    "sae_lightning.images.PocketImages": "sae_lightning.pocket.PocketImages",
    "sae_lightning.probing.CityAttribute": "sae_lightning.pocket.CityAttribute",
    "sae_lightning.probing.PythonIndentation": "sae_lightning.pocket.PythonIndentation",
    "sae_lightning.probing.PythonPackage": "sae_lightning.pocket.PythonPackage",
    "sae_lightning.probing.PythonTokens": "sae_lightning.pocket.PythonTokens",
}


def current_class_paths(settings: Any) -> Any:
    """Return the same settings, with the present path of each class that has moved.

    >>> current_class_paths({"text": {"class_path": "sae_lightning.datamodules.PocketText"}})
    {'text': {'class_path': 'sae_lightning.pocket.PocketText'}}
    """
    if isinstance(settings, dict):
        return {
            name: _MOVED.get(str(value), value) if name == "class_path" else current_class_paths(value)
            for name, value in settings.items()
        }
    return [current_class_paths(value) for value in settings] if isinstance(settings, list) else settings


def accept_old_class_paths() -> None:
    """Let the parsers of this process read configurations of older runs."""
    set_loader("yaml", _load, (yaml.YAMLError,))


_load_yaml = get_loader("yaml")


def _load(text: str) -> Any:
    return current_class_paths(_load_yaml(text))
