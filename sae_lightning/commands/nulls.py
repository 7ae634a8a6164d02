"""``null`` in the arguments of a command: where it takes an option back, and where it can mean nothing."""

import json
import pkgutil
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_origin, get_type_hints

from jsonargparse import Namespace


def with_nested_nulls(args: Sequence[str]) -> list[str]:
    """Return arguments in which ``null`` for an option of an object within an object is said by that object.

    jsonargparse (4.53) hands a value two levels down as text, and so None as the word None.

    >>> with_nested_nulls(["--model.sae.init_args.d_sae", "8", "--model.sae.expansion_factor", "null"])
    ['--model.sae.init_args.d_sae', '8', '--model.sae={"init_args": {"expansion_factor": null}}']
    """
    joined: list[str] = []
    for value in args:
        if value == "null" and joined and re.fullmatch(r"--[\w.]+", joined[-1]):
            joined[-1] += "=null"
        else:
            joined.append(value)
    for i, value in enumerate(joined):
        if (nested := re.fullmatch(r"(--\w+\.(?:init_args\.)?\w+)\.([\w.]+)=null", value)) is None:
            continue
        settings: dict[str, Any] | None = None
        for name in reversed(nested[2].split(".")):
            settings = settings if name == "init_args" else {"init_args": {name: settings}}
        joined[i] = f"{nested[1]}={json.dumps(settings)}"
    return joined


def refuse_nulls(given: Any, place: str = "") -> None:
    """Refuse null for a switch or for what is called: jsonargparse takes it for any type, and it would count as no.

    What is a number or a word is checked by its class.

    Args:
        given: what was parsed: options, an object with its `class_path`, or a list of such.
        place: the name of its option, empty for all options of a command.

    Raises:
        ValueError: says where and what was expected.
    """
    if isinstance(given, list):
        for i, item in enumerate(given):
            refuse_nulls(item, f"{place}[{i}]")
    if not isinstance(given, Mapping | Namespace):
        return
    path = str(given.get("class_path") or "")
    options = (given.get("init_args") or {}) if path else given
    values = vars(options) if isinstance(options, Namespace) else options
    has_null = any(value is None for value in values.values())
    hints = _hints(path) if has_null and path.startswith("sae_lightning.") else {}
    for name, value in values.items():
        option, hint = f"{place}.{name}" if place else name, hints.get(name)
        if value is None and (hint is bool or get_origin(hint) is Callable):
            what = "true or false" if hint is bool else "a class, as class_path"
            raise ValueError(f"{option}=null: expected {what}; leave it out for the default")
        refuse_nulls(value, option)


def _hints(path: str) -> dict[str, Any]:
    """Return the types of the arguments of a class, which may hand some to the class that it extends."""
    try:
        kind = pkgutil.resolve_name(path)
    except (ImportError, AttributeError):  # in a part of an old configuration that this command does not read
        return {}
    hints: dict[str, Any] = {}
    for base in reversed(kind.__mro__ if isinstance(kind, type) else ()):
        if (makes := vars(base).get("__init__")) and base.__module__.startswith("sae_lightning."):
            hints |= get_type_hints(makes)
    return hints
