"""Experiments that differ in one thing, such as the length of training: what a curve over that thing joins."""

from collections.abc import Sequence
from dataclasses import dataclass

from sae_lightning.runs.experiment import Experiment
from sae_lightning.runs.settings import Settings


@dataclass(frozen=True)
class Axis:
    """What experiments of a series differ in, by options such as `model.sae.k`; each stands for those below it.

    Args:
        options: in which they differ.
        follow: in which they may differ as well, since these are chosen for each by itself.
        never: in which they agree, though these are below one of the options.
    """

    options: Sequence[str]
    follow: Sequence[str] = ()
    never: Sequence[str] = ()

    def decides(self, option: str) -> bool:
        """Return whether it is one of the options."""
        return _is_below(option, self.options) and not _is_below(option, (*self.follow, *self.never))

    def allows(self, option: str) -> bool:
        """Return whether experiments of a series may differ in it."""
        return self.decides(option) or _is_below(option, self.follow)


_RATES = ("learning_rates", "model.learning_rates", "model.sae.optimizer", "model.sae.lr_scheduler")
_STEPS = ("model.sae.sparsity_warmup_steps", "model.sae.dead_after_samples")
VARIANT = Axis(("model.sae",), (*_RATES, *_STEPS), never=("model.sae.d_sae", "model.sae.expansion_factor"))
SPARSITY = Axis(
    ("model.sae.k", "model.sae.l1_coefficient", "model.sae.target_l0", "model.sae.penalty"), (*_RATES, *_STEPS)
)
LENGTH = Axis(
    (
        "data.train_samples",
        "trainer.max_steps",
        "trainer.max_epochs",
        "trainer.max_time",
        "trainer.limit_train_batches",
    ),
    (*_RATES, *_STEPS),
)
FREEDOM = Axis(("freeze",), _RATES)


def alike_but_for(experiments: Sequence[Experiment], axis: Axis) -> list[list[Experiment]]:
    """Group experiments that differ along an axis alone, in the order given; one without settings is left out."""
    groups: list[list[Experiment]] = []
    for experiment in experiments:
        for group in groups:
            if all(map(axis.allows, _differing(group[0], experiment))):
                group.append(experiment)
                break
        else:
            groups += [[experiment]] if experiment.runs[0].config else []
    return groups


def differ_along(experiments: Sequence[Experiment], axis: Axis) -> bool:
    """Return whether there are several, which differ in options of the axis itself."""
    return any(axis.decides(option) for other in experiments[1:] for option in _differing(experiments[0], other))


def _differing(one: Experiment, other: Experiment) -> set[str]:
    own, others = (Settings.of(experiment.runs[0]) for experiment in (one, other))
    return own.differing_options(others) if own and others else {"config.yaml"}


def _is_below(option: str, names: Sequence[str]) -> bool:
    return any(option == name or option.startswith(f"{name}.") for name in names)
