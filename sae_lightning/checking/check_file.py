"""``check.json``: what ``sae check`` has measured of one SAE or several, in one place and at one setting.

The file says what was measured on (model, hook, text, by their hashes), with what (evaluators, draws of the controls,
hardware, budget), and for each SAE the values of the metrics, each beside every control at the same l0 with an interval
and a word. A number that is not finite is null.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae_lightning.whole_files import write_whole

CHECK_FILE = "check.json"
FORMAT, FORMAT_VERSION = "sae_lightning check", 1


@dataclass(frozen=True)
class _Each:
    """A JSON object whose values all have one shape, under names of any kind."""

    shape: Any


@dataclass(frozen=True)
class _Interval:
    """Both ends of an interval, or null."""


_NUMBER, _WHOLE, _TEXT = (int, float), (int,), (str,)
_MAYBE_NUMBER, _MAYBE_TEXT = (int, float, type(None)), (str, type(None))
_CONTROL = {
    "label": _TEXT,
    "controls_for": _TEXT,
    "value": _MAYBE_NUMBER,
    "difference": _MAYBE_NUMBER,
    "interval": _Interval(),
    "verdict": _TEXT,
}
_METRIC = {
    "label": _TEXT,
    "question_name": _TEXT,
    "better": _MAYBE_TEXT,
    "value": _MAYBE_NUMBER,
    "floor": _MAYBE_NUMBER,
    "is_headline": (bool,),
    "controls": _Each(_CONTROL),
}
_SAE = {
    "name": _TEXT,
    "where": _TEXT,
    "fingerprint": _TEXT,
    "variant": _TEXT,
    "d_in": _WHOLE,
    "d_sae": _WHOLE,
    "l0": _MAYBE_NUMBER,
    "metrics": _Each(_METRIC),
    "questions": [{"name": _TEXT, "text": _TEXT, "word": _TEXT}],
}
_CHECK = {
    "seconds": _NUMBER,
    "hardware": {"processor": _TEXT, "cores": _WHOLE, "accelerator": _MAYBE_TEXT},
    "budget": {"kind": _TEXT},
    "data": {
        "model": _MAYBE_TEXT,
        "hook": _MAYBE_TEXT,
        "text": {"sha256": _MAYBE_TEXT},
        "context_length": (int, type(None)),
        "bos_in_every_row": (bool, type(None)),
        "skip_first_positions": (int, type(None)),
        "max_norm_ratio": _MAYBE_NUMBER,
        "n_tokens": _WHOLE,
    },
    "evaluators": [{"class": _TEXT}],
    "draws": _WHOLE,
    "control_samples": _WHOLE,
    "saes": [_SAE],
}
"""What every reader of the file may rely on; there is more in it, see docs/check.md."""


def write_check(path: Path, content: Mapping[str, Any]) -> None:
    """Write a check as a whole; an older file of that name stays as it was if anything goes wrong.

    Args:
        path: of the file, whose folder is made.
        content: all of it but ``format`` and ``format_version``, which are put first.

    Raises:
        ValueError: if the file cannot be written, or lacks what its readers need.
    """
    kind = {"format": FORMAT, "format_version": FORMAT_VERSION}
    check = kind | _finite(content) | kind
    if problem := _problem(check, _CHECK, ""):
        raise ValueError(f"{path} was not written: {problem}")
    write_whole(path, json.dumps(check, indent=1, allow_nan=False) + "\n")


def read_check(path: Path) -> dict[str, Any]:
    """Read what `write_check` wrote.

    Raises:
        ValueError: if there is no such file, or it is damaged, of a newer version, or no check, in one sentence.
    """
    check = _json(path)
    if not isinstance(check, dict) or check.get("format") != FORMAT:
        kind = (
            f"format {_shown(check['format'])}" if isinstance(check, dict) and "format" in check else "no such format"
        )
        raise ValueError(f'{path} is no {CHECK_FILE}: it has {kind}, expected "format": "{FORMAT}" as sae check writes')
    version = check.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ValueError(f"{path} is damaged: format_version is {version!r}, expected a whole number from 1")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version}, and this version of sae_lightning reads up to {FORMAT_VERSION}: "
            "read it with a newer one"
        )
    if problem := _problem(check, _CHECK, ""):
        raise ValueError(f"{path} is damaged: {problem}")
    return check


def _json(path: Path) -> Any:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged: line {error.lineno} is not JSON ({error.msg})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no {CHECK_FILE}: it is no text in UTF-8") from error
    except RecursionError as error:
        raise ValueError(f"{path} is no {CHECK_FILE}: it is nested too deeply") from error
    except _NotFiniteError as error:
        raise ValueError(f"{path} is damaged: it has {error}, where a number that is not finite is null") from error


class _NotFiniteError(Exception):
    """A NaN or an infinity, which is no JSON."""


def _refuse_constant(text: str) -> None:
    raise _NotFiniteError(text)


def _problem(value: Any, shape: Any, place: str) -> str:
    """Return what of a value does not have a shape, with its place; empty if all has.

    Args:
        value: of JSON.
        shape: types, one of which it has to be; a dictionary with the shapes of keys that it has to have; a list with
            the shape of each item; `_Each` or `_Interval`.
        place: of the value, for the message.
    """
    at = place or "the file"
    if isinstance(shape, tuple):
        is_right = isinstance(value, shape) and (not isinstance(value, bool) or bool in shape)
        return "" if is_right else f"{at} is {_shown(value)}, expected {_names(shape)}"
    if isinstance(shape, _Interval):
        return "" if _is_interval(value) else f"{at} is {_shown(value)}, expected two numbers or null"
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{at} is {_shown(value)}, expected a list"
        return _first(_problem(item, shape[0], f"{place}[{number}]") for number, item in enumerate(value))
    if not isinstance(value, dict):
        return f"{at} is {_shown(value)}, expected an object"
    shapes = dict.fromkeys(value, shape.shape) if isinstance(shape, _Each) else shape
    if missing := [name for name in shapes if name not in value]:
        return f"{at} lacks {', '.join(missing)}"
    return _first(_problem(value[name], own, f"{place}.{name}".lstrip(".")) for name, own in shapes.items())


def _is_interval(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, list) and len(value) == 2 and not any(_problem(end, _NUMBER, "") for end in value)


def _first(problems: Iterable[str]) -> str:
    return next(filter(None, problems), "")


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _names(types: tuple[type, ...]) -> str:
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", list: "a list"}
    kinds = [names.get(one, "null") for one in types if not (one is int and float in types)]
    return " or ".join(kinds)


def _finite(value: Any) -> Any:
    """Return the same with null for every number that is not finite."""
    if isinstance(value, Mapping):
        return {name: _finite(own) for name, own in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(own) for own in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
