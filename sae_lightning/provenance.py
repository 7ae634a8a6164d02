"""What an SAE is of, as plain values.

Each thing says what it is, checkpoints and exported SAEs keep it, and whatever loads one of them compares.

Two values are compared by `differences`. What only one side states is passed over: the other is older, or newer, than
the argument. A file that has moved is the same file, and a model is known by its weights and not by its place.
"""

import hashlib
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sae_lightning.moving_line import LINE

_VALUES_A_TENSOR = 256
_LONGEST_LIST = 32
_NAMES_OF_A_MODEL = ("model", "revision", "pretrained")
"""What does not matter where the weights are known."""
_FACTORIES = ("optimizer", "lr_scheduler")
"""Arguments that make something later, which is described when it has been made."""
_UNKNOWN_REPORTED: set[str] = set()


@dataclass(frozen=True)
class Difference:
    """A setting of which a file and this run say something else.

    Args:
        name: as the user types it, such as ``data.hook``.
        saved: what the file has.
        given: what this run has.
    """

    name: str
    saved: Any
    given: Any

    def __str__(self) -> str:
        return f"{self.name}={_short(self.given)}, it has {_short(self.saved)}"

    @property
    def as_change(self) -> str:
        """From the old value to the new one."""
        return f"{self.name} {_short(self.saved)} -> {_short(self.given)}"


def describe(value: Any) -> Any:
    """Return a value as JSON has it: an object as its class and arguments, or what its own `describe` returns.

    An argument is looked for in the attribute of its name; functions are left out, and of a long list there is a hash.

    >>> describe({"k": 4, "seeds": (0, 1)})
    {'k': 4, 'seeds': [0, 1]}
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if hasattr(value, "describe") and not isinstance(value, type):
        return value.describe()
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, Tensor):
        return (
            describe(value.tolist()) if value.numel() <= _LONGEST_LIST else {"sha256": sampled_fingerprint({"": value})}
        )
    if isinstance(value, Sequence | set):
        items = [describe(item) for item in value]
        if len(items) <= _LONGEST_LIST:
            return items
        return {"n": len(items), "first": items[0], "sha256": hashlib.sha256(repr(items).encode()).hexdigest()[:16]}
    if isinstance(value, Path | torch.dtype):
        return str(value).removeprefix("torch.")
    return {"class": type(value).__name__, **arguments_of(value)}


def arguments_of(thing: Any) -> dict[str, Any]:
    """Return the arguments that an object was made with, as far as attributes of their names keep them."""
    missing = object()
    values = {name: getattr(thing, name, missing) for name in _argument_names(type(thing)) if name not in _FACTORIES}
    return {
        name: describe(value)
        for name, value in values.items()
        if value is not missing and not inspect.isroutine(value) and not isinstance(value, partial | type)
    }


def _argument_names(kind: type) -> dict[str, None]:
    """Return the names of the arguments of a class, with those of its bases where it passes more on to them."""
    names: dict[str, None] = {}
    for cls in kind.__mro__:
        if cls is object or "__init__" not in vars(cls):
            continue
        parameters = list(inspect.signature(vars(cls)["__init__"]).parameters.values())[1:]
        named = [one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
        names |= dict.fromkeys(one.name for one in named)
        if not any(one.kind is one.VAR_KEYWORD for one in parameters):
            break
    return names


def sampled_fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Return sixteen characters that differ between tensors of different content.

    They are a SHA-256 of names, shapes and up to 256 values of each tensor, evenly spaced: a model of many gigabytes
    takes milliseconds, a model that was trained further has another one, and a change of a few single values may not
    be seen. Values are read as float64, so the number format that a model is loaded in does not matter.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        flat = tensors[name].detach().reshape(-1)
        n = min(len(flat), _VALUES_A_TENSOR)
        chosen = torch.arange(n, device=flat.device) * len(flat) // max(n, 1)
        digest.update(f"{name}{list(tensors[name].shape)}".encode())
        digest.update(flat[chosen].double().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def differences(saved: Any, given: Any, name: str = "") -> Iterator[Difference]:
    """Yield what differs between two descriptions, by the names of the arguments.

    >>> [str(one) for one in differences({"k": 4, "seed": 0}, {"k": 8, "seed": 0}, "model")]
    ['model.k=8, it has 4']
    """
    if isinstance(saved, Mapping) and isinstance(given, Mapping):
        if saved.get("class") != given.get("class"):
            yield Difference(name, saved.get("class", saved), given.get("class", given))
            return
        place = f"{name}." if name else ""
        passed_over: tuple[str, ...] = ("weights",)
        if None not in (weights := (saved.get("weights"), given.get("weights"))):
            passed_over += _NAMES_OF_A_MODEL
            if weights[0] != weights[1]:
                names = (f"{one.get('model')} (weights {one['weights']})" for one in (saved, given))
                yield Difference(f"{place}model", *names)
        for key in saved:
            if key in given and key not in passed_over:
                yield from differences(saved[key], given[key], f"{place}{key}")
    elif saved != given and not _are_one_file(saved, given):
        yield Difference(name, saved, given)


def _are_one_file(saved: Any, given: Any) -> bool:
    """Return whether two paths can be one file, or files, that have moved: the names are the same."""
    if isinstance(saved, list) and isinstance(given, list) and len(saved) == len(given):
        return all(one == other or _are_one_file(one, other) for one, other in zip(saved, given, strict=True))
    if not (isinstance(saved, str) and isinstance(given, str)) or Path(saved).name != Path(given).name:
        return False
    return any(path.startswith(("/", ".", "~")) or Path(path).exists() for path in (saved, given))


def refuse(what: str, differing: Iterable[Difference], advice: str) -> None:
    """Raise an error that names what differs, if anything does.

    Args:
        what: that was loaded, such as a path.
        differing: what it says otherwise than this run.
        advice: what to do.

    Raises:
        ValueError: if there is a difference.
    """
    if texts := dict.fromkeys(map(str, differing)):
        raise ValueError(f"{what} does not belong here: {'; '.join(texts)}. {advice}")


def refuse_other_activations(
    what: str, saved: Mapping[str, Any], given: Mapping[str, Any] | None, name: str = "data"
) -> None:
    """Refuse an SAE of other activations than it is to read: of another model, hook, part or synthetic data.

    Args:
        what: the SAE, for the message.
        saved: its provenance; empty for one that was written before there was any, of which a line says so.
        given: description of the activations that it is to read; None where they are unknown.
        name: what the message calls the activations.

    Raises:
        ValueError: if both are known and differ.
    """
    own = saved.get("activations")
    if "control" in saved:  # made of the activations of the run that it lies in
        return
    if own is None or given is None:
        if what not in _UNKNOWN_REPORTED:
            _UNKNOWN_REPORTED.add(what)
            LINE.say(f"{what}: {_what_it_states(saved)}, so that cannot be checked")
        return
    refuse(what, differences(own, given, name), "An SAE means something on its own activations only")


def _what_it_states(saved: Mapping[str, Any]) -> str:
    stated = saved.get("imported", {}).get("stated", {})
    said = [f"the {name} {stated[name]}" for name in ("model", "hook") if name in stated]
    return f"its file states {' and '.join(said)} by name" if said else "it does not say which model and hook it is of"


def _short(value: Any) -> str:
    text = str(value.get("class", value)) if isinstance(value, Mapping) else str(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
