"""How every command parses: with jsonargparse, one form of help, and one readable message for a mistake."""

import re
from argparse import Action, ArgumentError
from collections.abc import Sequence
from pathlib import Path

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from sae_lightning.error_messages import readable, subclass_names

_CONFIG = "Expected settings such as those of configs/ or config.yaml of a run"
RUN_HELP = "Run folder, lightning_logs/<name>/version_N."
"""What a positional argument RUN is, in every command that takes one."""


class HelpFormatter(DefaultHelpFormatter):
    """Fill a description paragraph by paragraph, and say of options only what their own text does not say."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = [re.split(r"\n(?=- )", paragraph) for paragraph in text.strip().split("\n\n")]
        fill = super()._fill_text
        return "\n\n".join("\n".join(fill(item, width, indent) for item in items) for items in paragraphs)

    def _get_help_string(self, action: Action) -> str:
        text = super()._get_help_string(action)
        if action.metavar is not None or not action.option_strings:  # RUN or N tells more than the type
            text = re.sub(r"(, )?type: %\(type\)s", "", text)
        if action.default is None:  # where leaving it out means something, the text says what
            text = re.sub(r"(, )?default: %\(default\)s", "", text)
        return text.replace(" (, ", " (").replace(" ()", "")


def make_parser(command: str, description: str | None) -> ArgumentParser:
    """Return a parser without arguments yet.

    Positional arguments are to be named in capitals, since an error names them as they are.

    Args:
        command: the word after ``sae``.
        description: what ``--help`` says of it, the docstring of its module.
    """
    return ArgumentParser(
        prog=f"sae {command}",
        description=description,
        formatter_class=HelpFormatter,
        exit_on_error=False,
        allow_abbrev=True,
    )


def parse(parser: ArgumentParser, args: Sequence[str], bases: Sequence[type] = ()) -> Namespace:
    """Parse the arguments of a command.

    Args:
        parser: of the command.
        args: what follows the word on the command line.
        bases: the classes whose subclasses an argument can name, for a hint after a name that does not exist.

    Raises:
        ValueError: if they cannot be parsed, with the place and the cause.
    """
    try:
        return parser.parse_args(list(args))
    except (ArgumentError, UnicodeDecodeError) as error:
        _refuse_damaged_configs(args)
        known = [name for base in bases for name in subclass_names(base)]
        raise ValueError(readable(str(error), known)) from error


def _refuse_damaged_configs(args: Sequence[str]) -> None:
    """Name the configuration that is no YAML of settings, if that is why the arguments cannot be parsed.

    Raises:
        ValueError: if there is one.
    """
    pairs = zip(args, [*args[1:], ""], strict=False)
    given = [after if one in ("-c", "--config") else one.removeprefix("--config=") for one, after in pairs
             if one in ("-c", "--config") or one.startswith("--config=")]  # fmt: skip
    for path in filter(Path.is_file, map(Path, given)):
        place = f"Problems parsing config {path}"
        try:
            settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{place}: it is damaged or cut off, or no YAML: {error}. {_CONFIG}") from error
        if not isinstance(settings, dict):
            raise ValueError(f"{place}: it holds {type(settings).__name__}, no settings by name. {_CONFIG}")
