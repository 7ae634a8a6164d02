"""What commands besides `sae fit` have in common that read the ``data`` of a run's configuration, and only that."""

from argparse import ArgumentError
from argparse import ArgumentParser as PlainParser
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonargparse import ActionConfigFile, ArgumentParser, Namespace

import sae_lightning.pocket  # noqa: F401  (a configuration names its classes: PocketText, PocketImages, ...)
from sae_lightning.class_paths import accept_old_class_paths
from sae_lightning.datamodules import ActivationDataModule
from sae_lightning.mistakes import readable, subclass_names

IGNORED = (
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
"""Sections of a run's configuration that say nothing about its activations."""


def add_data(parser: ArgumentParser, config_help: str = "YAML of a run or of its data; several merge.") -> None:
    """Add ``--config`` and ``--data``, and what else may stand in a configuration."""
    accept_old_class_paths()
    parser.add_argument("-c", "--config", action=ActionConfigFile, help=config_help)
    parser.add_subclass_arguments(ActivationDataModule, "data", required=True, help="Model, hook, text and sizes.")
    for name in IGNORED:
        parser.add_argument(f"--{name}", type=Any, default=None, help="Ignored: it says nothing about activations.")


def parse_data(parser: ArgumentParser, args: list[str]) -> Namespace:
    """Parse the arguments of a command that takes the ``data`` of a run; a mistake in them is a `ValueError`."""
    try:
        return parser.parse_args(args)
    except ArgumentError as error:
        raise ValueError(readable(str(error), subclass_names(ActivationDataModule))) from error


def with_config_of(args: list[str], option: str, config_of: Callable[[Path], Path]) -> list[str]:
    """The arguments, in front the configuration of the folder that an option names, where no other data are given.

    Args:
        args: of the command.
        option: such as ``--run``.
        config_of: from the folder to the configuration; raises a `ValueError` where there is none.
    """
    plain = PlainParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    plain.add_argument(option, type=Path, dest="folder")
    plain.add_argument("-c", "--config")
    known, _ = plain.parse_known_args(args)
    if known.folder is None or known.config is not None or any(arg.split("=")[0] == "--data" for arg in args):
        return args
    return [f"--config={config_of(known.folder)}", *args]
