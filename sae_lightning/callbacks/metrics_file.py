"""Write ``metrics.jsonl``, ``items.safetensors`` and ``latents.safetensors``, as `runs` describes and reads them."""

import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from typing_extensions import override

from sae_lightning.distributed import join_members, world_size
from sae_lightning.evaluators.base import Evaluator, datamodule_of
from sae_lightning.evaluators.latent_scores import mean_over_draws
from sae_lightning.evaluators.scores import Scores
from sae_lightning.members import LoggedName, Member, Tag
from sae_lightning.metric import Metric
from sae_lightning.runs.items import write_items
from sae_lightning.runs.latents import write_latents
from sae_lightning.runs.metrics_lines import METRICS_FILE, Validation, forget_after
from sae_lightning.saes.fingerprint import fingerprint
from sae_lightning.saes.module import SAEModule
from sae_lightning.saes.saving import tensors_to_save
from sae_lightning.saes.splitting import whole
from sae_lightning.trainer import callbacks_of, run_folder

V = TypeVar("V")


class MetricsFile(Callback):
    """Append one line to ``metrics.jsonl`` of the run folder at each validation and after a test."""

    def __init__(self) -> None:
        self._samples = 0
        self._seconds_before_restart = 0.0
        self._started: float | None = None
        self._described: set[str] = set()

    @property
    def seconds(self) -> float:
        """Seconds since training began, without those between an interruption and the restart."""
        running = 0.0 if self._started is None else time.monotonic() - self._started
        return self._seconds_before_restart + running

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = time.monotonic()
        run = run_folder(trainer)
        if run is not None and trainer.is_global_zero:
            self._described = forget_after(run / METRICS_FILE, trainer.global_step)

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Tensor, batch_idx: int
    ) -> None:
        self._samples += len(batch) * world_size()

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Lightning keeps the last value of each name; one that this validation does not measure must not be written.
        for name in [name for name in trainer.callback_metrics if name.startswith("val/")]:
            del trainer.callback_metrics[name]

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._write(trainer, pl_module, "val")

    @override
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer, pl_module, "test")

    def _write(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        run = run_folder(trainer)
        if run is None:
            return
        fingerprints = join_members(fingerprints_of(pl_module))
        if not trainer.is_global_zero:
            return
        callbacks = callbacks_of(trainer)
        measured = measured_scores(callbacks)
        about = {scores.metric.name: scores.metric for scores in measured}
        values, floors = collect(trainer.callback_metrics, stage)
        datamodule = datamodule_of(trainer)
        line = Validation(
            trainer.global_step,
            self._samples,
            round(self.seconds, 3),
            values,
            floors,
            {name: metric for name, metric in about.items() if name not in self._described},
            datamodule.null_parts if datamodule is not None else (),
            sizes_with_references(pl_module.sizes, values) if isinstance(pl_module, SAEModule) else {},
            member_floors=by_tag({scores.metric.name: scores.member_floors for scores in measured}),
            repeats=by_tag({scores.metric.name: tuples(scores.repeats or {}) for scores in measured}),
            fingerprints=fingerprints,
            references=pl_module.references if isinstance(pl_module, SAEModule) else {},
            controls=pl_module.controls_for if isinstance(pl_module, SAEModule) else {},
        ).as_json()
        self._described |= set(about)
        run.mkdir(parents=True, exist_ok=True)
        write_items(run, trainer.global_step, measured)
        of_latents = [scores for one in callbacks if isinstance(one, Evaluator) for scores in one.latent_scores]
        write_latents(run, trainer.global_step, mean_over_draws(of_latents))
        with (run / METRICS_FILE).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())  # the line survives a failure of the machine

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"samples": self._samples, "seconds": self.seconds}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._samples = state_dict["samples"]
        self._seconds_before_restart = state_dict["seconds"]


def fingerprints_of(module: LightningModule) -> dict[Member, str]:
    """Return the fingerprint of each SAE that has its start, the one that it would have as an exported SAE.

    A collective call where SAEs are split over ranks; the first rank then has the fingerprints.
    """
    members = module.members if isinstance(module, SAEModule) else {}
    saes = {member: whole(sae) for member, sae in members.items() if sae.is_initialised}
    return {member: fingerprint(tensors_to_save(sae)) for member, sae in saes.items() if sae is not None}


def measured_scores(callbacks: Iterable[Callback]) -> list[Scores]:
    """Return the last scores of the evaluators among the callbacks.

    Raises:
        ValueError: if two evaluators describe a metric of the same name differently.
    """
    measured: list[Scores] = []
    about: dict[str, Metric] = {}
    for scores in [scores for one in callbacks if isinstance(one, Evaluator) for scores in one.measured.values()]:
        name = scores.metric.name
        if about.setdefault(name, scores.metric) != scores.metric:
            raise ValueError(
                f"two evaluators measure {name}, and describe it differently: {about[name]}, {scores.metric}"
            )
        measured.append(scores)
    return measured


def by_tag(by_metric: Mapping[str, Mapping[Member, V]]) -> dict[Tag, dict[Member, V]]:
    """Sort what is known of members by metric and part.

    >>> by_tag({"fvu": {Member("trained", 0, "early"): 1.0}})
    {Tag(metric='fvu', part='early'): {Member(policy='trained', seed=0, part='early'): 1.0}}
    """
    tags: dict[Tag, dict[Member, V]] = {}
    for metric, members in by_metric.items():
        for member, value in members.items():
            tags.setdefault(Tag(metric, member.part), {})[member] = value
    return tags


def tuples(repeats: Mapping[Member, Sequence[float]]) -> dict[Member, tuple[float, ...]]:
    """Return the values of each repeat as they are read back."""
    return {member: tuple(map(float, values)) for member, values in repeats.items()}


def sizes_with_references(
    sizes: Mapping[str, Sequence[str]], values: Mapping[Tag, Mapping[Member, float | None]]
) -> dict[str, Sequence[str]]:
    """Add to the sizes of policies those of references of one size, which `evaluators.sizes` names.

    >>> values = {Tag("fvu"): {Member("x8_isotropic", 0): 0.5, Member("pca", 0): 0.5}}
    >>> sizes_with_references({"x8": ("x8", "trained")}, values)["x8_isotropic"]
    ('x8', 'isotropic')
    """
    known = {size for size, _ in sizes.values()}
    policies = {member.policy for members in values.values() for member in members} - set(sizes)
    names = {policy: policy.partition("_") for policy in sorted(policies)}
    return {**sizes, **{policy: (size, name) for policy, (size, _, name) in names.items() if size in known and name}}


def collect(
    logged: Mapping[str, Tensor], stage: str
) -> tuple[dict[Tag, dict[Member, float | None]], dict[Tag, float | None]]:
    """Sort logged values by metric and member.

    Args:
        logged: values by name; those of other stages, and those whose name is no `LoggedName`, are left out.
        stage: ``val`` or ``test``.

    Returns:
        Values by metric and member, and floors by metric; None for a value that is not finite.
    """
    values: dict[Tag, dict[Member, float | None]] = {}
    floors: dict[Tag, float | None] = {}
    for text, tensor in logged.items():
        name = LoggedName.parse(text)
        if name is None or name.stage != stage:
            continue
        number = float(tensor)
        value = number if math.isfinite(number) else None
        if name.member is None:
            floors[name.tag] = value
        else:
            values.setdefault(name.tag, {})[name.member] = value
    return values, floors
