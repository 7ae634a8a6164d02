"""How every command parses: with jsonargparse, one form of help, and one readable message for a mistake."""

import re
from argparse import Action, ArgumentError
from collections.abc import Sequence

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from sae_lightning.commands.config_files import with_config_files
from sae_lightning.commands.nulls import refuse_nulls, with_nested_nulls
from sae_lightning.error_messages import did_you_mean, readable, subclasses_of
from sae_lightning.metric import MARGIN

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


def add_margin(parser: ArgumentParser) -> None:
    """Add the option of the commands that judge."""
    parser.add_argument(
        "--margin",
        type=float,
        default=MARGIN,
        metavar="SHARE",
        help="A difference is called equivalent where its interval lies within this share of what the trained SAE has "
        "above the floor.",
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
    parsed = _parse(parser, with_config_files(args), bases)
    refuse_nulls(parsed[parsed.subcommand] if "subcommand" in parsed else parsed)
    return parsed


def _parse(parser: ArgumentParser, args: Sequence[str], bases: Sequence[type]) -> Namespace:
    if (nested := with_nested_nulls(args)) != args:
        try:
            return parser.parse_args(nested)
        except ArgumentError:
            pass  # the message is to be about what was written
    try:
        return parser.parse_args(args)
    except ArgumentError as error:
        known = [kind for base in bases for kind in subclasses_of(base)]
        raise ValueError(readable(str(error), known) + _hint(parser, str(error))) from error


def _hint(parser: ArgumentParser, message: str) -> str:
    """Propose an option where there is none such, or another order where a word was left over between options."""
    if re.match(r"unrecognized arguments: [^-]", message):
        return ": words without an option stand together, before all options or after them"
    unknown = re.match(r"unrecognized arguments: --([\w.]+)", message)
    if unknown is None:
        return ""
    parsers = [parser, *(action for action in _subparsers(parser))]
    known = {option[2:] for one in parsers for option in one._option_string_actions if option.startswith("--")}
    return did_you_mean(unknown[1], known, "--")


def _subparsers(parser: ArgumentParser) -> list[ArgumentParser]:
    choices = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
    return [one for group in choices for one in group.values() if isinstance(one, ArgumentParser)]
