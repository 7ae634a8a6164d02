"""The option ``--assume NAME=VALUE``: what the user says of an SAE where its file does not."""

import json
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from sae_lightning.error_messages import did_you_mean

NAMES = ("variant", "k", "threshold", "apply_b_dec_to_input", "input_norm")
"""Those of `formats.ASSUMABLE`; a parser does not wait for its import."""


def add_assume(parser: ArgumentParser) -> None:
    """Add ``--assume``, which may be given several times."""
    parser.add_argument(
        "--assume",
        action="append",
        type=str,
        metavar="NAME=VALUE",
        help=f"What the file does not say of the SAE: one of {', '.join(NAMES)}; again for each, such as "
        "--assume variant=TopK --assume k=32.",
    )


def assumed_from(settings: Namespace) -> dict[str, Any]:
    """Return what was assumed by name; true, false and numbers are read as such, everything else as text.

    Raises:
        ValueError: if one is not NAME=VALUE with a name that is known, or a name is given twice.
    """
    assumed: dict[str, Any] = {}
    for text in settings.assume or ():
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals and value):
            raise ValueError(f"--assume {text}: expected NAME=VALUE, such as k=32")
        if name not in NAMES:
            hint = did_you_mean(name, NAMES)
            raise ValueError(f"--assume {text}: {name} cannot be assumed, expected one of {', '.join(NAMES)}{hint}")
        if name in assumed:
            raise ValueError(f"--assume {text}: {name} is assumed twice, as {assumed[name]} and as {value}")
        assumed[name] = _parsed(value)
    return assumed


def _parsed(value: str) -> Any:  # noqa: ANN401
    """Return a number or a truth value where the text is one, however it is capitalised; else the text."""
    try:
        parsed = json.loads(value.lower())
    except ValueError:
        return value
    return parsed if isinstance(parsed, bool | int | float) else value
