"""The options of commands that read the ``data`` of a run's configuration, and only that."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ActionConfigFile, ArgumentParser, Namespace

import sae_lightning.pocket  # noqa: F401  (a configuration names its classes: PocketText, PocketImages, ...)
from sae_lightning.class_paths import accept_old_class_paths
from sae_lightning.commands.parser import parse
from sae_lightning.datamodules import ActivationDataModule

NOT_DATA = (
    "name",
    "seed_everything",
    "model",
    "freeze",
    "trainer",
    "optimizer",
    "lr_scheduler",
    "ckpt_path",
    "weights_only",
)
"""The other keys of a run's configuration: accepted, without effect, and not in ``--help``."""


def add_data(
    parser: ArgumentParser, config_help: str = "YAML of a run or of its data; several merge.", required: bool = True
) -> None:
    """Add ``--config`` and ``--data``, and accept what else stands in the configuration of a run."""
    accept_old_class_paths()
    parser.add_argument("-c", "--config", action=ActionConfigFile, help=config_help)
    parser.add_subclass_arguments(ActivationDataModule, "data", required=required, help="Model, hook, text and sizes.")
    for key in NOT_DATA:
        parser.add_argument(f"--{key}", type=Any, default=None, help=argparse.SUPPRESS)


def parse_data(parser: ArgumentParser, args: Sequence[str]) -> Namespace:
    """Parse the arguments of a command with `add_data`.

    Raises:
        ValueError: if they cannot be parsed.
    """
    return parse(parser, args, [ActivationDataModule])


def with_config_of(args: Sequence[str], option: str, config_of: Callable[[Path], Path]) -> list[str]:
    """Put the configuration of the folder that an option names in front, unless the arguments bring data of their own.

    It has to come first, since ``--data.hook`` and the like change what a configuration says before them.

    Args:
        args: of the command.
        option: such as ``--run``.
        config_of: from the folder to its configuration; raises a `ValueError` if there is none.
    """
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    peek.add_argument(option, type=Path, dest="folder")
    peek.add_argument("-c", "--config")
    peek.add_argument("--data")
    given, _ = peek.parse_known_args(args)
    if given.folder is None or given.config is not None or given.data is not None:
        return list(args)
    return [f"--config={config_of(given.folder)}", *args]
