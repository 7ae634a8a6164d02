"""The data that a run was trained on, for commands that look at its SAEs."""

import pkgutil
from pathlib import Path

from sae_lightning.commands.data_options import add_data, parse_data
from sae_lightning.commands.parser import make_parser
from sae_lightning.datamodules import ActivationDataModule, CachedActivations


def data_of_run(
    run: Path, part: str = "", kinds: tuple[type[ActivationDataModule], ...] = (ActivationDataModule,)
) -> ActivationDataModule | None:
    """Return the data of a run without nulls, of a cache of images the data it was made of; None if of no such kind.

    Raises:
        ValueError: if the part is a null, or the data cannot be made.
    """
    parser = make_parser("explain", None)
    add_data(parser)
    settings = parse_data(parser, [f"--config={run / 'config.yaml'}"])
    if part in (settings.data.init_args.get("nulls") or {}):
        raise ValueError(
            f"MEMBER {part}/...: this SAE was trained on {part}, a null version of the activations, of which there is "
            "nothing to explain; give one of the activations themselves, such as trained/0"
        )
    if not issubclass(pkgutil.resolve_name(settings.data.class_path), (CachedActivations, *kinds)):
        return None
    if "nulls" in settings.data.init_args:
        settings.data.init_args.nulls = None
    datamodule = parser.instantiate_classes(settings).data
    if isinstance(datamodule, CachedActivations) and not datamodule.source.is_language_model:
        datamodule.source.loaded()  # which refuses another model than the one that the cache was made with
        datamodule = datamodule.source.origin
    return datamodule if isinstance(datamodule, kinds) else None
