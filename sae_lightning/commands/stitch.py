"""``sae stitch``: find what a larger SAE has that a smaller one of the same activations lacks.

Takes two SAEs, of this library or another, from files or a hub. Each latent of the large SAE is inserted alone into the
small one: it is novel where the squared error falls. Then the small SAE becomes the large one: novel latents are
inserted, components of similar latents swapped, the rest exchanged (Leask et al. 2025, arXiv 2502.04878). The data are
those of a run's configuration, of which only ``data`` counts; by default of the run that the small SAE is from. Prints
tables and writes stitch.json, latents.safetensors and figures.
"""

from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace

from sae_lightning import cpu_settings
from sae_lightning.commands.data_options import add_data, parse_data, with_config_of
from sae_lightning.commands.parser import make_parser
from sae_lightning.datamodules import ActivationDataModule, CachedActivations
from sae_lightning.datamodules.model_activations import ModelActivations
from sae_lightning.moving_line import wrapped
from sae_lightning.provenance import describe
from sae_lightning.runs.run import CONFIG_FILE, run_of_sae
from sae_lightning.saes import SparseAutoencoder, Stitched
from sae_lightning.saes.saving import knows_its_activations
from sae_lightning.saes.transcoder import refuse_several_hooks
from sae_lightning.stitching.comparison import Settings, compare_saes
from sae_lightning.stitching.figures import draw
from sae_lightning.stitching.insertion import BLOCK, NOVEL
from sae_lightning.stitching.report import tables
from sae_lightning.stitching.results import COMPARISON_FILE, LATENTS_FILE, default_folder, names_of, write
from sae_lightning.whole_files import set_aside

_SAME_DATA = ("model", "path", "hook", "hook_input")
"""Arguments of a datamodule in which two SAEs of the same activations agree."""


def main(args: list[str]) -> None:
    """Compare two SAEs; print and write the comparison, and save the stitched SAE if asked to."""
    cpu_settings.silence_known_noise()
    cpu_settings.speed_up_cpu()
    parser = _parser()
    settings = parse_data(parser, with_config_of(args[1:], "--small", _config_of))
    _check(settings)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    small, large = (SparseAutoencoder.load(folder).to(device) for folder in (settings.small, settings.large))
    refuse_several_hooks([small, large], "sae stitch")
    if small.d_in != large.d_in:
        raise ValueError(f"--small has d_in={small.d_in} and --large d_in={large.d_in}: give SAEs of the same hook")
    if small.d_sae > large.d_sae:
        raise ValueError(
            f"--small {settings.small} has {small.d_sae} latents and --large {settings.large} has {large.d_sae}: "
            "give the smaller one with --small"
        )
    datamodule = _datamodule(parser, settings, device)
    for name, sae in (("small", small), ("large", large)):
        datamodule.refuse_sae_of_others(sae, f"--{name} {settings[name]}")
    _check_activations(datamodule, small.d_in, settings.n_tokens)
    n_loss_tokens = settings.n_loss_tokens
    if not isinstance(datamodule, ModelActivations | CachedActivations):
        n_loss_tokens = 0
    elif n_loss_tokens and (reason := datamodule.source.no_next_token):
        print(wrapped(f"The loss of the model is left out, since it predicts no next token: {reason}.") + "\n")
        n_loss_tokens = 0
    choices = Settings(settings.cosine_threshold, settings.n_steps, settings.n_loss_latents, n_loss_tokens)
    results, latents = compare_saes(small, large, datamodule, choices)
    names = names_of(settings.small, settings.large)
    comparison = names | results | {"settings": _settings_of(settings, datamodule)}
    print("\n\n".join(tables(comparison)), end="\n\n")
    out = settings.out or default_folder(settings.small, settings.large)
    if older := set_aside(out / COMPARISON_FILE, comparison["settings"], [LATENTS_FILE]):
        print("an earlier comparison with other settings is kept as", *older)
    print(*write(comparison, latents, out), *draw(comparison, latents, out), sep="\n")
    if settings.save:
        stitched = Stitched(small, large, range(small.d_sae), (latents["label"] == NOVEL).nonzero()[:, 0].tolist())
        stitched.save(settings.save)
        n_novel = stitched.d_sae - small.d_sae
        print(f"{settings.save}: {comparison['small']} with {n_novel} novel latents of {comparison['large']}")


def _settings_of(settings: Namespace, datamodule: ActivationDataModule) -> dict[str, Any]:
    """Return what decides the results."""
    names = ("small", "large", "n_tokens", "cosine_threshold", "n_steps", "n_loss_tokens", "n_loss_latents")
    return {name: describe(settings[name]) for name in names} | {"data": datamodule.describe()}


def _parser() -> ArgumentParser:
    parser = make_parser("stitch", __doc__)
    parser.add_argument(
        "--small", type=Path, required=True, metavar="SAE", help="The smaller SAE, such as RUN/saes/x2/0."
    )
    parser.add_argument(
        "--large", type=Path, required=True, metavar="SAE", help="The larger SAE, such as RUN/saes/x8/0."
    )
    parser.add_argument("--n_tokens", type=int, default=65_536, metavar="N", help="Most held-out samples to read.")
    parser.add_argument(
        "--cosine_threshold",
        type=float,
        default=0.7,
        metavar="COSINE",
        help="Latents with a larger cosine are swapped together, in (-1, 1]; 1 swaps none.",
    )
    parser.add_argument(
        "--n_steps", type=int, default=10, metavar="N", help="Most steps of the curve in each of its three phases."
    )
    parser.add_argument(
        "--n_loss_tokens",
        type=int,
        default=8192,
        metavar="N",
        help="Tokens on which the language model is run, of rows after those that choose; 0 leaves out its loss.",
    )
    parser.add_argument(
        "--n_loss_latents",
        type=int,
        default=16,
        metavar="N",
        help="Latents whose effect on the model's loss is measured, 0 or more.",
    )
    parser.add_argument(
        "--out", type=Path | None, default=None, metavar="FOLDER", help="Default: RUN/stitch/SMALL_to_LARGE."
    )
    parser.add_argument(
        "--save",
        type=Path | None,
        default=None,
        metavar="FOLDER",
        help="For the small SAE with all novel latents inserted. Default: it is not saved.",
    )
    add_data(parser, "YAML of a run or of its data. Default: of the small SAE's run.")
    return parser


def _config_of(small: Path) -> Path:
    """Return the configuration of the run that the small SAE is from."""
    run = run_of_sae(small)
    if run is None:
        raise ValueError(
            f"--small {small} has no run with a config.yaml around it: say which data with --config, or give an SAE of "
            "a run, RUN/saes/<policy>/<seed>"
        )
    return run.folder / CONFIG_FILE


def _check(settings: Namespace) -> None:
    """Refuse what cannot work before anything is read."""
    for name, least in (("n_tokens", 2), ("n_steps", 1), ("n_loss_tokens", 0), ("n_loss_latents", 0)):
        if settings[name] < least:
            raise ValueError(f"--{name} {settings[name]}: expected {least} or more")
    if not -1 < settings.cosine_threshold <= 1:
        raise ValueError(f"--cosine_threshold {settings.cosine_threshold}: expected a cosine, such as 0.7")
    if settings.out is None and (settings.large.is_file() or settings.large.parts[:1] == ("hf:",)):
        raise ValueError(f"--large {settings.large} is no folder to write the comparison into: say where with --out")
    for name in ("out", "save"):
        if settings[name] and settings[name].exists() and not settings[name].is_dir():
            raise ValueError(f"--{name} {settings[name]} is a file; give a folder, which is made if needed")
    if batch_size := settings.data.init_args.get("batch_size"):
        _check_tokens(settings.n_tokens, -(-settings.n_tokens // batch_size), batch_size)
    for name in ("small", "large"):
        run = run_of_sae(settings[name])
        trained = run.data["init_args"] if run else {}
        for key in _SAME_DATA[
            2 * knows_its_activations(settings[name]) :
        ]:  # a model, and a cache of it, may have moved
            given = settings.data.init_args.get(key)
            of_hooks = trained[key].values() if isinstance(trained.get(key), dict) else ()
            if key in trained and given is not None and trained[key] != given and given not in of_hooks:
                raise ValueError(
                    f"--{name} was trained with data.{key}={trained[key]}, and the configuration has {given}: "
                    "give SAEs of the same activations"
                )


def _datamodule(parser: ArgumentParser, settings: Namespace, device: str) -> ActivationDataModule:
    arguments = settings.data.init_args
    arguments.val_samples = settings.n_tokens
    if "loss_samples" in arguments:
        # The loss is measured on rows after those that have said what latents do.
        arguments.loss_samples = settings.n_tokens + max(1, settings.n_loss_tokens)
    if "nulls" in arguments:
        arguments.nulls = None
    datamodule: ActivationDataModule = parser.instantiate_classes(settings).data
    datamodule.source.to(device)
    if (run := run_of_sae(settings.small)) is not None:
        run.use_norms(datamodule)
    return datamodule


def _check_activations(datamodule: ActivationDataModule, d_in: int, n_tokens: int) -> None:
    """Refuse activations of another width than the SAEs, and too few of them for an interval."""
    if datamodule.d_in != d_in:
        several = f", side by side those of {', '.join(datamodule.widths)}" if datamodule.widths else ""
        raise ValueError(
            f"the SAEs have d_in={d_in} and the activations {datamodule.d_in}{several}: give the configuration "
            "that they were trained with, and of several hooks their own with --data.hook"
        )
    _check_tokens(n_tokens, len(datamodule.val_dataloader()), datamodule.batch_size)


def _check_tokens(n_tokens: int, n_batches: int, batch_size: int) -> None:
    """Refuse fewer batches of held-out samples than intervals need."""
    if n_batches // 2 * -(-batch_size // BLOCK) < 2:  # the first half says what latents do, by blocks of every batch
        raise ValueError(
            f"--n_tokens {n_tokens}: {n_batches} batches of {batch_size} held-out samples are too few for "
            f"intervals over blocks of {BLOCK} in the first half of them; give more tokens or a smaller batch_size"
        )
