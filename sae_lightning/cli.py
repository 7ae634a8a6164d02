"""The command ``sae``: the table of its commands, and how an error is reported.

``sae --help`` imports neither Lightning nor transformers; a command is imported when it runs.
"""

import difflib
import os
import signal
import sys
import traceback
from argparse import ArgumentError
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from sae_lightning import __version__
from sae_lightning.error_messages import readable

_LIGHTNINGS_CALLBACKS = "lightning.pytorch.callbacks"
USAGE_ERROR = 2
"""Exit code after an error that the user can repair."""


@dataclass(frozen=True)
class Command:
    """A word after ``sae``.

    Args:
        help: one line for ``sae --help``.
        target: ``module:function`` that runs it, called with the arguments, the word first.
    """

    help: str
    target: str


COMMANDS = {
    "fit": Command("train an SAE, or a panel of an SAE and its baselines", "sae_lightning.commands.fit:SAECLI"),
    "demo": Command(
        "train an SAE and its baselines on a small model that comes along", "sae_lightning.commands.demo:main"
    ),
    "validate": Command("run the validation of a checkpoint again", "sae_lightning.commands.fit:SAECLI"),
    "test": Command("run the costlier test evaluators on a checkpoint", "sae_lightning.commands.fit:SAECLI"),
    "sweep": Command("find the learning rate at which each baseline trains best", "sae_lightning.commands.sweep:main"),
    "cache": Command(
        "write the activations of a language model to disk, to train from", "sae_lightning.commands.cache:main"
    ),
    "list": Command(
        "list what there is: configurations, variants, evaluators, metrics", "sae_lightning.commands.list:main"
    ),
    "hooks": Command("list the places in a model that an SAE can read", "sae_lightning.commands.hooks:main"),
    "inspect": Command("say what an SAE is, and whether it was read right", "sae_lightning.commands.inspect:main"),
    "check": Command("does a published SAE beat random controls?", "sae_lightning.commands.check:main"),
    "push": Command("upload an SAE to the Hugging Face hub, with a card", "sae_lightning.commands.push:main"),
    "density": Command("measure how dense a model's representation is", "sae_lightning.commands.density:main"),
    "stitch": Command("find what a larger SAE has that a smaller one lacks", "sae_lightning.commands.stitch:main"),
    "explain": Command("print what is known of one latent of a finished run", "sae_lightning.commands.explain:main"),
    "export": Command("write an SAE in the format of another library", "sae_lightning.commands.export:main"),
    "compare": Command(
        "print the table of SAEs against baselines of finished runs", "sae_lightning.commands.compare:main"
    ),
    "report": Command("make one HTML page of finished runs, to open from disk", "sae_lightning.commands.report:main"),
    "scoreboard": Command(
        "put SAEs that sae check has checked into one table", "sae_lightning.commands.scoreboard:main"
    ),
    "figures": Command(
        "draw what finished runs found, as PNG and into TensorBoard", "sae_lightning.commands.figures:main"
    ),
}


def main(args: list[str] | None = None) -> None:
    """Run one command.

    Args:
        args: what follows ``sae`` on the command line; None reads it from there.

    Raises:
        SystemExit: with code 2 after a mistake in the arguments or the configuration, which is printed to stderr.
    """
    args = sys.argv[1:] if args is None else args
    word = args[0] if args else "--help"
    if word in ("-h", "--help", "--version"):
        with errors_in_one_message(word):
            print(f"sae_lightning {__version__}" if word == "--version" else help_text(), flush=True)
        return
    if word not in COMMANDS:
        nearest = difflib.get_close_matches(word, COMMANDS, n=1, cutoff=0.5)
        hint = f"did you mean 'sae {nearest[0]}'?" if nearest else f"choose from {', '.join(COMMANDS)}."
        _stop(f"unknown command {word!r}: {hint}")
    with errors_in_one_message(word):
        _imported(COMMANDS[word].target)(args)


def _imported(target: str) -> Any:
    """Import what runs a command, which takes seconds: a line says so, on the first of several processes."""
    from sae_lightning.moving_line import LINE

    module, function = target.split(":")
    with LINE.on() if os.environ.get("LOCAL_RANK", "0") == "0" else nullcontext():
        LINE.show("starting")
        return getattr(import_module(module), function)


def help_text() -> str:
    """Return the text of ``sae --help``, with a line for every command."""
    width = max(map(len, COMMANDS))
    lines = [f"  {word:<{width}}  {command.help}" for word, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: sae COMMAND [options]",
            "",
            "Train sparse autoencoders (SAEs) and find out whether they beat random baselines.",
            "",
            "commands:",
            *lines,
            "",
            "help on one command, on one class, and everything a command would run with:",
            "  sae fit --help",
            "  sae fit --model.help TopK        (or --data.help, --freeze.help)",
            "  sae fit --model TopK --data SyntheticDataModule --print_config",
            "",
            "SAE_DEBUG=1 shows the traceback of an error.",
        ]
    )


@contextmanager
def errors_in_one_message(word: str) -> Iterator[None]:
    """Turn an error that the user can repair into one message on stderr and exit code 2.

    These are a ``ValueError``, a rejected argument, what the system says of a file or a disk, and what Lightning says
    of the arguments of a Trainer or of its callbacks. Everything else is a fault of the program and keeps its
    traceback; so does every error when the environment variable ``SAE_DEBUG`` is set.
    """
    try:
        yield
    except BrokenPipeError:  # `sae compare RUN | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except Exception as error:
        if os.environ.get("SAE_DEBUG") or not _is_repairable(error):
            raise
        _stop(_message(error), f"sae {word} --help lists the options; SAE_DEBUG=1 shows a traceback")
    except KeyboardInterrupt:
        sys.exit(130)


def _is_repairable(error: Exception) -> bool:
    """Return whether the user can repair what led to an error."""
    if isinstance(error, (ValueError, ArgumentError, OSError)) or type(error).__name__ == "MisconfigurationException":
        return True
    frames = list(traceback.walk_tb(error.__traceback__))  # a metric that a callback follows is missed at a validation
    return isinstance(error, RuntimeError) and frames[-1][0].f_globals["__name__"].startswith(_LIGHTNINGS_CALLBACKS)


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return readable(str(error)).strip() or type(error).__name__


def _stop(message: str, hint: str | None = None) -> None:
    lines = f"error: {message}\n" + (f"({hint})\n" if hint else "")
    if sys.stderr.isatty():  # what is written to a file is searched line by line
        from sae_lightning.moving_line import wrapped

        lines = wrapped(lines) + "\n"
    sys.stderr.write(lines)
    sys.exit(USAGE_ERROR)
