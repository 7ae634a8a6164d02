"""What a check will cost, from its sizes and a short measurement of the machine: told before it starts."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sae_lightning.datamodules import ActivationDataModule
from sae_lightning.saes import SparseAutoencoder

_ROWS = 1024
_FLOAT = 4
_TENSORS_OF_AN_SAE = 3
"""Encoder, decoder and the start of the decoder."""
_SMALL = ("principal_components", "raw_dimensions")
"""Controls with about as many latents as the activations have dimensions."""
_PASSES_TO_START = {"random_encoder": 8, "random_encoder_covariance": 8, "permuted_decoder": 1}
_PASSES_OF_TIED = 4
_LEAST_SAMPLES = 8192
_SHARE_OF_MEMORY = 0.85
_BACKWARD = 3.0
"""A training step takes this many times as long as encoding."""


@dataclass(frozen=True)
class Machine:
    """What was measured of the machine.

    Args:
        capture: seconds to read the activations of one token.
        replace: seconds to run the whole model on one token; 0 where there is none.
        product: multiplications and additions in a second, of the encoder's product.
        memory: bytes that are free where the SAEs will be.
    """

    capture: float
    replace: float
    product: float
    memory: int


@dataclass(frozen=True)
class Sizes:
    """What a check is made of.

    Args:
        d_in: width of an activation.
        d_sae: latents of the largest SAE.
        l0: of the densest SAE.
        n_references: SAEs that are checked.
        controls: names, with whether they are random.
        draws: of each control that is random.
        control_samples: activations that controls are made from.
        n_tokens: held-out activations.
        n_nulls: null versions of the activations.
        model_bytes: of the model.
        trained: SAEs that are trained.
        train_tokens: activations that each of them is trained on.
    """

    d_in: int
    d_sae: int
    l0: float
    n_references: int
    controls: Mapping[str, bool]
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
        return self.n_references * sum(self.draws if is_random else 1 for is_random in self.controls.values())

    @property
    def encode(self) -> float:
        """Multiplications and additions to encode one activation."""
        return 2.0 * self.d_in * self.d_sae


@dataclass(frozen=True)
class Cost:
    """An estimate.

    Args:
        seconds: of the whole check.
        memory: most bytes at once.
        disk: bytes of files.
    """

    seconds: float
    memory: float
    disk: float


def cost_of(sizes: Sizes, machine: Machine) -> Cost:
    """Return what a check of these sizes costs on this machine."""
    passes = sum(_passes(name, sizes) * _share(name, sizes) * _draws(name, sizes) for name in sizes.controls)
    starting = sizes.n_references * passes * sizes.control_samples * sizes.encode / machine.product
    reading = sizes.control_samples * machine.capture + sizes.n_tokens * machine.capture * (2 + sizes.n_nulls)
    evaluated = sum(_evaluated(name, sizes) * _share(name, sizes) * _draws(name, sizes) for name in sizes.controls)
    n_encoded = sizes.n_references * (evaluated + 2 + sizes.n_nulls) + 2 * sizes.trained
    measuring = n_encoded * sizes.n_tokens * sizes.encode / machine.product
    losses = (4 + sizes.n_references + sizes.n_controls + sizes.trained) * sizes.n_tokens * machine.replace
    return Cost(
        starting + reading + measuring + losses + training_seconds(sizes, machine), _memory(sizes), _disk(sizes)
    )


def training_seconds(sizes: Sizes, machine: Machine) -> float:
    """Return the seconds of training alone."""
    step = sizes.trained * _BACKWARD * sizes.encode / machine.product + machine.capture
    return sizes.train_tokens * step


def tokens_for(seconds: float, sizes: Sizes, machine: Machine) -> int:
    """Return how many tokens of training fit into a time beside all the rest, at least one."""
    rest = seconds - cost_of(replace(sizes, train_tokens=0), machine).seconds
    return max(1, int(rest / training_seconds(replace(sizes, train_tokens=1), machine)))


def fitted(sizes: Sizes, machine: Machine) -> tuple[Sizes, list[str]]:
    """Make draws and samples of controls smaller where memory is short, and say so.

    Raises:
        ValueError: if that is not enough.
    """
    limit, notes, given = _SHARE_OF_MEMORY * machine.memory, [], sizes
    while cost_of(sizes, machine).memory > limit and sizes.draws > 1:
        sizes = replace(sizes, draws=sizes.draws - 1)
    while cost_of(sizes, machine).memory > limit and sizes.control_samples > _LEAST_SAMPLES:
        sizes = replace(sizes, control_samples=sizes.control_samples // 2)
    if (needed := cost_of(sizes, machine).memory) > limit:
        raise ValueError(
            f"memory: the check needs about {_bytes(needed)} and {_bytes(machine.memory)} are free; name fewer "
            "--controls, fewer SAEs, or --nulls '[]'"
        )
    for name in ("draws", "control_samples"):
        if (before := getattr(given, name)) != (now := getattr(sizes, name)):
            notes.append(f"Memory is short: {name} is {now:,} and not {before:,}.")
    return sizes, notes


def told(sizes: Sizes, cost: Cost, machine: Machine, where: str) -> str:
    """Return the three lines that a user reads before it starts."""
    beside = f"{sizes.n_controls} controls from {sizes.control_samples:,} activations"
    trained = f", {sizes.trained} SAEs trained on {sizes.train_tokens:,} tokens" if sizes.trained else ""
    return "\n".join(
        [
            f"time    about {duration(cost.seconds)}: {sizes.n_references} SAE{'s' * (sizes.n_references > 1)} and "
            f"{beside}{trained}, measured on {sizes.n_tokens:,}",
            f"memory  about {_bytes(cost.memory)} of {_bytes(machine.memory)} that are free",
            f"disk    about {_bytes(cost.disk)} in {where}",
        ]
    )


def duration(seconds: float) -> str:
    """Return a time as people say it.

    >>> duration(40), duration(400), duration(40_000)
    ('40 seconds', '7 minutes', '11 hours')
    """
    if seconds < 100:
        return f"{max(1, round(seconds))} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.0f} hours"


@torch.no_grad()
def measure(datamodule: ActivationDataModule, sae: SparseAutoencoder) -> Machine:
    """Run one batch of the model and one product of the encoder.

    Args:
        datamodule: of the check, its model on the device where it will run.
        sae: the largest one, on the same device.
    """
    inputs = next(iter(datamodule.validation_inputs()), None)
    capture = replaced = 0.0
    if inputs is not None:
        n_tokens = max(1, int(inputs.mask.sum())) if hasattr(inputs, "mask") else datamodule.rows_at_once
        capture = _seconds(lambda: datamodule.source.capture(inputs)) / n_tokens
        if datamodule.source.is_language_model:
            replaced = _seconds(lambda: datamodule.source.replace(inputs, _unchanged)) / n_tokens
    x = torch.randn(_ROWS, sae.d_in, device=sae.W_dec.device)
    product = 2.0 * _ROWS * sae.d_in * sae.d_sae / _seconds(lambda: sae.encode(x))
    return Machine(capture, replaced, product, free_memory(sae.W_dec.device))


def model_bytes(source: Any) -> int:  # noqa: ANN401
    """Return the bytes of the parameters of a source's model; 0 where it has none."""
    model = getattr(source, "model", None)
    parameters = model.parameters() if isinstance(model, torch.nn.Module) else ()
    return sum(parameter.numel() * parameter.element_size() for parameter in parameters)


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            values = dict(line.split(":") for line in file)
        return int(values["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        import os

        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _unchanged(x: Tensor) -> Tensor:
    return x


def _seconds(run: Callable[[], Any]) -> float:
    """Return the time of a second run: the first one warms up."""
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    begin = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return max(time.perf_counter() - begin, 1e-9)


def _draws(name: str, sizes: Sizes) -> int:
    return sizes.draws if sizes.controls[name] else 1


def _share(name: str, sizes: Sizes) -> float:
    """Return the latents of a control as a share of those of the SAE."""
    return min(1.0, 2 * sizes.d_in / sizes.d_sae) if name in _SMALL else 1.0


def _passes(name: str, sizes: Sizes) -> float:
    """Return how often making a control encodes each sample, or does as much."""
    if name.endswith("_pursuit"):
        return sizes.l0
    return _PASSES_TO_START.get(name, _PASSES_OF_TIED)


def _evaluated(name: str, sizes: Sizes) -> float:
    """Return how often measuring a control encodes each activation: in the validation, and in the model."""
    return 2 * (sizes.l0 if name.endswith("_pursuit") else 1.0)


def _memory(sizes: Sizes) -> float:
    one = _TENSORS_OF_AN_SAE * sizes.d_in * sizes.d_sae * _FLOAT
    controls = sizes.n_references * sum(one * _share(name, sizes) * _draws(name, sizes) for name in sizes.controls)
    trained = sizes.trained * one * 5 / 3  # gradients and both moments of Adam, without the start of the decoder
    samples = 3 * sizes.control_samples * sizes.d_in * _FLOAT
    return controls + trained + sizes.n_references * one + samples + 2 * sizes.model_bytes


def _disk(sizes: Sizes) -> float:
    one = _TENSORS_OF_AN_SAE * sizes.d_in * sizes.d_sae * _FLOAT
    kept = sizes.n_references * (1 + sum(_share(name, sizes) for name in sizes.controls))
    return one * (kept + 4 * sizes.trained)


def _bytes(n: float) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e8 else f"{max(1, n / 1e6):.0f} MB"
