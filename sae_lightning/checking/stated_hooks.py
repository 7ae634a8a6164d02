"""Hooks that files state, held against a model, a cache and one another."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from sae_lightning.datamodules.cache.manifest import read_manifest
from sae_lightning.datamodules.cache.storage import Folder
from sae_lightning.inspection.hook_names import place_of
from sae_lightning.saes import SparseAutoencoder
from sae_lightning.saes.stated import stated_of
from sae_lightning.sources.checkpoint import submodule_names

Meant = TypeVar("Meant")


def in_model(
    find: Callable[[str, Collection[str]], Meant | None], model: str, stated: Mapping[str, Any], where: str, name: str
) -> Meant:
    """Return what a file means by a hook, in the words of the model.

    Args:
        find: `name_in_model` or `output_in_model`.
        model: folder, or name on the hub.
        stated: what the file says.
        where: it is from.
        name: of what is stated and of the option that says otherwise, hook or target.

    Raises:
        ValueError: if the model has no such hook, or is not found.
    """
    hook = str(stated[name])
    try:
        submodules = submodule_names(model)
    except ValueError as error:
        raise ValueError(f"{error}; say with --model which model {where} is of") from error
    if (meant := find(hook, submodules)) is not None:
        return meant
    place = place_of(hook)
    meaning = f", the {place}" if place else ""
    raise ValueError(
        f"{where} states the {name} {hook}{meaning}, and {model} has no submodule that is known to be that: say which "
        f"one it is with --{name}; `sae hooks {model}` lists them"
    )


def refuse_other_cache(path: str, sae: SparseAutoencoder, where: str) -> None:
    """Refuse a cache of other widths or hooks than an SAE has; a transcoder takes one of both its hooks, and no others.

    A hook that one of them names in no known form is not compared: what the SAE explains of the cache tells.

    Args:
        path: option `--cache`.
        sae: that is checked.
        where: it is from.

    Raises:
        ValueError: says what the cache has.
    """
    manifest = read_manifest(Folder(path))
    known = manifest["data"].get("hook")
    if sae.is_transcoder:
        widths: Mapping[str, int] = manifest["widths"]
        if list(widths.values()) != [sae.d_in, sae.d_out]:
            has = ", ".join(f"{name} of width {width}" for name, width in widths.items())
            raise ValueError(
                f"--cache {path} has activations of {has or 'width ' + str(manifest['d_in'])}, and {where} is a "
                f"transcoder, which reads {sae.d_in} and answers with {sae.d_out}: give a cache of both hooks, in that "
                "order, and no others"
            )
    elif manifest["d_in"] != sae.d_in:
        raise ValueError(
            f"--cache {path} has activations of width {manifest['d_in']} and {where} reads {sae.d_in}: "
            "give a cache of the model and hook that it was trained on"
        )
    stated, hooks = stated_of(sae.provenance), list(known.values()) if isinstance(known, Mapping) else [known]
    for name, hook in zip(("hook", "target"), hooks, strict=False):
        places = [place_of(one) if isinstance(one, str) else None for one in (stated.get(name), hook)]
        if None not in places and places[0] != places[1]:
            raise ValueError(
                f"--cache {path} has activations at {hook}, the {places[1]}, and {where} states the {name} "
                f"{stated[name]}, the {places[0]}: give a cache of that hook"
            )


def refuse_others(saes: Mapping[str, SparseAutoencoder]) -> None:
    """Refuse SAEs of another kind, width, model or hook than the first.

    Args:
        saes: by where they are from.

    Raises:
        ValueError: names what differs.
    """
    (first, sae), *others = saes.items()
    stated = stated_of(sae.provenance)
    for where, other in others:
        own = stated_of(other.provenance)
        pairs: dict[str, tuple[Any, Any]] = {"kind": (_kind(sae), _kind(other)), "d_in": (sae.d_in, other.d_in)}
        pairs |= {"d_out": (sae.d_out, other.d_out), "hook": (_place(stated), _place(own))}
        pairs["target"] = (_place(stated, "target"), _place(own, "target"))
        pairs["model"] = (_model_name(sae, stated), _model_name(other, own))
        for name, (one, another) in pairs.items():
            if one is not None and another is not None and one != another:
                raise ValueError(
                    f"{where} has the {name} {another} and {first} {one}: SAEs that are checked together read the same "
                    "activations; check them one at a time"
                )


def _kind(sae: SparseAutoencoder) -> str:
    return "transcoder" if sae.is_transcoder else "SAE"


def _place(stated: Mapping[str, Any], name: str = "hook") -> str | None:
    hook = stated.get(name)
    return (place_of(hook) or hook) if isinstance(hook, str) else None


def _model_name(sae: SparseAutoencoder, stated: Mapping[str, Any]) -> str | None:
    """Return the fingerprint of the model's weights where it is known, else the end of its name."""
    name = stated.get("model")
    weights = (sae.provenance.get("activations") or {}).get("weights")
    return str(weights) if weights else None if name is None else Path(str(name)).name.lower()
