"""``sae density``: measure how dense a model's representation is, and what six claims about it come to.

The model, text and hook are those of a run's configuration, of which only ``data`` counts. Without ``--run`` the model
is measured alone; with it also the SAEs that a run has exported, and then its ``config.yaml`` will do for ``--config``.
Activations of held-out text are brought to norm sqrt(d), without the norm's gain. Prints tables and a verdict on each
claim, and writes density.json and figures (PNG, and into TensorBoard).
"""

import json
import pkgutil
from pathlib import Path

import torch
from jsonargparse import ArgumentParser, Namespace

from sae_lightning import cpu_settings
from sae_lightning.commands.data_options import add_data, parse_data, with_config_of
from sae_lightning.commands.parser import make_parser
from sae_lightning.datamodules import LanguageModelDataModule
from sae_lightning.density.claims import as_json, verdicts
from sae_lightning.density.figures import draw
from sae_lightning.density.measure import measure
from sae_lightning.density.report import tables
from sae_lightning.members import Member
from sae_lightning.moving_line import wrapped
from sae_lightning.provenance import describe
from sae_lightning.runs import Run
from sae_lightning.runs.run import CONFIG_FILE, SAES_FOLDER
from sae_lightning.saes import SparseAutoencoder
from sae_lightning.saes.saving import knows_its_activations
from sae_lightning.saes.transcoder import refuse_crosscoders
from sae_lightning.whole_files import set_aside, write_whole

_LEAST_TOKENS = 256
_SAME_DATA = ("model", "hook", "hook_input")
"""Arguments of the datamodule in which a run and the configuration have to agree."""


def main(args: list[str]) -> None:
    """Measure a model and the SAEs of a run; print and write the results."""
    cpu_settings.silence_known_noise()
    cpu_settings.speed_up_cpu()
    parser = _parser()
    settings = parse_data(parser, with_config_of(args[1:], "--run", _config_of))
    _check(settings)
    run = Run(settings.run) if settings.run else None
    saes = _read_saes(run) if run else {}
    metrics = run.last.plain_values() if run else None
    datamodule = _datamodule(parser, settings)
    for member, sae in saes.items():
        datamodule.refuse_sae_of_others(sae, f"{settings.run}/{SAES_FOLDER}/{member}")
    results = measure(datamodule, settings.hooks, saes) | {"metrics": metrics}
    decided = verdicts(results)
    print("\n\n".join(tables(results)), end="\n\n")
    print(*(wrapped(str(one), 3) for one in decided), sep="\n", end="\n\n")
    out = settings.out or (settings.run or Path("lightning_logs")) / "density"
    study = {"run": describe(settings.run), "hooks": settings.hooks, "n_tokens": settings.n_tokens}
    study |= {"data": datamodule.describe()}
    if older := set_aside(out / "density.json", study):
        print("earlier results with other settings are kept as", *older)
    write_whole(out / "density.json", json.dumps(results | {"settings": study, "verdicts": as_json(decided)}, indent=1))
    print(out / "density.json", *draw(results, out), sep="\n")


def _parser() -> ArgumentParser:
    parser = make_parser("density", __doc__)
    parser.add_argument(
        "--run", type=Path | None, default=None, metavar="RUN", help="Run folder with exported SAEs in saes/."
    )
    parser.add_argument(
        "--hooks",
        type=list[str] | None,
        default=None,
        help="Submodules whose outputs are measured, as [model.layers.0, model.layers.2]. Default: every block.",
    )
    parser.add_argument(
        "--n_tokens",
        type=int,
        default=8192,
        metavar="N",
        help=f"Most held-out tokens to read, {_LEAST_TOKENS} or more.",
    )
    parser.add_argument(
        "--out",
        type=Path | None,
        default=None,
        metavar="FOLDER",
        help="Default: RUN/density, or lightning_logs/density.",
    )
    add_data(parser, "YAML of a run or of its data; several merge. Default: that of --run.")
    return parser


def _config_of(run: Path) -> Path:
    if not Run(run).config:
        raise ValueError(f"--run {run} has no config.yaml: say which data with --config")
    return run / CONFIG_FILE


def _read_saes(run: Run) -> dict[Member, SparseAutoencoder]:
    """Read the exported SAEs of a run in evaluation mode; of a run with nulls the real ones.

    Raises:
        ValueError: if there are none, or they are crosscoders.
    """
    # Random directions are drawn for one policy after another, so their order decides the numbers: it is that of names.
    members = sorted((member for member in run.saes if not member.part), key=str)
    if not members:
        several = "; those of several hooks, as transcoders are, are not read" if run.saes else ""
        raise ValueError(
            f"--run {run.folder}: no SAEs in {run.folder / SAES_FOLDER}, which a finished fit leaves{several}"
        )
    saes = {member: run.load(member).eval() for member in members}
    refuse_crosscoders(saes.values(), "sae density --run")
    return saes


def _check(settings: Namespace) -> None:
    """Refuse what cannot work before SAEs and model are read."""
    if settings.n_tokens < _LEAST_TOKENS:
        raise ValueError(
            f"n_tokens={settings.n_tokens}: expected at least {_LEAST_TOKENS}, as means are taken over them"
        )
    if settings.hooks == []:
        raise ValueError("--hooks []: expected one submodule or more; leave it out to measure every block")
    kind = pkgutil.resolve_name(settings.data.class_path)
    if not issubclass(kind, LanguageModelDataModule):
        raise ValueError(f"data={kind.__name__}: sae density needs a LanguageModelDataModule, whose layers it measures")
    if settings.out and settings.out.exists() and not settings.out.is_dir():
        raise ValueError(f"--out {settings.out} is a file; give a folder, which is made if needed")
    if settings.run:
        _check_same_data(Run(settings.run), settings.data.init_args)


def _check_same_data(run: Run, given: Namespace) -> None:
    """Refuse a run that was trained on other activations."""
    trained = run.data["init_args"]
    known_by_weights = any(map(knows_its_activations, run.saes.values()))
    for name in _SAME_DATA[known_by_weights:]:  # a model may have moved
        if name in trained and trained[name] != given[name]:
            raise ValueError(
                f"--run {run.folder} was trained with data.{name}={trained[name]}, and the configuration has "
                f"{given[name]}: leave out --config, and the run's own is taken"
            )


def _datamodule(parser: ArgumentParser, settings: Namespace) -> LanguageModelDataModule:
    settings.data.init_args.loss_samples = settings.n_tokens  # of these are its validation_inputs
    datamodule: LanguageModelDataModule = parser.instantiate_classes(settings).data
    datamodule.source.to("cuda" if torch.cuda.is_available() else "cpu")
    return datamodule
