"""What can be refused of a configuration before a model is loaded, which may take minutes.

Each class checks its own arguments when it is made, which happens late: the optimizer after the model and data, a
callback's metric after the first validation. So what needs neither model nor data is tried here.
"""

import json
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from torch.optim import Optimizer

from sae_lightning.error_messages import PLATEAU
from sae_lightning.members import LoggedName
from sae_lightning.saes import SparseAutoencoder
from sae_lightning.saes.optimizers import check_learning_rates
from sae_lightning.trainer import check_trainer_numbers


def check_before_start(settings: Any) -> None:
    """Check a parsed configuration.

    Args:
        settings: of the command, with `model`, `data` and `trainer`.

    Raises:
        ValueError: says what was given, what was expected and how to mend it.
    """
    check_trainer_numbers(settings.trainer.as_dict())
    _check_validation_interval(settings)
    for callback in _as_list(settings.trainer.callbacks):
        _check_monitor(callback)
    for place, sae in _saes(settings.model):
        _check_k(place, sae, settings.data)
        _check_optimizer(place, sae)
    _check_parts(settings)


def _check_validation_interval(settings: Any) -> None:
    """Lightning compares the two only when the data are there."""
    interval, sizes = settings.trainer.get("val_check_interval"), settings.data.get("init_args") or {}
    train_samples, batch_size = sizes.get("train_samples"), sizes.get("batch_size")
    if not isinstance(interval, int) or not train_samples or not batch_size:
        return
    if interval > (n_batches := train_samples // batch_size) > 0 and settings.trainer.get("check_val_every_n_epoch"):
        raise ValueError(
            f"trainer.val_check_interval={interval}: expected 1 to {n_batches}, the batches of an epoch "
            f"(data.train_samples={train_samples}, data.batch_size={batch_size}); leave it out to validate at the end"
        )


def _check_monitor(callback: Any) -> None:
    """Refuse a metric to follow whose name no logged value can have: it would be missed after the first validation."""
    monitor = (_get(callback, "init_args") or {}).get("monitor")
    if isinstance(monitor, str) and LoggedName.parse(monitor) is None and not monitor.startswith("lr-"):
        name = str(_get(callback, "class_path")).rpartition(".")[2]
        raise ValueError(
            f"trainer.callbacks: {name} has monitor={monitor}, which is not the name of a logged value; expected "
            "STAGE/METRIC/POLICY/SEED, such as val/explained_variance/trained/0"
        )


def _check_k(place: str, sae: Any, data: Any) -> None:
    """Refuse more latents for a sample than an SAE can have."""
    k, d_sae, factor = (_arguments(sae).get(name) for name in ("k", "d_sae", "expansion_factor"))
    if not isinstance(k, int):
        return
    if d_sae is not None and k > d_sae:
        raise ValueError(f"{place}.k={k}: expected a whole number, 1 to {d_sae}, since {place}.d_sae={d_sae}")
    widest = _widest(data)
    if d_sae is None and factor and widest and k > factor * widest:
        raise ValueError(
            f"{place}.k={k}: expected a whole number, 1 to d_sae; with {place}.expansion_factor={factor:g} and "
            f"no layer of the model wider than {widest}, d_sae is at most {factor * widest:g}"
        )


def _widest(data: Any) -> int | None:
    """Return a width that no layer of a local model exceeds, from its config.json; None where that is unknown."""
    arguments = _arguments(data)
    if isinstance(d_in := arguments.get("d_in"), int):
        return d_in
    config = Path(str(arguments.get("model"))) / "config.json"
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    numbers = [value for name, value in _numbers(content) if "vocab" not in name and "position" not in name]
    n_hooks = len(hooks) if isinstance(hooks := arguments.get("hook"), Mapping) else 1
    return 4 * n_hooks * max(numbers, default=0) or None  # queries, keys and values may lie side by side


def _numbers(content: Any) -> Iterator[tuple[str, int]]:
    for name, value in content.items() if isinstance(content, dict) else ():
        if isinstance(value, dict):
            yield from _numbers(value)
        elif isinstance(value, int) and not name.endswith("_id"):
            yield name, value


def _check_optimizer(place: str, sae: Any) -> None:
    """Make the optimizer and the schedule of a parameter, and drop them."""
    arguments = _arguments(sae)
    given = arguments.get("optimizer")
    if _get(given, "class_path") is None:
        return
    optimizer: Optimizer = _make(f"{place}.optimizer", given, [torch.zeros(1, requires_grad=True)])
    try:
        check_learning_rates(optimizer)
    except ValueError as error:
        raise ValueError(f"{place}.optimizer: {error}") from error
    scheduler = arguments.get("lr_scheduler")
    if _get(scheduler, "class_path") is None:
        return
    if str(_get(scheduler, "class_path")).endswith("ReduceLROnPlateau"):
        raise ValueError(f"{place}.lr_scheduler: {PLATEAU}")
    _make(f"{place}.lr_scheduler", scheduler, optimizer)


def _make(place: str, given: Any, first: Any) -> Any:
    kind = pkgutil.resolve_name(_get(given, "class_path"))
    try:
        return kind(first, **{name: _plain(value) for name, value in _arguments(given).items()})
    except (ValueError, TypeError, RuntimeError, AssertionError) as error:
        raise ValueError(f"{place}: {kind.__name__} refuses its arguments: {error}") from error


def _check_parts(settings: Any) -> None:
    """Refuse a lone SAE for several parts of activations: it would read them side by side, as one."""
    kind = pkgutil.resolve_name(settings.model.class_path)
    if not (isinstance(kind, type) and issubclass(kind, SparseAutoencoder)):
        return
    arguments = _arguments(settings.model)
    reads_hooks = arguments.get("source") is not None or arguments.get("crosscoder")
    hooks, nulls, answer = (_arguments(settings.data).get(name) for name in ("hook", "nulls", "d_answer"))
    if answer is not None and not reads_hooks:
        raise ValueError(
            f"data.d_answer={answer}: a lone {kind.__name__} would read both sides as one; a transcoder has "
            "model.source=read and model.target=answer, a crosscoder model.crosscoder=true, and a SanityPanel reads "
            "each side by itself"
        )
    for name, parts in (("hook", hooks if isinstance(hooks, Mapping) and len(hooks) > 1 else {}), ("nulls", nulls)):
        if parts and not (reads_hooks and name == "hook"):
            raise ValueError(
                f"data.{name}={', '.join(parts)}: a lone {kind.__name__} would read several activations side by side, "
                "as one; take model=SanityPanel, which trains SAEs for each, or "
                + (
                    "name one hook, or model.source and model.target, or model.crosscoder=true"
                    if name == "hook"
                    else "leave out data.nulls"
                )
            )


def _saes(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield the SAE of a configuration with its place: the model itself, or what a panel makes."""
    inner = _arguments(model).get("sae")
    yield ("model", model) if inner is None else ("model.sae", inner)


def _arguments(given: Any) -> Mapping[str, Any]:
    arguments = _get(given, "init_args")
    return vars(arguments) if isinstance(arguments, Namespace) else arguments or {}


def _get(given: Any, name: str) -> Any:
    return given.get(name) if isinstance(given, Namespace | Mapping) else None


def _plain(value: Any) -> Any:
    return value.as_dict() if isinstance(value, Namespace) else value


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]
