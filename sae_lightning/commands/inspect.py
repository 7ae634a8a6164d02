"""``sae inspect``: say what an SAE is, and whether it was read right.

Takes an SAE of this library or another: a folder, a weight file, hf://owner/name[@revision][/path], or RELEASE/ID of
SAELens' public table. Prints format, variant and what the file states, and checks the weights. With activations (of a
model and text, of a configuration, or from a file) it measures l0, explained variance, latents that never fire and the
loss that a language model keeps, beside what was stated, and says in a sentence whether they agree; where they do not,
other readings of the same weights and the hooks one block before and after are tried. A transcoder takes two hooks, or
activations of both sides, and is measured against its target.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from sae_lightning.commands.assumed import add_assume, assumed_from
from sae_lightning.commands.model_and_text import activations_for, add_model_and_text, parse_with_data
from sae_lightning.commands.parser import make_parser
from sae_lightning.moving_line import wrapped
from sae_lightning.whole_files import write_whole

if TYPE_CHECKING:
    from torch import Tensor

    from sae_lightning.inspection.report import Inspection
    from sae_lightning.saes import SparseAutoencoder


def main(args: list[str]) -> None:
    """Inspect one SAE; print what was found, and write it if asked to."""
    settings = parse_with_data(_parser(), args[1:])
    _check(settings)
    from sae_lightning import cpu_settings

    cpu_settings.silence_known_noise()
    cpu_settings.speed_up_cpu()
    inspection = _inspect(settings)
    print(wrapped(inspection.text(), 4))
    if settings.out:
        write_whole(settings.out, json.dumps(inspection.plain(), indent=1) + "\n")
        print(settings.out)


def _inspect(settings: Namespace) -> "Inspection":
    from sae_lightning.inspection.inspecting import inspect_on_model, inspect_on_tensor, inspect_weights
    from sae_lightning.saes import SparseAutoencoder
    from sae_lightning.saes.transcoder import refuse_crosscoders

    where = settings.SAE
    sae = SparseAutoencoder.load(where, assumed_from(settings) or None)
    refuse_crosscoders([sae], "sae inspect")
    hooks = _hooks(settings, sae)
    if settings.activations:
        return inspect_on_tensor(sae, where, _activations_of_sides(settings, sae)[: settings.n_tokens])
    if not (settings.model or settings.config):
        return inspect_weights(sae, where)
    datamodule = activations_for(settings, sae, where, *hooks)
    if not hooks and isinstance(hook := getattr(datamodule.source, "hook", None), str):
        hooks = (hook,)
    return inspect_on_model(
        sae, where, datamodule, hooks, lambda *others: activations_for(settings, sae, where, *others)
    )


def _hooks(settings: Namespace, sae: "SparseAutoencoder") -> tuple[str, ...]:
    """Return where the activations are from: nothing where that is not said, of a transcoder two hooks.

    Raises:
        ValueError: if an SAE gets a target, or a transcoder none.
    """
    from sae_lightning.saes.stated import stated_of

    given = {name: settings[name] for name in ("target", "target_activations", "target_key") if settings[name]}
    if not sae.is_transcoder:
        for name, value in given.items():
            raise ValueError(f"--{name} {value}: {settings.SAE} is an SAE, which gives back what it reads")
        return (settings.hook,) if settings.hook else ()
    if not (settings.model or settings.config):
        return ()
    stated, hook, target = stated_of(sae.provenance), settings.hook, settings.target
    if settings.config and "imported" not in sae.provenance and (hook, target) == (None, None):
        hook, target = stated.get("hook"), stated.get("target")
    if hook is None or target is None:
        said = f"; its file says {stated.get('hook')} and {stated['target']}" if "target" in stated else ""
        raise ValueError(
            f"{settings.SAE} is a transcoder: say what it reads with --hook, and where it answers with --target{said}; "
            "`sae hooks MODEL` lists the names here"
        )
    return hook, target


def _activations_of_sides(settings: Namespace, sae: "SparseAutoencoder") -> "Tensor":
    """Read the activations of an SAE [n, d_in], of a transcoder those of both sides [n, d_in + d_out].

    Raises:
        ValueError: if those of one side are missing, or there are not as many of both.
    """
    import torch

    x = _activations(settings, "activations", "key", sae.d_in)
    if not sae.is_transcoder:
        return x
    if not settings.target_activations:
        raise ValueError(
            f"{settings.SAE} is a transcoder: give what it is to answer with to --activations {settings.activations} "
            "as --target_activations FILE"
        )
    target = _activations(settings, "target_activations", "target_key", sae.d_out)
    if len(x) != len(target):
        raise ValueError(f"--activations has {len(x)} and --target_activations {len(target)}: expected as many of both")
    return torch.cat([x, target], 1)


def _activations(settings: Namespace, option: str, key_option: str, d_in: int) -> "Tensor":
    """Read activations [n, d_in] from a safetensors, npy, npz or torch file.

    Raises:
        ValueError: if it has no such tensor, or several.
    """
    from sae_lightning.formats.weight_files import read_tensors

    path, key = settings[option], settings[key_option]
    tensors = read_tensors(path)
    fitting = {name: x for name, x in tensors.items() if x.shape[-1:] == (d_in,) and key in (None, name)}
    if len(fitting) != 1:
        shapes = ", ".join(f"{name} {list(x.shape)}".strip() for name, x in tensors.items())
        raise ValueError(
            f"--{option} {path} holds {shapes or 'no tensors'}: expected one of shape [..., {d_in}]"
            + (f" named {key}" if key else f", or --{key_option} to name it")
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
    for option in ("activations", "target_activations"):
        if settings[option] and not settings[option].is_file():
            raise ValueError(f"--{option} {settings[option]}: no such file")
    if settings.target_activations and not settings.activations:
        raise ValueError(f"--target_activations {settings.target_activations}: give what is read with --activations")
    if settings.target and not (settings.model or settings.config):
        raise ValueError(f"--target {settings.target}: say of which model with --model")
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
    parser.add_argument(
        "--target", type=str | None, default=None, help="Submodule at whose output a transcoder answers."
    )
    parser.add_argument(
        "--target_activations",
        type=Path | None,
        default=None,
        metavar="FILE",
        help="What a transcoder is to answer with to --activations, row by row.",
    )
    parser.add_argument("--target_key", type=str | None, default=None, help="Name of the tensor there.")
    parser.add_argument("--n_tokens", type=int, default=16_384, metavar="N", help="Most activations to measure on.")
    parser.add_argument("--out", type=Path | None, default=None, metavar="FILE", help="Write what was found as JSON.")
    return parser
