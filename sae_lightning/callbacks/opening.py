"""What a run says before its first step: which SAEs, on what, where it goes, and, a few steps later, how long."""

import resource
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from typing_extensions import override

from sae_lightning.callbacks.speed import Speed
from sae_lightning.datamodules import ActivationDataModule
from sae_lightning.evaluators.base import datamodule_of
from sae_lightning.members import by_part, in_order
from sae_lightning.moving_line import LINE, duration, in_bytes, wrapped
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
                    _say(
                        "time",
                        f"about {duration(seconds)} more, {_memory()}, measured after {trainer.global_step} steps",
                    )

    def _open(self, trainer: Trainer, module: LightningModule, verb: str) -> None:
        folder = run_folder(trainer)
        if not trainer.is_global_zero or not isinstance(module, SAEModule):
            return
        _say(verb, "; ".join(saes_in_words(module)))
        if (data := datamodule_of(trainer)) is not None:
            _say("on", activations_in_words(data))
            _say("", samples_in_words(data, verb == "train"))
        if folder is not None:
            disk = f" (about {in_bytes(_disk(module, data))}; {in_bytes(_free(folder))} are free)"
            _say("into", str(folder) + disk * (verb == "train"))


def saes_in_words(module: SAEModule) -> Iterator[str]:
    """Yield what the SAEs of a run are: how many of which variant, their policies and seeds, sizes and l0."""
    trained, members = module.all_trained_members, module.all_members
    if trained:
        kinds = dict.fromkeys(type(sae).__name__ for sae in trained.values())
        parts, names = list(by_part(trained)), in_order(member.policy for member in trained)
        seeds = sorted({member.seed for member in trained})
        counts = [_counted(names, "policies"), _counted(seeds, "seeds"), _counted(parts, "parts")]
        product = " x ".join(filter(None, counts))
        n, own = f"{len(trained)} " * (len(trained) > 1), f": {', '.join(names)}" if len(names) > 1 else ""
        yield n + ", ".join(kinds) + (f" ({product})" if " x " in product else "") + own
        sizes = dict.fromkeys(f"{sae.d_sae:,} latents of width {sae.d_in:,}" for sae in trained.values())
        yield ", ".join(sizes)
        if aims := dict.fromkeys(l0 for sae in trained.values() if (l0 := _l0_of(sae)) is not None):
            yield f"l0 {', '.join(f'{aim:g}' for aim in aims)}"
    if beside := [name for name in in_order(member.policy for member in members) if name in module.references]:
        n_controls = len(members) - len(trained) - sum(member.policy in beside for member in members)
        yield f"measured: {', '.join(beside)}" + (f" and {n_controls} controls" if n_controls else "")


def activations_in_words(data: ActivationDataModule) -> str:
    """Return where the activations come from: model and hooks, the text or images, and nulls."""
    own, described = data.describe_activations(), data.describe()
    first: Mapping[str, Any] = next(iter(own.values()))
    words = [str(first.get("model") or described["class"])]
    words += dict.fromkeys(str(each["hook"]) for each in own.values() if each.get("hook"))
    read = next((described[name] for name in ("text", "images", "paths", "path") if described.get(name)), None)
    if read is not None:
        words.append(str(read["class"]) if isinstance(read, Mapping) else _listed(read))
    words += [f"null data {name}" for name in data.null_parts]
    return ", ".join(words)


def samples_in_words(data: ActivationDataModule, trains: bool) -> str:
    """Return how many activations are trained on and held out, and which are left out."""
    words = [f"{data.train_samples:,} {data.unit} in batches of {data.batch_size * data.n_readers:,}"] if trains else []
    words.append(f"{data.val_samples:,} held out")
    left_out = [str(data.describe()["left_out"])] if data.describe().get("left_out") else []
    if data.massive is not None and data.massive.leaves_out:
        left_out.append(f"massive ones ({data.massive.share:.2%} of a sample)")
    return "; ".join(words) + (f"; left out: {', '.join(left_out)}" if left_out else "")


def _counted(things: Sequence[Any], name: str) -> str:
    return f"{len(things)} {name}" if len(things) > 1 else ""


def _listed(given: Any) -> str:
    return ", ".join(map(str, given)) if isinstance(given, Sequence) and not isinstance(given, str) else str(given)


def _l0_of(sae: SparseAutoencoder) -> float | None:
    """Return the l0 that a variant has or holds; None where it follows from a penalty."""
    arguments = arguments_of(sae)
    penalty = arguments.get("penalty")
    held = penalty.get("target") if isinstance(penalty, Mapping) else None
    return arguments.get("k") or arguments.get("target_l0") or held


def _disk(module: SAEModule, data: ActivationDataModule | None) -> float:
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
