"""What a run says before its first step: which SAEs, on what, where it goes, and, a few steps later, how long."""

import resource
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from typing_extensions import override

from sae_lightning.callbacks.speed import Speed, validations_left
from sae_lightning.datamodules import ActivationDataModule
from sae_lightning.evaluators.base import datamodule_of
from sae_lightning.members import TRAINED, Member, in_order
from sae_lightning.moving_line import LINE, duration, in_bytes, wrapped
from sae_lightning.nouns import SAE, noun_of
from sae_lightning.provenance import arguments_of
from sae_lightning.saes import SparseAutoencoder
from sae_lightning.saes.module import SAEModule
from sae_lightning.trainer import callbacks_of, run_folder

_INDENT = 8
_MOMENTS = 2
"""Tensors of the size of a parameter that Adam keeps, and with them a checkpoint."""


class Opening(Callback):
    """Say what is trained or measured, on what and where it goes; after a few steps how long it takes."""

    def __init__(self) -> None:
        self._has_foreseen = False

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._has_foreseen = False
        self._open(trainer, pl_module, "train")

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            self._open(trainer, pl_module, "measure")

    @override
    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._open(trainer, pl_module, "measure")

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._has_foreseen or not trainer.is_global_zero:
            return
        for speed in callbacks_of(trainer):
            if isinstance(speed, Speed) and speed.is_settled:
                self._has_foreseen = True
                if (seconds := speed.seconds_left(trainer)) is not None:
                    n, step = validations_left(trainer), trainer.global_step
                    validations = f" and {n} validation{'s' * (n > 1)}" if n else ""
                    _say("time", f"about {duration(seconds)}{validations}, {_memory()}, measured after {step} steps")

    def _open(self, trainer: Trainer, module: LightningModule, verb: str) -> None:
        folder = run_folder(trainer)
        if not trainer.is_global_zero or not isinstance(module, SAEModule):
            return
        _say(verb, saes_in_words(module))
        if (data := datamodule_of(trainer)) is not None:
            _say("on", activations_in_words(data))
            _say("", samples_in_words(data, verb == "train"))
        if folder is not None:
            disk = f" (about {in_bytes(_disk(module, data))}; {in_bytes(_free(folder))} are free)"
            place, here = folder.absolute(), Path.cwd()
            shown = place.relative_to(here) if place.is_relative_to(here) else folder
            _say("into", str(shown) + disk * (verb == "train"))


def saes_in_words(module: SAEModule) -> str:
    """Say what the SAEs of a run are: how many of which variant, their policies, sizes and l0, and what is beside."""
    trained, members = module.all_trained_members, list(module.all_members)
    words = []
    if saes := list(trained.values()):
        names = in_order(member.policy for member in trained)
        policies = f": {', '.join(names)}" if names != [TRAINED] else ""
        words.append(_numbers(list(trained), [_variant(sae, len(saes)) for sae in saes]) + policies)
        sizes: dict[str, list[str]] = {}
        for sae in saes:
            sizes.setdefault(_width(sae), []).append(f"{sae.d_sae:,}")
        words.append(_each(f"{_each(n)} latents {width}" for width, n in sizes.items()))
        if aims := _each(f"{l0:g}" for sae in saes if (l0 := _l0_of(sae)) is not None):
            words.append(f"l0 {aims}")
    if references := in_order(member.policy for member in members if member.policy in module.references):
        n_controls = sum(member.policy in module.controls_for for member in members)
        also = "measured: " if saes else ""  # where nothing is trained the line begins with that word
        words.append(also + ", ".join(references) + (f" and {n_controls} controls" if n_controls else ""))
    return "; ".join(words)


def _numbers(members: Sequence[Member], variants: Sequence[str]) -> str:
    """Count SAEs, and say what they are the product of.

    >>> _numbers([Member(policy, seed) for policy in ("a", "b") for seed in (0, 1)], ["TopK"] * 4)
    '4 TopK (2 policies x 2 seeds)'
    >>> _numbers([Member("trained", 0)], ["ReLU"])
    'ReLU'
    """
    counts = {
        "policies": len({member.policy for member in members}),
        "seeds": len({member.seed for member in members}),
        "hooks or nulls": len({member.part for member in members}),
    }
    several = [f"{n} {name}" for name, n in counts.items() if n > 1]
    product = f" ({' x '.join(several)})" if len(several) > 1 else ""
    return f"{len(members)} " * (len(members) > 1) + _each(variants) + product


def _variant(sae: SparseAutoencoder, n: int) -> str:
    """Name the variant, and say what it is where it is no plain SAE."""
    noun, variant = noun_of(sae.is_transcoder, sae.crosscoder), type(sae).__name__
    return variant if noun == SAE else f"{variant} {noun}{'s' * (n > 1)}"


def _width(sae: SparseAutoencoder) -> str:
    """Say how wide the activations are that it reads, and answers with."""
    if sae.is_transcoder:
        return f"from width {sae.d_in:,} to {sae.d_out:,}"
    parts = ", ".join(f"{name} {columns.stop - columns.start:,}" for name, columns in sae.columns.items())
    return f"of width {sae.d_in:,}" + (f" ({parts})" if parts else "")


def _each(texts: Iterable[str]) -> str:
    """Join texts, each once."""
    return ", ".join(dict.fromkeys(texts))


def activations_in_words(data: ActivationDataModule) -> str:
    """Return where the activations come from: model and hooks, the text or images, and nulls."""
    own, described = data.describe_activations(), data.describe()
    first: Mapping[str, Any] = next(iter(own.values()))
    words = [str(first.get("model") or described["class"])]
    words += _hooks(own.values())
    read = next((described[name] for name in ("text", "images", "paths", "path") if described.get(name)), None)
    if read is not None:
        words.append(str(read["class"]) if isinstance(read, Mapping) else _listed(read))
    words += [f"null data {name}" for name in data.null_parts]
    return ", ".join(words)


def _hooks(described: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the hooks of parts of an activation, each once, and after its name where it has one.

    >>> _hooks([{"hook": {"early": "layers.1", "late": "layers.2"}}, {"hook": "layers.1"}, {"hook": "layers.2"}])
    ['early = layers.1', 'late = layers.2']
    >>> _hooks([{"hook": "layers.1"}, {"hook": "layers.1", "null": "gaussian"}])
    ['layers.1']
    """
    hooks = [each["hook"] for each in described if each.get("hook")]
    if named := next((hook for hook in hooks if isinstance(hook, Mapping)), None):
        return [f"{name} = {hook}" for name, hook in named.items()]
    return list(dict.fromkeys(map(str, hooks)))


def samples_in_words(data: ActivationDataModule, trains: bool) -> str:
    """Return how many activations are trained on and held out, and which are left out."""
    words = [f"{data.train_samples:,} {data.unit} in batches of {data.batch_size * data.n_readers:,}"] if trains else []
    words.append(f"{data.val_samples:,} held out")
    left_out = [str(data.describe()["left_out"])] if data.describe().get("left_out") else []
    if data.massive is not None and data.massive.leaves_out and (share := data.massive.share):
        left_out.append(f"massive ones ({share:.2%} of a sample)")
    return "; ".join(words) + (f"; left out: {', '.join(left_out)}" if left_out else "")


def _listed(given: Any) -> str:
    return ", ".join(map(str, given)) if isinstance(given, Sequence) and not isinstance(given, str) else str(given)


def _l0_of(sae: SparseAutoencoder) -> float | None:
    """Return the l0 that a variant has or holds; None where it follows from a penalty."""
    arguments = arguments_of(sae)
    penalty = arguments.get("penalty")
    held = penalty.get("target") if isinstance(penalty, Mapping) else None
    aim = arguments.get("k") or arguments.get("target_l0") or held
    return None if aim is None else float(aim)


def _disk(module: SAEModule, data: ActivationDataModule | None) -> int:
    """Return the bytes of a checkpoint, with the moments of Adam and the buffer, and of the exported SAEs."""
    tensors = [own for sae in module.all_trained_members.values() for own in sae.state_dict().values()]
    trained = [own for group in module.optimized.values() for own in group.values()]
    buffer = 0 if data is None else data.n_readers * data.buffer_bytes
    return 2 * sum(map(_bytes_of, tensors)) + _MOMENTS * sum(map(_bytes_of, trained)) + buffer


def _bytes_of(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _memory() -> str:
    """Return the most memory that this process has had; on a GPU of that."""
    if torch.cuda.is_available() and (used := torch.cuda.max_memory_allocated()):
        return f"{in_bytes(used)} of memory on the GPU"
    unit = 1 if sys.platform == "darwin" else 1024
    return f"{in_bytes(unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)} of memory"


def _free(folder: Path) -> int:
    """Return the bytes that are free where a folder is, or will be."""
    return shutil.disk_usage(next(one for one in (folder, *folder.resolve().parents) if one.is_dir())).free


def _say(label: str, text: str) -> None:
    LINE.say(wrapped(f"{label:<{_INDENT}}{text}", _INDENT))
