"""Datamodules from the `data` section of a configuration, without the run around it."""

import pkgutil
from argparse import ArgumentError
from collections.abc import Mapping
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from sae_lightning.class_paths import current_class_paths
from sae_lightning.datamodules.base import ActivationDataModule
from sae_lightning.datamodules.cached import CachedActivations
from sae_lightning.error_messages import readable, subclasses_of


def make_datamodule(
    data: Mapping[str, Any] | None,
    kinds: tuple[type[ActivationDataModule], ...] = (ActivationDataModule,),
    arguments: Mapping[str, Any] | None = None,
    *,
    is_of_run: bool = True,
) -> ActivationDataModule | None:
    """Make the datamodule of a configuration, without the null versions of its activations.

    Args:
        data: section `data` of the run's configuration.
        kinds: what it may be. Activations that were cached from images are given as the data they were made of.
        arguments: values in place of those of the run, as far as the datamodule has such arguments.
        is_of_run: what the section does not say is what a run did that is older than the option; else the default.

    Returns:
        The datamodule; None where it is of another kind.

    Raises:
        ValueError: if it cannot be made.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ActivationDataModule, "data", required=True)
    try:
        settings = parser.parse_object({"data": current_class_paths(data)})
    except ArgumentError as error:
        raise ValueError(readable(str(error), subclasses_of(ActivationDataModule))) from error
    kind: type[ActivationDataModule] = pkgutil.resolve_name(settings.data.class_path)
    if not issubclass(kind, (CachedActivations, *kinds)):
        return None
    given = settings.data.init_args
    given.update(Namespace({name: value for name, value in (arguments or {}).items() if name in given}))
    if "nulls" in given:
        given.nulls = None
    if is_of_run and "max_norm_ratio" in given and "max_norm_ratio" not in ((data or {}).get("init_args") or {}):
        given.max_norm_ratio = None  # the run is older than the option, and has left out nothing
    datamodule: ActivationDataModule = parser.instantiate_classes(settings).data
    if isinstance(datamodule, CachedActivations) and not datamodule.source.is_language_model:
        datamodule.source.loaded()  # which refuses another model than the one that the cache was made with
        datamodule = datamodule.source.origin
    return datamodule if isinstance(datamodule, kinds) else None
