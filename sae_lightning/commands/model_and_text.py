"""The options of commands that read an SAE on activations: of a model and text, or the ``data`` of a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from jsonargparse import ArgumentParser, Namespace

from sae_lightning.checks import check_whole
from sae_lightning.commands.parser import parse
from sae_lightning.members import SOURCE, TARGET

if TYPE_CHECKING:
    from sae_lightning.datamodules import ActivationDataModule
    from sae_lightning.saes import SparseAutoencoder

_BATCH = 256
"""Activations in a batch, of which only whole ones are read: a short text should not be too short for one."""


def add_model_and_text(parser: ArgumentParser) -> None:
    """Add ``--model``, ``--hook``, ``--text`` and what goes with them, or ``--config``."""
    parser.add_argument(
        "--model", type=str | None, default=None, help="Language model: folder, GGUF file, or name on the hub."
    )
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
        "-c",
        "--config",
        type=Path | None,
        default=None,
        metavar="FILE",
        help="YAML of a run, for its `data`, in place of model and text.",
    )
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
    parser.add_argument(
        "--dtype",
        type=Literal["auto", "float32", "bfloat16", "float16"],
        default="auto",
        help="Number format of the model, such as float32.",
    )


def check_rows(settings: Namespace) -> None:
    """Refuse rows of text that no model reads, before it is loaded.

    Raises:
        ValueError: names the option.
    """
    if settings.context_length is not None:
        check_whole(2, **{"--context_length": settings.context_length})
    check_whole(0, **{"--skip_first_positions": settings.skip_first_positions})


def parse_with_data(parser: ArgumentParser, args: list[str], has_own_text: bool = False) -> Namespace:
    """Parse the arguments of a command with `add_model_and_text`.

    Args:
        parser: of the command.
        args: after its name.
        has_own_text: whether ``--text`` without ``--model`` is the text itself.

    Raises:
        ValueError: if they cannot be parsed, or do not go together.
    """
    settings = parse(parser, args)
    check_rows(settings)
    if settings.model and settings.config:
        raise ValueError(f"--model {settings.model} and --config {settings.config}: give one of them")
    if settings.model and not settings.text:
        raise ValueError(f"--model {settings.model}: say on which text with --text, files or folders of text")
    if settings.text and not (settings.model or has_own_text):
        raise ValueError(f"--text {settings.text}: say of which model with --model")
    if settings.hook and not (settings.model or settings.config):
        raise ValueError(f"--hook {settings.hook}: say of which model with --model")
    return settings


def activations_for(
    settings: Namespace,
    sae: "SparseAutoencoder",
    where: Path | str,
    hook: str | None = None,
    target: str | None = None,
) -> "ActivationDataModule":
    """Return the held-out activations that the options name, on the device that there is; the SAE goes there, too.

    Args:
        settings: of the command, with `n_tokens`.
        sae: whose file states context length and beginning token, where the options do not.
        where: it is from, for messages.
        hook: in place of that of the options.
        target: hook at which a transcoder answers; the activations are then those of both, side by side.

    Raises:
        ValueError: if the hook is missing, or the SAE is of other activations.
    """
    import torch

    stated: Mapping[str, Any] = sae.provenance.get("imported", {}).get("stated", {})
    if settings.model and not settings.hook:
        raise ValueError(f"--model {settings.model}: say where the SAE reads it with --hook{_stated_hook(stated)}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    hook = hook or settings.hook
    hooks = hook if target is None else {SOURCE: hook, TARGET: target}
    datamodule = _of_model(settings, stated, hooks) if settings.model else _of_config(settings, hooks)
    if target is not None and (widths := tuple(datamodule.widths.values())) != (sae.d_in, sae.d_out):
        raise ValueError(
            f"{where} reads d_in={sae.d_in} and answers with d_out={sae.d_out}, and the activations at {hook} have "
            f"{widths[0]}, those at {target} {widths[1]}: give the model and the hooks that it was trained on"
        )
    if target is None and datamodule.d_in != sae.d_in:
        raise ValueError(
            f"{where} has d_in={sae.d_in}, and the activations at {hook or 'its hook'} have "
            f"{datamodule.d_in}: give the model and hook that it was trained on"
        )
    if "imported" not in sae.provenance:
        datamodule.refuse_sae_of_others(sae, str(where), "" if target is None else next(iter(datamodule.widths)))
    sae.to(device)
    datamodule.source.to(device)
    return datamodule


def _of_config(settings: Namespace, hook: str | dict[str, str] | None) -> "ActivationDataModule":
    import sae_lightning.pocket  # noqa: F401 - its classes are found by name
    from sae_lightning.datamodules.from_settings import make_datamodule
    from sae_lightning.datamodules.norms import read_norms

    data = (yaml.safe_load(settings.config.read_text(encoding="utf-8")) or {}).get("data")
    if not isinstance(data, dict):
        raise ValueError(f"--config {settings.config} has no `data`: expected the config.yaml of a run")
    norms = read_norms(settings.config.parent)
    arguments: dict[str, Any] = {"val_samples": settings.n_tokens, "loss_samples": settings.n_tokens}
    if hook is not None:
        arguments["hook"] = _by_names_of(data, hook) if isinstance(hook, dict) else hook
    datamodule = make_datamodule(data, arguments=arguments, is_of_run=norms is not None)
    assert datamodule is not None  # any kind will do
    if norms is not None:
        datamodule.use_norms(norms)
    return datamodule


def _by_names_of(data: Mapping[str, Any], hooks: Mapping[str, str]) -> dict[str, str]:
    """Return hooks by the names that a configuration has for them, by which norms of activations are kept."""
    own = data.get("init_args", {}).get("hook")
    names = {hook: name for name, hook in own.items()} if isinstance(own, dict) else {}
    return {names.get(hook, name): hook for name, hook in hooks.items()}


def _of_model(settings: Namespace, stated: Mapping[str, Any], hook: str | dict[str, str]) -> "ActivationDataModule":
    from sae_lightning.datamodules import FileText, LanguageModelDataModule
    from sae_lightning.files import check_there

    check_there("--text", settings.text)
    length = settings.context_length or min(int(stated.get("context_length") or 128), 1024)
    begins = stated.get("prepend_bos", True) if settings.bos_in_every_row is None else settings.bos_in_every_row
    return LanguageModelDataModule(
        settings.model,
        hook,
        FileText(settings.text, heldout_every=2),
        hook_input=settings.hook_input,
        dtype=settings.dtype,
        context_length=length,
        bos_in_every_row=bool(begins),
        batch_size=min(_BATCH, settings.n_tokens),
        val_samples=settings.n_tokens,
        loss_samples=settings.n_tokens,
        llm_batch_size=max(1, 2048 // length),
        skip_first_positions=settings.skip_first_positions,
    )


def _stated_hook(stated: Mapping[str, Any]) -> str:
    from sae_lightning.inspection.hook_names import place_of

    hook = stated.get("hook")
    if not isinstance(hook, str):
        return ", as `sae hooks MODEL` lists them"
    place = place_of(hook)
    return f"; its file says {hook}" + (f", the {place}" if place else "") + "; `sae hooks MODEL` lists the names here"
