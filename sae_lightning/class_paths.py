"""Class paths in the files of older runs.

``config.yaml`` of a run and ``manifest.json`` of a cache name a class by its import path. A class that has moved since,
or has another name, is looked for where it is now, so that these files can still be read.
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
_RENAMED = {"sae_lightning.evaluators.LatentPictures": "sae_lightning.evaluators.LatentImages"}
_RENAMED_ARGUMENTS = {
    f"sae_lightning.evaluators.{name}": {"n_pictures": "n_images"}
    for name in ("ConceptPurity", "LatentImages", "MetaSteering")
}


def current_class_paths(settings: Any) -> Any:
    """Return the same settings, with the present path of each class, and the present names of its arguments.

    >>> current_class_paths({"text": {"class_path": "sae_lightning.datamodules.PocketText"}})
    {'text': {'class_path': 'sae_lightning.pocket.PocketText'}}
    """
    if isinstance(settings, list):
        return [current_class_paths(value) for value in settings]
    if not isinstance(settings, dict):
        return settings
    current = {name: current_class_paths(value) for name, value in settings.items()}
    if isinstance(path := current.get("class_path"), str):
        current["class_path"] = path = (_MOVED | _RENAMED).get(path, path)
        if path in _RENAMED_ARGUMENTS and isinstance(arguments := current.get("init_args"), dict):
            names = _RENAMED_ARGUMENTS[path]
            current["init_args"] = {names.get(name, name): value for name, value in arguments.items()}
    return current


def accept_old_class_paths() -> None:
    """Let the parsers of this process read configurations of older runs."""
    set_loader("yaml", _load, (yaml.YAMLError,))


_load_yaml = get_loader("yaml")


def _load(text: str) -> Any:
    return current_class_paths(_load_yaml(text))
