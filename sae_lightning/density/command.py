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
import yaml
from jsonargparse import ArgumentParser, Namespace

from sae_lightning import startup
from sae_lightning.compare import read_lines
from sae_lightning.data_options import add_data, parse_data, with_config_of
from sae_lightning.datamodules import LanguageModelDataModule
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
    settings = parse_data(parser, with_config_of(args[1:], "--run", _config_of))
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
    add_data(parser)
    return parser


def _config_of(run: Path) -> Path:
    _check_folder(run)
    return run / "config.yaml"


def _check_folder(run: Path) -> None:
    if not run.is_dir():
        raise ValueError(f"--run {run}: no such folder; give a run folder, lightning_logs/<name>/version_N")


def _check(settings: Namespace) -> None:
    """Refuse what cannot work before the model is read."""
    if settings.run:
        _check_folder(settings.run)
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
