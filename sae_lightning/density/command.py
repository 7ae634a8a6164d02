"""``sae density``: measure how dense a model's representation is, and what six claims about it come to.

The model, text and hook are those of a run's configuration, of which only ``data`` counts. Without ``--run`` the model
is measured alone; with it also the SAEs that a run has exported, and then its ``config.yaml`` will do for ``--config``.
Activations of held-out text are brought to norm sqrt(d), without the norm's gain. Prints tables and a verdict on each
claim, and writes density.json and figures (PNG, and into TensorBoard).
"""

import json
import pkgutil
from argparse import ArgumentParser as PlainParser
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace

from sae_lightning import startup
from sae_lightning.cache import IGNORED, parse_data
from sae_lightning.compare import read_lines
from sae_lightning.datamodules import ActivationDataModule, LanguageModelDataModule
from sae_lightning.density.claims import as_json, verdicts
from sae_lightning.density.figures import draw
from sae_lightning.density.measure import measure
from sae_lightning.density.report import tables
from sae_lightning.saes import SparseAutoencoder

_LEAST_TOKENS = 256


def main(args: list[str]) -> None:
    """Measure, print and write."""
    startup.silence_known_noise()
    startup.speed_up_cpu()
    parser = _parser()
    settings = parse_data(parser, _with_config_of_run(args[1:]))
    _check(settings)
    saes = _read_saes(settings.run, settings.data) if settings.run else {}
    metrics = read_lines(settings.run)[-1]["metrics"] if settings.run else None
    datamodule = _datamodule(parser, settings)
    found = measure(datamodule, settings.hooks, saes) | {"metrics": metrics}
    out = settings.out or (settings.run or Path("lightning_logs")) / "density"
    decided = verdicts(found)
    print("\n\n".join(tables(found)), end="\n\n")
    print(*decided, sep="\n", end="\n\n")
    out.mkdir(parents=True, exist_ok=True)
    written = out / "density.json"
    written.write_text(json.dumps(found | {"verdicts": as_json(decided)}, indent=1))
    print(written, *draw(found, out), sep="\n")


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="sae density", description=__doc__, exit_on_error=False)
    parser.add_argument("-c", "--config", action=ActionConfigFile, help="YAML of a run or of its data; several merge.")
    parser.add_argument("--run", type=Path | None, default=None, help="Run folder with exported SAEs in saes/.")
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
        help="Held-out tokens that are read, or as many as there are; 256 or more.",
    )
    parser.add_argument(
        "--out", type=Path | None, default=None, help="Folder. Default: RUN/density, or lightning_logs/density."
    )
    parser.add_subclass_arguments(ActivationDataModule, "data", required=True, help="Model, hook, text and sizes.")
    for name in IGNORED:
        parser.add_argument(f"--{name}", type=Any, default=None, help="Ignored: it says nothing about activations.")
    return parser


def _with_config_of_run(args: list[str]) -> list[str]:
    """The arguments, with the configuration of the run in front where there is no other."""
    plain = PlainParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    plain.add_argument("--run", type=Path)
    plain.add_argument("-c", "--config")
    known, _ = plain.parse_known_args(args)
    if known.run is not None and not known.run.is_dir():
        raise ValueError(f"--run {known.run}: no such folder; give a run folder, lightning_logs/<name>/version_N")
    return args if known.run is None or known.config is not None else [f"--config={known.run / 'config.yaml'}", *args]


def _check(settings: Namespace) -> None:
    """Refuse what cannot work before the model is read."""
    if settings.n_tokens < _LEAST_TOKENS:
        raise ValueError(
            f"n_tokens={settings.n_tokens}: expected at least {_LEAST_TOKENS}, as means are taken over them"
        )
    kind = pkgutil.resolve_name(settings.data.class_path)
    if not issubclass(kind, LanguageModelDataModule):
        raise ValueError(f"data={kind.__name__}: sae density needs a LanguageModelDataModule, whose layers it measures")
    if settings.out and settings.out.exists() and not settings.out.is_dir():
        raise ValueError(f"--out {settings.out} is a file; give a folder, which is made if needed")


def _datamodule(parser: ArgumentParser, settings: Namespace) -> LanguageModelDataModule:
    settings.data.init_args.loss_samples = settings.n_tokens  # of these are its validation_inputs
    datamodule: LanguageModelDataModule = parser.instantiate_classes(settings).data
    datamodule.source.to("cuda" if torch.cuda.is_available() else "cpu")
    return datamodule


def _read_saes(run: Path, data: Namespace) -> dict[str, SparseAutoencoder]:
    """Exported SAEs by `<policy>/<seed>`; of a run with nulls those of the real activations.

    Raises:
        ValueError: if the run has none, or was trained on other activations.
    """
    saes = {"/".join(path.parts[-3:-1]): path.parent for path in sorted(run.glob("saes/*/*/sae.safetensors"))}
    if not saes:
        several = "; those of several hooks are not looked at" if any(run.glob("saes/*/*/*/sae.safetensors")) else ""
        raise ValueError(f"--run {run}: no SAEs in {run / 'saes'}, which a fit leaves when it has finished{several}")
    config = run / "config.yaml"
    trained = (
        ((yaml.safe_load(config.read_text()) or {}).get("data") or {}).get("init_args", {}) if config.is_file() else {}
    )
    for name in ("model", "hook", "hook_input"):
        if name in trained and trained[name] != data.init_args[name]:
            raise ValueError(
                f"--run {run} was trained with data.{name}={trained[name]}, and the configuration has "
                f"{data.init_args[name]}: leave out --config, and the run's own is taken"
            )
    return {member: SparseAutoencoder.load(folder).eval() for member, folder in saes.items()}
