"""The option ``--assume``: what a file does not say of its SAE and the user does."""

from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace

from sae_lightning.formats import ASSUMABLE


def add_assume(parser: ArgumentParser) -> None:
    """Add ``--assume NAME=VALUE``."""
    parser.add_argument(
        "--assume",
        type=str | list[str],
        default=[],
        metavar="NAME=VALUE",
        help=f"What the file of another library does not say, of {', '.join(ASSUMABLE)}: such as k=32.",
    )


def assumed_from(settings: Namespace) -> dict[str, Any]:
    """Return what was assumed, by name.

    Raises:
        ValueError: if there is no ``=`` in it.
    """
    assumed: dict[str, Any] = {}
    given = [settings.assume] if isinstance(settings.assume, str) else settings.assume
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise ValueError(f"--assume {text}: expected NAME=VALUE, such as k=32 or apply_b_dec_to_input=true")
        assumed[name.strip()] = yaml.safe_load(value)
    return assumed
