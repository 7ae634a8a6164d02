"""``sae inspect``: say what an SAE is, and whether it was read right.

Takes an SAE of this library or another: a folder, a weight file, hf://owner/name[@revision][/path], or RELEASE/ID of
SAELens' public table. Prints format, variant and what the file states, and checks the weights. With activations (of a
model and text, of a configuration, or from a file) it measures l0, explained variance, latents that never fire and the
loss that a language model keeps, beside what was stated, and says in a sentence whether they agree; where they do not,
other readings of the same weights and the hooks one block before and after are tried.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from sae_lightning.commands.assumed import add_assume, assumed_from
from sae_lightning.commands.model_and_text import activations_for, add_model_and_text, parse_with_data
from sae_lightning.commands.parser import make_parser
from sae_lightning.whole_files import write_whole

if TYPE_CHECKING:
    from torch import Tensor

    from sae_lightning.inspection.report import Inspection


def main(args: list[str]) -> None:
    """Inspect one SAE; print what was found, and write it if asked to."""
    settings = parse_with_data(_parser(), args[1:])
    _check(settings)
    from sae_lightning import cpu_settings

    cpu_settings.silence_known_noise()
    cpu_settings.speed_up_cpu()
    inspection = _inspect(settings)
    print(inspection.text())
    if settings.out:
        write_whole(settings.out, json.dumps(inspection.plain(), indent=1) + "\n")
        print(settings.out)


def _inspect(settings: Namespace) -> "Inspection":
    from sae_lightning.inspection.inspecting import inspect_on_model, inspect_on_tensor, inspect_weights
    from sae_lightning.saes import SparseAutoencoder
    from sae_lightning.saes.transcoder import refuse_several_hooks

    where = settings.SAE
    sae = SparseAutoencoder.load(where, assumed_from(settings) or None)
    refuse_several_hooks([sae], "sae inspect")
    if settings.activations:
        x = _activations(settings.activations, settings.key, sae.d_in)[: settings.n_tokens]
        return inspect_on_tensor(sae, where, x)
    if not (settings.model or settings.config):
        return inspect_weights(sae, where)
    datamodule = activations_for(settings, sae, where)
    hook = settings.hook or getattr(datamodule.source, "hook", None)
    hook = hook if isinstance(hook, str) else None
    return inspect_on_model(sae, where, datamodule, hook, lambda other: activations_for(settings, sae, where, other))


def _activations(path: Path, key: str | None, d_in: int) -> "Tensor":
    """Read activations [n, d_in] from a safetensors, npy, npz or torch file.

    Raises:
        ValueError: if it has no such tensor, or several.
    """
    from sae_lightning.formats.weight_files import read_tensors

    tensors = read_tensors(path)
    fitting = {name: x for name, x in tensors.items() if x.shape[-1:] == (d_in,) and key in (None, name)}
    if len(fitting) != 1:
        shapes = ", ".join(f"{name} {list(x.shape)}".strip() for name, x in tensors.items())
        raise ValueError(
            f"--activations {path} holds {shapes or 'no tensors'}: expected one of shape [..., d_in={d_in}]"
            + (f" named {key}" if key else ", or --key to name it")
        )
    [x] = fitting.values()
    return x.reshape(-1, d_in).float()


def _check(settings: Namespace) -> None:
    """Refuse what cannot work before anything is read.

    Raises:
        ValueError: says what is missing, or too much.
    """
    if settings.activations and (settings.model or settings.config):
        raise ValueError(f"--activations {settings.activations} and those of --model or --config: give one of them")
    if settings.n_tokens < 2:
        raise ValueError(f"--n_tokens {settings.n_tokens}: expected 2 or more")
    if settings.activations and not settings.activations.is_file():
        raise ValueError(f"--activations {settings.activations}: no such file")
    if settings.out and settings.out.exists():
        raise ValueError(f"--out {settings.out} exists: it is not overwritten")


def _parser() -> ArgumentParser:
    parser = make_parser("inspect", __doc__)
    parser.add_argument("SAE", help="Folder or weight file in any format, hf://owner/name, or RELEASE/ID of SAELens.")
    add_assume(parser)
    add_model_and_text(parser)
    parser.add_argument(
        "--activations", type=Path | None, default=None, metavar="FILE", help="Tensor [..., d_in] in a file, instead."
    )
    parser.add_argument("--key", type=str | None, default=None, help="Name of the tensor in --activations.")
    parser.add_argument("--n_tokens", type=int, default=16_384, metavar="N", help="Most activations to measure on.")
    parser.add_argument("--out", type=Path | None, default=None, metavar="FILE", help="Write what was found as JSON.")
    return parser
