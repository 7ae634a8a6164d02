"""Which settings make runs one experiment: everything that decides what is trained on what, without the seeds.

Left out are seeds, where things are written, callbacks that watch, and what changes speed alone. What belongs to one
freeze policy (its class, its arguments, its start) stands apart: two runs with different policies are one experiment,
two runs with one policy under different settings are not.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sae_lightning.class_paths import current_class_paths
from sae_lightning.members import TRAINED
from sae_lightning.runs.defaults import default_of
from sae_lightning.runs.run import Run, choice

_SEEDS = ("seed", "seeds")
_ONLY_SPEED = ("llm_batch_size", "images_per_forward", "n_workers", "verify", "local_folder")
_WATCHING = (
    "accelerator", "devices", "num_nodes", "strategy", "logger", "callbacks", "default_root_dir",
    "enable_checkpointing", "enable_progress_bar", "enable_model_summary", "enable_autolog_hparams",
    "log_every_n_steps", "val_check_interval", "check_val_every_n_epoch", "num_sanity_val_steps",
    "limit_test_batches", "limit_predict_batches", "deterministic", "benchmark", "inference_mode",
    "use_distributed_sampler", "profiler", "detect_anomaly", "barebones", "plugins", "sync_batchnorm",
    "model_registry",
)  # fmt: skip
_WATCHERS = (
    "ModelCheckpoint", "OnExceptionCheckpoint", "LearningRateMonitor", "DeviceStatsMonitor", "ThroughputMonitor",
    "TQDMProgressBar", "RichProgressBar", "ProgressBar", "ModelSummary", "RichModelSummary",
)  # fmt: skip
_OURS = "sae_lightning."
_WATCHING_ROOMS = ("sae_lightning.evaluators", "sae_lightning.callbacks")
_UNSET = object()


@dataclass(frozen=True)
class Settings:
    """Settings of a run that are compared with those of another.

    Args:
        shared: values by option, such as `data.d_in`.
        policies: the same by policy, for its own.
        seeds: those that the data and the starts are drawn from; seeds of the SAEs themselves are in their names.
        is_panel: whether the options of the SAE are `model.sae.k`, and not `model.k`.
    """

    shared: Mapping[str, Any]
    policies: Mapping[str, Mapping[str, Any]]
    seeds: Mapping[str, Any]
    is_panel: bool

    @classmethod
    def of(cls, run: Run) -> "Settings | None":
        """Read the settings of a run; None where it has none."""
        return _Reader(run).settings() if run.config else None

    def differences(self, other: "Settings", is_training_known: bool = True) -> list[str]:
        """Return each option in which they differ, with both values; none where they are one experiment.

        Args:
            other: of the other run.
            is_training_known: False where one run may have measured SAEs that the other one trained: then how they were
                trained, and options that one of them lacks, do not count.
        """
        return [text for _, text in self._differing(other, is_training_known)]

    def differing_options(self, other: "Settings") -> set[str]:
        """Return the options in which they differ, such as `model.sae.k`, or `freeze.min_cosine` of some policy."""
        return {option for option, _ in self._differing(other)}

    def _differing(self, other: "Settings", is_training_known: bool = True) -> Iterator[tuple[str, str]]:
        """Yield each option in which they differ, and the text that says how."""
        for option in dict.fromkeys([*self.shared, *other.shared]):
            measured = (
                not option.startswith(("trainer.", "ckpt_path")) and option in self.shared and option in other.shared
            )
            if is_training_known or measured or "limit_val" in option:
                yield from self._difference(option, self.shared, other, other.shared)
        for policy in self.policies:
            if policy in other.policies:
                own, others = self.policies[policy], other.policies[policy]
                for option in dict.fromkeys([*own, *others]):
                    yield from self._difference(option, own, other, others, f" of {policy}")

    def _difference(
        self, option: str, own: Mapping[str, Any], other: "Settings", others: Mapping[str, Any], whose: str = ""
    ) -> Iterator[tuple[str, str]]:
        one, another = (values.get(option, _UNSET) for values in (own, others))
        # A version that does not have the option did what its default says, where that is known.
        one = _default(others, option, another) if one is _UNSET else one
        another = _default(own, option, one) if another is _UNSET else another
        if one != another:
            typed = option if self.is_panel or other.is_panel else option.replace("model.sae", "model", 1)
            yield option, f"{typed}{whose} {_text(one)}, {_text(another)}"


def _default(values: Mapping[str, Any], option: str, value: Any) -> Any:
    """Return the default of an option that one run lacks, by the class that it belongs to in the other run."""
    parent, _, argument = option.rpartition(".")
    kind = "lightning.pytorch.Trainer" if parent == "trainer" else values.get(parent, "")
    default = _plain_trainer_value(option, default_of(str(kind), argument, _UNSET))
    return None if default is _UNSET and value is None else default


class _Reader:
    def __init__(self, run: Run) -> None:
        self._run, self._all = run, current_class_paths(run.settings)
        self._seeds: dict[str, Any] = {}

    def settings(self) -> Settings:
        shared = dict(self._flat("data", self._all.get("data"), _ONLY_SPEED))
        model = choice(self._all.get("model"))
        arguments = dict(model["init_args"])
        is_panel = "sae" in arguments
        sae = choice(arguments.pop("sae")) if is_panel else model
        if is_panel:
            policies = self._of_panel(arguments, sae)
            arguments = {name: value for name, value in arguments.items() if name not in ("d_in", *_SEEDS)}
            shared |= dict(self._flat("model", arguments))
        else:
            freeze, init = self._all.get("freeze"), sae["init_args"].get("init")
            policies = {_policy_name(choice(freeze)["class_path"]): self._of_policy(freeze, init)}
        own = {name: value for name, value in sae["init_args"].items() if name not in ("init", "d_in", *_SEEDS)}
        shared |= dict(self._flat("model.sae", {"class_path": sae["class_path"], "init_args": own}))
        return Settings(shared | self._of_trainer(), policies, self._seeds, is_panel)

    def _of_panel(self, arguments: dict[str, Any], sae: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Take what belongs to single policies out of the arguments of a panel."""
        given, inits = arguments.pop("policies", None), arguments.pop("inits", None) or {}
        init = sae["init_args"].get("init")
        if "expansion_factors" in arguments:
            names = {TRAINED: None} | (given or {})
        else:
            names = _default_policies() if given is None else given
        policies = {name: self._of_policy(freeze, inits.get(name, init)) for name, freeze in names.items()}
        for argument, own in list(arguments.items()):
            if isinstance(own, Mapping) and own and set(own) <= set(names):
                del arguments[argument]
                for name, value in own.items():
                    policies.setdefault(name, {}).update(self._flat(argument, value))
        return policies

    def _of_policy(self, freeze: Any, init: Any) -> dict[str, Any]:
        freeze = choice(freeze or {"class_path": f"{_OURS}freeze.NoFreeze"})
        return dict(self._flat("freeze", freeze)) | dict(self._flat("init", init))

    def _of_trainer(self) -> dict[str, Any]:
        trainer = self._all.get("trainer") or {}
        values = {f"trainer.{key}": value for key, value in trainer.items() if key not in _WATCHING}
        for callback in trainer.get("callbacks") or ():
            path = choice(callback)["class_path"]
            if not path.startswith(_WATCHING_ROOMS) and path.split(".")[-1] not in _WATCHERS:
                values |= dict(self._flat(f"trainer.callbacks.{path.split('.')[-1]}", callback))
        values = {option: _plain_trainer_value(option, value) for option, value in values.items()}
        if values.get("trainer.gradient_clip_val") is None:
            values.pop("trainer.gradient_clip_algorithm", None)
        ranks = [int(start["devices"].split()[0]) for start in self._run.starts if start.get("devices")]
        values |= {"trainer.devices": ranks[0]} if ranks and ranks[0] > 1 else {}
        if self._run.is_fit and self._run.settings.get("ckpt_path"):
            values["ckpt_path"] = self._run.settings["ckpt_path"]
        return values

    def _flat(self, option: str, value: Any, left_out: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
        """Yield settings in one level; seeds go where seeds are kept."""
        if isinstance(value, Mapping) and "class_path" in value:
            yield option, str(value["class_path"])
            yield from self._flat(option, value.get("init_args") or {}, left_out)
        elif isinstance(value, Mapping):
            for key, own in value.items():
                if key in _SEEDS:
                    self._seeds[f"{option}.{key}"] = own
                elif key not in left_out:
                    yield from self._flat(f"{option}.{key}", own)
        elif isinstance(value, list) and any(isinstance(own, Mapping) for own in value):
            for number, own in enumerate(value):
                yield from self._flat(f"{option}.{number}", own)
        else:
            yield option, value


def _policy_name(class_path: str) -> str:
    """Name the policy of a lone SAE as its metrics do: by its class, a word for each capital."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", class_path.split(".")[-1]).lower()
    return TRAINED if snake in ("", "no_freeze") else snake


def _default_policies() -> dict[str, Any]:
    """Return the policies of a panel that names none."""
    classes = {TRAINED: "NoFreeze", "frozen_decoder": "FrozenDecoder", "soft_frozen_decoder": "SoftFrozenDecoder"}
    classes["frozen_encoder"] = "FrozenEncoder"
    return {name: {"class_path": f"{_OURS}freeze.{own}"} for name, own in classes.items()}


def _plain_trainer_value(option: str, value: Any) -> Any:
    """Return one spelling of a trainer's value that has several, None where it changes nothing."""
    if not option.startswith("trainer."):
        return value
    same_as_none = {
        "precision": ("32-true", "32", 32),
        "max_steps": (-1,),
        "gradient_clip_val": (0,),
        "accumulate_grad_batches": (1,),
        "limit_train_batches": (1.0,),
        "limit_val_batches": (1.0,),
        "overfit_batches": (0,),
        "fast_dev_run": (False,),
        "reload_dataloaders_every_n_epochs": (0,),
        "max_epochs": (1,),
    }
    name = option.removeprefix("trainer.")
    if name in ("limit_train_batches", "limit_val_batches") and isinstance(value, int):
        return value  # one batch, where 1.0 is all of them
    if name == "gradient_clip_algorithm":
        return value or "norm"
    return None if value in same_as_none.get(name, ()) else value


def _text(value: Any) -> str:
    if value is _UNSET or value is None:
        return "unset" if value is _UNSET else "null"
    return str(value).rpartition(".")[2] if str(value).startswith((_OURS, "torch.")) else str(value)
