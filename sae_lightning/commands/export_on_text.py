"""What `sae export` writes of latents on text: features for Neuronpedia, a latent cache for delphi."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace

from sae_lightning.evaluators.auto_interp import FILE_NAME
from sae_lightning.explain.logit_effects import TEXT_DATA
from sae_lightning.exports import delphi, neuronpedia
from sae_lightning.interpretation.strongest import kept_lines
from sae_lightning.members import TRAINED, Member
from sae_lightning.runs.run import CONFIG_FILE, SAES_FOLDER, Run, run_of_sae
from sae_lightning.saes import SparseAutoencoder

ON_TEXT = (neuronpedia.NAME, delphi.NAME)
"""Formats of what latents do on text."""
DEFAULTS = {"n_tokens": 100_000, "n_splits": 5}
"""Of the options that only these formats have."""


def config_of(sae: str) -> Path:
    """Return the configuration of the run that an SAE is from."""
    run = run_of_sae(Path(sae))
    if run is None:
        raise ValueError(f"{sae} has no run with a config.yaml around it: say which text with --config or --data")
    return run.folder / CONFIG_FILE


def write_on_text(parser: ArgumentParser, settings: Namespace, sae: SparseAutoencoder) -> tuple[list[Path], list[str]]:
    """Write what the latents of an SAE do on held-out text; return the files, and what there is to say.

    Args:
        parser: of the command.
        settings: of the command, with data.
        sae: in evaluation mode.

    Raises:
        ValueError: if the data have no text, or activations that the SAE does not read.
    """
    run = run_of_sae(Path(settings.SAE))
    member = _member(Path(settings.SAE), run)
    datamodule = _datamodule(parser, settings, sae, member)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    datamodule.source.to(device)
    if run is not None:
        run.use_norms(datamodule)
    write = _cache if settings.format == delphi.NAME else _features
    return write(datamodule, sae.to(device), member, run, settings)


def _datamodule(parser: ArgumentParser, settings: Namespace, sae: SparseAutoencoder, member: Member) -> Any:  # noqa: ANN401
    """Return the datamodule that was chosen.

    Raises:
        ValueError: if it has no text, or activations that the SAE does not read.
    """
    if "nulls" in settings.data.init_args:
        settings.data.init_args.nulls = None
    datamodule: Any = parser.instantiate_classes(settings).data
    if not isinstance(datamodule, TEXT_DATA) or not datamodule.source.is_language_model:
        raise ValueError(
            f"--format {settings.format} is of text, and these data are {type(datamodule).__name__}: give those of a "
            "language model"
        )
    if member.part and member.part not in datamodule.widths:
        hooks = ", ".join(datamodule.widths) or "one without a name"
        raise ValueError(
            f"the SAE is of {member.part}, and the hooks of these data are {hooks}: give the data that it was trained "
            "on; of null versions of activations nothing can be written"
        )
    width = datamodule.widths[member.part] if member.part else datamodule.d_in
    if width != sae.d_in:
        several = f", side by side those of {', '.join(datamodule.widths)}" if datamodule.widths else ""
        raise ValueError(
            f"the SAE has d_in={sae.d_in} and the activations {width}{several}: give the data that it was trained on, "
            "and of several hooks its own with --data.hook"
        )
    datamodule.refuse_sae_of_others(sae, settings.SAE, member.part)
    return datamodule


def _cache(
    datamodule: Any, sae: SparseAutoencoder, member: Member, run: Run | None, settings: Namespace
) -> tuple[list[Path], list[str]]:
    n_tokens, n_splits = (settings[name] or default for name, default in DEFAULTS.items())
    return delphi.write_cache(datamodule, sae, member.part, settings.out, n_tokens, n_splits)


def _features(
    datamodule: Any, sae: SparseAutoencoder, member: Member, run: Run | None, settings: Namespace
) -> tuple[list[Path], list[str]]:
    place = neuronpedia.place_of(datamodule, member.part, settings.model_id, settings.source)
    files, said = neuronpedia.write_batches(
        datamodule,
        sae,
        member,
        settings.out,
        place=place,
        latents=settings.latents,
        n_tokens=settings.n_tokens or DEFAULTS["n_tokens"],
        explanations=_explanations(run, member),
    )
    there = f"for the model {place.model_id} and the source {place.source}, which have to exist on Neuronpedia"
    return files, [*said, there]


def _member(folder: Path, run: Run | None) -> Member:
    """Return which SAE of its run this is; elsewhere one that reads all there is."""
    if run is None:
        return Member(TRAINED, 0)
    return Member.parse(folder.absolute().relative_to((run.folder / SAES_FOLDER).absolute()).as_posix())


def _explanations(run: Run | None, member: Member) -> Mapping[int, str]:
    """Return what AutoInterp has left in the run."""
    if run is None:
        return {}
    return {
        line["latent"]: line["explanation"]
        for line in kept_lines(run.file(FILE_NAME))
        if line["member"] == str(member) and line["explanation"]
    }
