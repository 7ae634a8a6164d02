"""What a check will cost, from its sizes and a short measurement of the machine: told before it starts."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sae_lightning.controls import Control
from sae_lightning.controls.beside import LEAST_DRAWS
from sae_lightning.datamodules import ActivationDataModule
from sae_lightning.moving_line import in_bytes
from sae_lightning.nouns import noun_of
from sae_lightning.saes import SparseAutoencoder
from sae_lightning.sources.replacing import edited_outputs

_ROWS, _GATHERED = 1024, 65_536
_FLOAT = 4
_TENSORS = 3
"""Of one size in an SAE: encoder, decoder and the start of the decoder; a transcoder has the start of its encoder."""
_LEAST_SAMPLES = 8192
_SHARE_OF_MEMORY = 0.85
_BACKWARD = 3.0
"""A training step takes this many times as long as encoding."""
_START = 10.0
"""Seconds for what takes as long in every check."""


@dataclass(frozen=True)
class Machine:
    """What was measured of the machine.

    Args:
        capture: seconds to read the activations of one token.
        replace: seconds to run the whole model on one token; 0 where there is none.
        flops: floating-point operations in a second, of the encoder's product.
        bytes: bytes in a second that are gathered from the decoder.
        memory: bytes that are free where the SAEs will be.
    """

    capture: float
    replace: float
    flops: float
    bytes: float
    memory: float


@dataclass(frozen=True)
class Sizes:
    """What a check is made of.

    Args:
        saes: that are checked, each with its l0.
        controls: by name.
        draws: of each control that is random.
        control_samples: activations that controls are made from.
        n_tokens: held-out activations.
        n_nulls: null versions of the activations.
        model_bytes: of the model.
        trained: SAEs that are trained.
        train_tokens: activations that each of them is trained on.
    """

    saes: Sequence[tuple[SparseAutoencoder, float]]
    controls: Mapping[str, Control]
    draws: int
    control_samples: int
    n_tokens: int
    n_nulls: int
    model_bytes: int
    trained: int = 0
    train_tokens: int = 0

    @property
    def n_controls(self) -> int:
        """SAEs that are controls."""
        return len(self.saes) * sum(map(self.draws_of, self.controls.values()))

    def draws_of(self, control: Control) -> int:
        """Return how many draws there are of a control."""
        return self.draws if control.is_random else 1


@dataclass(frozen=True)
class Estimate:
    """What a check costs.

    Args:
        seconds: of the whole check.
        memory: most bytes at once.
        disk: bytes of files.
    """

    seconds: float
    memory: float
    disk: float


def estimate(sizes: Sizes, machine: Machine) -> Estimate:
    """Return what a check of these sizes costs on this machine."""
    controls = [
        control.cost(sae, sizes.control_samples, 2 * sizes.n_tokens, l0) * sizes.draws_of(control)
        for sae, l0 in sizes.saes
        for control in sizes.controls.values()
    ]
    making = sum(one.seconds(machine.flops, machine.bytes) for one in controls)
    reading = (sizes.control_samples + sizes.n_tokens * (2 + sizes.n_nulls)) * machine.capture
    encodings = sum(_encoding(sae) * (2 + sizes.n_nulls) for sae, _ in sizes.saes)
    encodings += sizes.trained * 2 * max(_encoding(sae) for sae, _ in sizes.saes)
    losses = (4 + len(sizes.saes) + sizes.n_controls + sizes.trained) * sizes.n_tokens * machine.replace
    seconds = _START + making + reading + losses + encodings * sizes.n_tokens / machine.flops
    memory = _memory(sizes) + max((one.memory for one in controls), default=0.0)
    return Estimate(seconds + training_seconds(sizes, machine), memory, _disk(sizes))


def training_seconds(sizes: Sizes, machine: Machine) -> float:
    """Return the seconds of training alone."""
    largest = max(_encoding(sae) for sae, _ in sizes.saes)
    return sizes.train_tokens * (sizes.trained * _BACKWARD * largest / machine.flops + machine.capture)


def tokens_for(seconds: float, sizes: Sizes, machine: Machine) -> int:
    """Return how many tokens of training fit into a time beside all the rest, at least one."""
    rest = seconds - estimate(replace(sizes, train_tokens=0), machine).seconds
    return max(1, int(rest / training_seconds(replace(sizes, train_tokens=1), machine)))


def fitted(sizes: Sizes, machine: Machine) -> tuple[Sizes, list[str]]:
    """Make draws and samples of controls smaller where memory is short, and say so.

    Raises:
        ValueError: if that is not enough.
    """
    limit, notes, given = _SHARE_OF_MEMORY * machine.memory, [], sizes
    while estimate(sizes, machine).memory > limit and sizes.draws > LEAST_DRAWS:
        sizes = replace(sizes, draws=sizes.draws - 1)
    while estimate(sizes, machine).memory > limit and sizes.control_samples > _LEAST_SAMPLES:
        sizes = replace(sizes, control_samples=sizes.control_samples // 2)
    if (needed := estimate(sizes, machine).memory) > limit:
        raise ValueError(
            f"memory: the check needs about {in_bytes(needed)} and {in_bytes(machine.memory)} are free; name fewer "
            "--controls, fewer SAEs, or --nulls '[]'"
        )
    for name in ("draws", "control_samples"):
        if (before := getattr(given, name)) != (now := getattr(sizes, name)):
            notes.append(f"Memory is short: {name} is {now:,} and not {before:,}.")
    return sizes, notes


def summary(sizes: Sizes, cost: Estimate, machine: Machine, where: str) -> str:
    """Return the three lines that a user reads before it starts."""
    beside = f"{sizes.n_controls} controls from {sizes.control_samples:,} activations"
    n, first = len(sizes.saes), sizes.saes[0][0]
    noun = noun_of(first.is_transcoder, first.crosscoder)
    trained = f", {sizes.trained} {noun}s trained on {sizes.train_tokens:,} tokens" if sizes.trained else ""
    return "\n".join(
        [
            f"time    about {duration(cost.seconds)}: {n} {noun}{'s' * (n > 1)} and {beside}{trained}, measured on "
            f"{sizes.n_tokens:,}",
            f"memory  about {in_bytes(cost.memory)} of {in_bytes(machine.memory)} that are free",
            f"disk    about {in_bytes(cost.disk)} in {where}",
        ]
    )


def duration(seconds: float) -> str:
    """Return a time as people say it.

    >>> duration(40.0), duration(400.0), duration(40_000.0)
    ('40 seconds', '7 minutes', '11 hours')
    """
    if seconds < 100:
        return f"{max(1, round(seconds))} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.0f} hours"


@torch.no_grad()
def measure(datamodule: ActivationDataModule, sae: SparseAutoencoder, part: str = "") -> Machine:
    """Run one batch of the model, one product of the encoder and one gather from the decoder.

    Args:
        datamodule: of the check, its model on the device where it will run.
        sae: the largest one, on the same device.
        part: of the activations that is edited; empty where there is one.
    """
    inputs = next(iter(datamodule.validation_inputs()), None)
    capture = replaced = 0.0
    if inputs is not None:
        _, valid = datamodule.source.capture(inputs)
        n_tokens = max(1, int(valid.sum()))
        capture = _seconds(lambda: datamodule.source.capture(inputs)) / n_tokens
        if datamodule.source.is_language_model:
            replaced = _seconds(lambda: edited_outputs(datamodule.source, inputs, _unchanged, part)) / n_tokens
    device = sae.W_dec.device
    x = torch.randn(_ROWS, sae.d_in, device=device)
    rows = torch.randint(sae.d_sae, (_GATHERED // sae.d_out + 1,), device=device)
    flops = _ROWS * _encoding(sae) / _seconds(lambda: sae.encode(x))
    gathered = len(rows) * sae.d_out * _FLOAT / _seconds(lambda: sae.W_dec.index_select(0, rows))
    return Machine(capture, replaced, flops, gathered, free_memory(device))


def model_bytes(source: Any) -> int:  # noqa: ANN401
    """Return the bytes of the parameters of a source's model; 0 where it has none."""
    model = getattr(source, "model", None)
    parameters = model.parameters() if isinstance(model, torch.nn.Module) else ()
    return sum(parameter.numel() * parameter.element_size() for parameter in parameters)


def free_memory(device: torch.device) -> float:
    """Return the bytes that are free on a device."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            values = dict(line.split(":") for line in file)
        return 1024.0 * int(values["MemAvailable"].split()[0])
    except (OSError, KeyError):  # no Linux
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def _encoding(sae: SparseAutoencoder) -> float:
    """Return the operations to encode one activation."""
    return 2.0 * sae.d_in * sae.d_sae


def _unchanged(x: Tensor) -> Tensor:
    return x


def _seconds(run: Callable[[], Any]) -> float:
    """Return the time of a second run: the first one warms up."""
    run()
    _wait()
    begin = time.perf_counter()
    run()
    _wait()
    return max(time.perf_counter() - begin, 1e-9)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _bytes_of(sae: SparseAutoencoder) -> float:
    if sae.is_transcoder:
        return float(2 * (sae.d_in + sae.d_out) * sae.d_sae * _FLOAT)
    return float(_TENSORS * sae.d_in * sae.d_sae * _FLOAT)


def _memory(sizes: Sizes) -> float:
    """Return the bytes of all SAEs, of what training them holds, of the samples, and of the model twice."""
    own = sum(_bytes_of(sae) for sae, _ in sizes.saes)
    controls = sum(
        _bytes_of_control(control, sae) * sizes.draws_of(control)
        for sae, _ in sizes.saes
        for control in sizes.controls.values()
    )
    # Gradients and both moments of Adam, for encoder and decoder.
    trained = sizes.trained * max(_bytes_of(sae) for sae, _ in sizes.saes) * (1 + 3 * 2 / _TENSORS)
    first, _ = sizes.saes[0]
    width = first.d_in + first.d_out if first.is_transcoder else first.d_in
    samples = 2 * sizes.control_samples * width * _FLOAT
    return own + controls + trained + samples + 2 * sizes.model_bytes


def _disk(sizes: Sizes) -> float:
    """Return the bytes of exported SAEs, one draw of each control, and of two checkpoints of those that are trained."""
    own = sum(_bytes_of(sae) for sae, _ in sizes.saes)
    controls = sum(_bytes_of_control(control, sae) for sae, _ in sizes.saes for control in sizes.controls.values())
    trained = sizes.trained * max(_bytes_of(sae) for sae, _ in sizes.saes) * (1 + 2 * 3)
    return own + controls + trained


def _bytes_of_control(control: Control, sae: SparseAutoencoder) -> float:
    with torch.device("meta"):  # its shape is all that is asked for
        return _bytes_of(control.new(sae))
