"""``sae inspect``: say what an SAE is, and whether it was read right.

Takes an SAE of this library or another: a folder, a weight file, hf://owner/name[@revision][/path], or RELEASE/ID of
SAELens' public table. Prints format, variant and what the file states, and checks the weights. With activations (of a
model and text, of a configuration, or from a file) it measures l0, explained variance, latents that never fire and the
loss that a language model keeps, beside what was stated, and says in a sentence whether they agree; where they do not,
other readings of the same weights and the hooks one block before and after are tried.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser, Namespace
from torch import Tensor

from sae_lightning import cpu_settings
from sae_lightning.class_paths import accept_old_class_paths
from sae_lightning.commands.assumed import add_assume, assumed_from
from sae_lightning.commands.config_files import check_config_files
from sae_lightning.commands.parser import make_parser, parse
from sae_lightning.datamodules import ActivationDataModule, FileText, LanguageModelDataModule
from sae_lightning.evaluators.loss_recovered import token_losses
from sae_lightning.formats.weight_files import read_weights
from sae_lightning.inspection import Inspection, Measured, check_weights, measure
from sae_lightning.inspection.hook_names import neighbours_of, place_of
from sae_lightning.inspection.readings import better_readings
from sae_lightning.members import TRAINED, Member
from sae_lightning.metrics.functional import recovered_compute
from sae_lightning.saes import SparseAutoencoder
from sae_lightning.saes.exported import ExportedSAEs
from sae_lightning.whole_files import write_whole

_N_TRIED = 4096
"""Activations on which other readings are tried."""
_LEAST_GAP = 0.05
"""Nats that mean ablation has to cost, for a share of them to mean anything."""


def main(args: list[str]) -> None:
    """Inspect one SAE; print what was found, and write it if asked to."""
    cpu_settings.silence_known_noise()
    cpu_settings.speed_up_cpu()
    parser = _parser()
    settings = parse(parser, _with_data_of_config(args[1:]), [ActivationDataModule])
    _check(settings)
    sae = SparseAutoencoder.load(settings.SAE, assumed_from(settings) or None)
    inspection = Inspection(sae, settings.SAE, check_weights(sae))
    if settings.activations:
        x = _activations(settings.activations, settings.key, sae.d_in)[: settings.n_tokens]
        inspection = _with_readings(replace(inspection, measured=measure(sae, x.split(_N_TRIED)), on=_n(x)), x)
    elif settings.model or settings.data:
        inspection = _on_data(inspection, parser, settings)
    print(inspection.text())
    if settings.out:
        write_whole(settings.out, json.dumps(inspection.plain(), indent=1) + "\n")
        print(settings.out)


def _with_data_of_config(args: list[str]) -> list[str]:
    """Put the data of a run's configuration in front, which `--data.hook` and the like then change.

    Raises:
        ValueError: if the file is no configuration with data.
    """
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    peek.add_argument("-c", "--config", type=Path)
    path = peek.parse_known_args(args)[0].config
    if path is None:
        return args
    check_config_files(args)
    data = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("data")
    if not isinstance(data, dict):
        raise ValueError(f"--config {path} has no `data`: expected the config.yaml of a run")
    return [f"--data={json.dumps(data)}", *args]


def _on_data(inspection: Inspection, parser: ArgumentParser, settings: Namespace) -> Inspection:
    """Measure on the held-out activations of a model."""
    sae = inspection.sae
    sae.to("cuda" if torch.cuda.is_available() else "cpu")
    if settings.model and not settings.hook:
        raise ValueError(f"--model {settings.model}: say where the SAE reads it with --hook{_stated_hook(inspection)}")
    datamodule = _datamodule(parser, settings, inspection, settings.hook)
    _check_width(datamodule, sae, settings)
    measured = measure(sae, datamodule.val_dataloader())
    if not sae.provenance.get("imported"):
        datamodule.refuse_sae_of_others(sae, inspection.where)
    if datamodule.source.is_language_model and not datamodule.source.no_next_token:
        measured = replace(measured, loss_recovered=_loss_recovered(datamodule, sae))
    source = datamodule.source
    inspection = replace(
        inspection,
        measured=measured,
        on=f"{measured.n:,} held-out activations",
        model=getattr(source, "model_name", None) or settings.model,
        hook=settings.hook or getattr(source, "hook", None),
    )
    x = torch.cat(list(_first(datamodule.val_dataloader(), _N_TRIED))).float()
    inspection = _with_readings(inspection, x.to(sae.W_dec.device))
    if settings.model and inspection.disagreements() and not inspection.better:
        inspection = replace(inspection, other_hooks=_other_hooks(inspection, parser, settings))
    return inspection


def _with_readings(inspection: Inspection, x: Tensor) -> Inspection:
    return replace(inspection, better=better_readings(inspection.sae, x[:_N_TRIED], inspection.stated_l0))


def _other_hooks(inspection: Inspection, parser: ArgumentParser, settings: Namespace) -> dict[str, Measured]:
    """Measure one block before and one after, where the model has them and they have this width."""
    measured: dict[str, Measured] = {}
    for hook in neighbours_of(settings.hook):
        try:
            datamodule = _datamodule(parser, settings, inspection, hook)
        except ValueError:  # there is no such block
            continue
        if datamodule.d_in == inspection.sae.d_in:
            batches = (batch.to(inspection.sae.W_dec.device) for batch in _first(datamodule.val_dataloader(), _N_TRIED))
            measured[hook] = measure(inspection.sae, batches)
    return measured


def _datamodule(parser: ArgumentParser, settings: Namespace, inspection: Inspection, hook: str) -> ActivationDataModule:
    if settings.data:
        arguments = settings.data.init_args
        for name in ("val_samples", "loss_samples"):
            if name in arguments:
                arguments[name] = settings.n_tokens
        if "nulls" in arguments:
            arguments.nulls = None
        datamodule: ActivationDataModule = parser.instantiate_classes(settings).data
    else:
        stated = inspection.stated
        length = settings.context_length or min(int(stated.get("context_length") or 128), 1024)
        begins = stated.get("prepend_bos", True) if settings.bos_in_every_row is None else settings.bos_in_every_row
        datamodule = LanguageModelDataModule(
            settings.model,
            hook,
            FileText(settings.text, heldout_every=2),
            hook_input=settings.hook_input,
            dtype=settings.dtype,
            context_length=length,
            bos_in_every_row=bool(begins),
            batch_size=min(2048, settings.n_tokens),
            val_samples=settings.n_tokens,
            loss_samples=settings.n_tokens,
            llm_batch_size=max(1, 2048 // length),
            skip_first_positions=settings.skip_first_positions,
        )
    datamodule.source.to(inspection.sae.W_dec.device)
    return datamodule


def _loss_recovered(datamodule: ActivationDataModule, sae: SparseAutoencoder) -> float | None:
    member = Member(TRAINED, sae.seed)
    module = ExportedSAEs({member: sae}, datamodule.widths)
    [losses] = token_losses(datamodule, module.to(sae.W_dec.device)).values()
    cross_entropy = {name: loss.compute()["ce"] for name, loss in losses.items()}
    recovered = recovered_compute(cross_entropy[member], cross_entropy["mean"], cross_entropy["clean"], _LEAST_GAP)
    return float(recovered) if torch.isfinite(recovered) else None


def _activations(path: Path, key: str | None, d_in: int) -> Tensor:
    """Read activations [n, d_in] from a safetensors, torch or npz file.

    Raises:
        ValueError: if it has no such tensor, or several.
    """
    content = read_weights(path)
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    fitting = {name: x for name, x in tensors.items() if x.shape[-1:] == (d_in,) and key in (None, name)}
    if len(fitting) != 1:
        shapes = ", ".join(f"{name} {list(x.shape)}" for name, x in tensors.items())
        raise ValueError(
            f"--activations {path} holds {shapes or 'no tensors'}: expected one of shape [..., d_in={d_in}]"
            + (f" named {key}" if key else ", or --key to name it")
        )
    [x] = fitting.values()
    return x.reshape(-1, d_in).float()


def _first(batches: Any, n: int) -> Iterator[Tensor]:  # noqa: ANN401
    """Yield batches up to n activations."""
    for batch in batches:
        yield batch[:n]
        n -= len(batch)
        if n <= 0:
            return


def _stated_hook(inspection: Inspection) -> str:
    hook = inspection.stated.get("hook")
    if not isinstance(hook, str):
        return ", as `sae hooks MODEL` lists them"
    place = place_of(hook)
    return f"; its file says {hook}" + (f", the {place}" if place else "") + "; `sae hooks MODEL` lists the names here"


def _check_width(datamodule: ActivationDataModule, sae: SparseAutoencoder, settings: Namespace) -> None:
    if datamodule.d_in != sae.d_in:
        raise ValueError(
            f"{settings.SAE} has d_in={sae.d_in}, and the activations at {settings.hook or 'this hook'} have "
            f"{datamodule.d_in}: give the model and hook that it was trained on"
        )


def _check(settings: Namespace) -> None:
    """Refuse what cannot work before anything is read.

    Raises:
        ValueError: says what is missing, or too much.
    """
    given = [name for name in ("model", "data", "activations") if settings[name]]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(f'--{name}' for name in given)}: give one of them")
    if settings.n_tokens < 2:
        raise ValueError(f"--n_tokens {settings.n_tokens}: expected 2 or more")
    if settings.model and not settings.text:
        raise ValueError(f"--model {settings.model}: say on which text with --text, files or folders of text")
    for name in ("hook", "text"):
        if settings[name] and not settings.model:
            raise ValueError(f"--{name} {settings[name]}: say of which model with --model")
    if settings.activations and not settings.activations.is_file():
        raise ValueError(f"--activations {settings.activations}: no such file")
    if settings.out and settings.out.exists():
        raise ValueError(f"--out {settings.out} exists: it is not overwritten")


def _n(x: Tensor) -> str:
    return f"{len(x):,} activations"


def _parser() -> ArgumentParser:
    parser = make_parser("inspect", __doc__)
    accept_old_class_paths()
    parser.add_argument("SAE", help="Folder or weight file in any format, hf://owner/name, or RELEASE/ID of SAELens.")
    add_assume(parser)
    parser.add_argument("--model", type=str | None, default=None, help="Language model: folder, or name on the hub.")
    parser.add_argument("--hook", type=str | None, default=None, help="Submodule whose output the SAE reads.")
    parser.add_argument("--hook_input", action="store_true", help="The SAE reads the input of the submodule.")
    parser.add_argument(
        "--text",
        type=str | list[str],
        default=[],
        metavar="PATHS",
        help="Files or folders of text: --text '[a.txt, b.jsonl]'.",
    )
    parser.add_argument(
        "--activations", type=Path | None, default=None, metavar="FILE", help="Tensor [..., d_in] in a file, instead."
    )
    parser.add_argument("--key", type=str | None, default=None, help="Name of the tensor in --activations.")
    parser.add_argument(
        "-c", "--config", type=Path | None, default=None, metavar="FILE", help="YAML of a run, for its `data`."
    )
    parser.add_subclass_arguments(ActivationDataModule, "data", required=False, help="Any other activations.")
    parser.add_argument("--n_tokens", type=int, default=16_384, metavar="N", help="Most activations to measure on.")
    parser.add_argument(
        "--context_length",
        type=int | None,
        default=None,
        metavar="N",
        help="Tokens in a row. Default: stated, or 128.",
    )
    parser.add_argument(
        "--bos_in_every_row",
        type=bool | None,
        default=None,
        help="Whether rows begin with its token. Default: as stated.",
    )
    parser.add_argument(
        "--skip_first_positions", type=int, default=0, metavar="N", help="Positions left out at the start of each row."
    )
    parser.add_argument("--dtype", type=str, default="auto", help="Number format of the model, such as float32.")
    parser.add_argument("--out", type=Path | None, default=None, metavar="FILE", help="Write what was found as JSON.")
    return parser
