"""``sae sweep``: find the learning rate at which each policy of a SanityPanel trains best.

    sae sweep --config CONFIG --lr 3e-4,1e-3,3e-3

A baseline at a learning rate that suits the trained SAE may lose for that alone. Every policy is trained at every rate,
side by side on the same batches, with one seed. The options are those of ``sae fit``; evaluators of the configuration
are left out, and fewer ``--data.train_samples`` will often do. The best rate of a policy is the one with the lowest
training loss in the last tenth of the run: held-out activations judge the SAEs later, and choose nothing here. It
prints the losses and explained variances, and writes best_lr.yaml, a second ``--config`` for ``sae fit``.
"""

import copy
import math
import pkgutil
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser
from typing_extensions import override

from sae_lightning.callbacks import MetricsFile, Opening, Speed, ThroughputBar
from sae_lightning.checks import check_above
from sae_lightning.commands.fit import SAECLI
from sae_lightning.evaluators import Convergence, Evaluator, Reconstruction, Sparsity
from sae_lightning.members import LoggedName, Member
from sae_lightning.moving_line import wrapped
from sae_lightning.panel import DEFAULT_POLICIES, SanityPanel
from sae_lightning.tables import lay_out
from sae_lightning.trainer import run_folder
from sae_lightning.whole_files import write_whole

BEST_LR_FILE = "best_lr.yaml"
_PANEL = "sae_lightning.panel.SanityPanel"


def main(args: list[str]) -> None:
    """Train a panel at several learning rates, and print which is best for each policy."""
    if {"-h", "--help"} & {*args[1:]}:
        paragraphs = "\n\n".join(" ".join(part.split()) for part in __doc__.replace("``", "").split("\n\n"))
        print(wrapped(f"usage: sae sweep --config CONFIG --lr RATES [options of sae fit]\n\n{paragraphs}"))
        return
    SweepCLI(["fit", *args[1:]])


class SweepCLI(SAECLI):
    """``sae fit`` of a panel whose policies are those of the configuration, each at every rate."""

    rates: list[float]
    place: dict[str, tuple[str, float]]
    """Policy and rate of each policy of the panel that is trained."""

    @override
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        super().add_arguments_to_parser(parser)
        parser.add_argument("--lr", type=str, required=True, help="Learning rates, such as 3e-4,1e-3,3e-3.")

    @override
    def before_instantiate_classes(self) -> None:
        self.rates = rates_of(self.settings.lr)
        if self.settings.get("ckpt_path") is not None:
            raise ValueError("ckpt_path: sae sweep begins anew; resume a single run with sae fit")
        model, trainer = self.settings.model, self.settings.trainer
        if pkgutil.resolve_name(model.class_path) is not SanityPanel:
            raise ValueError(
                f"model={model.class_path.split('.')[-1]}: sae sweep compares the policies of a SanityPanel; give "
                "--model SanityPanel --model.sae CLASS, also for a single SAE (--model.policies.trained NoFreeze)"
            )
        if trainer.max_epochs == trainer.max_steps == -1:
            raise ValueError(
                "trainer.max_epochs=-1 without an end: the last tenth of a run decides; give trainer.max_steps or "
                "trainer.max_epochs"
            )
        arguments = model.init_args
        self.place = spread(arguments, self.rates)
        arguments.seeds = arguments.seeds[:1]
        given = trainer.callbacks or []
        given = given if isinstance(given, list) else [given]
        trainer.callbacks = [one for one in given if not issubclass(pkgutil.resolve_name(one.class_path), Evaluator)]
        trainer.enable_checkpointing = False
        super().before_instantiate_classes()

    @override
    def _default_callbacks(self) -> list[tuple[Callback, type]]:
        """Return the callbacks that print and keep the results; no SAE of a sweep is kept."""
        defaults: list[tuple[Callback, type]] = [(Reconstruction(), Reconstruction), (Sparsity(), Sparsity)]
        defaults.append((Speed(), Speed))
        if self.settings.trainer.enable_progress_bar is not False:
            defaults += [(Opening(), Opening), (ThroughputBar(), ProgressBar)]
        return [*defaults, (Convergence(), Convergence), (MetricsFile(), MetricsFile)]

    @override
    def after_fit(self) -> None:
        """Print the table, and write the best rate of each policy."""
        run, panel = run_folder(self.trainer), self.model
        if panel.loss_curve is None:
            raise ValueError("trainer: the run has no known number of steps; give trainer.max_steps or max_epochs")
        losses = dict(zip(panel.members, panel.loss_curve.last_tenth().tolist(), strict=True))
        if not self.trainer.is_global_zero:
            return
        explained = {member: self._logged("explained_variance", member) for member in panel.members}
        print("\n" + table_of(self.place, self.rates, losses, explained))
        best = best_rates(self.place, losses)
        print("\n".join(notes_of(best, self.rates)))
        if run is None:
            return
        write_whole(run / BEST_LR_FILE, best_lr_yaml(best))
        print(f"\nbest rates, to be given to sae fit as the last --config:\n{run / BEST_LR_FILE}")

    def _logged(self, metric: str, member: Member) -> float | None:
        value = self.trainer.callback_metrics.get(str(LoggedName.of("val", metric, member)))
        return None if value is None else float(value)


def rates_of(text: str) -> list[float]:
    """Read learning rates, in ascending order.

    Raises:
        ValueError: if there are fewer than two, or one is no learning rate.
    """
    try:
        rates = [float(rate) for rate in text.strip("[]() ").split(",") if rate.strip()]
    except ValueError:
        raise ValueError(f"lr={text}: expected learning rates, such as 3e-4,1e-3,3e-3") from None
    for rate in rates:
        check_above(0, lr=rate)
    if len(rates) < 2 or len(set(rates)) < len(rates):
        raise ValueError(f"lr={text}: expected two learning rates or more, each once, such as 3e-4,1e-3,3e-3")
    return sorted(rates)


def spread(arguments: Namespace, rates: Sequence[float]) -> dict[str, tuple[str, float]]:
    """Put a policy for every policy and rate into the arguments of a panel.

    Args:
        arguments: of the configuration; changed in place.
        rates: learning rates.

    Returns:
        Policy and rate by the name of each new policy.
    """
    policies: Mapping[str, Any] = arguments.get("policies") or {
        policy.name: Namespace(class_path=f"{policy.__module__}.{policy.__qualname__}", init_args=Namespace())
        for policy in DEFAULT_POLICIES
    }
    inits: Mapping[str, Any] = arguments.get("inits") or {}
    if unknown := set(inits) - set(policies):
        raise ValueError(f"inits: {sorted(unknown)} not among the policies {sorted(policies)}")
    place = {f"{policy}_at_" + re.sub(r"\W", "_", f"{rate:g}"): (policy, rate) for policy in policies for rate in rates}
    if len(place) < len(policies) * len(rates):
        raise ValueError(f"lr={list(rates)}: rates that differ by so little have one name; take others")
    arguments.policies = {name: copy.deepcopy(policies[policy]) for name, (policy, _) in place.items()}
    arguments.inits = {name: copy.deepcopy(inits[policy]) for name, (policy, _) in place.items() if policy in inits}
    arguments.learning_rates = {name: rate for name, (_, rate) in place.items()}
    return place


def best_rates(place: Mapping[str, tuple[str, float]], losses: Mapping[Member, float]) -> dict[str, float]:
    """Return the rate with the lowest loss for each policy; where there are several parts, on average of their logs."""
    scores: dict[str, dict[float, float]] = {}
    for member, loss in losses.items():
        policy, rate = place[member.policy]
        score = math.log(loss) if loss > 0 else -math.inf if loss == 0 else math.inf
        own = scores.setdefault(policy, {})
        own[rate] = own.get(rate, 0.0) + (score if not math.isnan(loss) else math.inf)
    return {policy: min(own, key=lambda rate: own[rate]) for policy, own in scores.items()}


def notes_of(best: Mapping[str, float], rates: Sequence[float]) -> list[str]:
    """Return a line for each policy, which warns of a best rate at an end of the range."""
    ends = {rates[0]: "the smallest given: try smaller ones", rates[-1]: "the largest given: try larger ones"}
    return [f"{policy}: {rate:g}" + (f", {ends[rate]}" if rate in ends else "") for policy, rate in best.items()]


def table_of(
    place: Mapping[str, tuple[str, float]],
    rates: Sequence[float],
    losses: Mapping[Member, float],
    explained: Mapping[Member, float | None],
) -> str:
    """Lay out the training loss of the last tenth, and in brackets the explained variance: a policy a row."""
    cells: dict[str, dict[float, str]] = {}
    for member, loss in losses.items():
        policy, rate = place[member.policy]
        held_out = explained[member]
        row = policy + (f" ({member.part})" if member.part else "")
        cells.setdefault(row, {})[rate] = f"{loss:.4g}" + ("" if held_out is None else f" ({held_out:.3f})")
    rows = [["learning rate", *(f"{rate:g}" for rate in rates)]]
    rows += [[name, *(row[rate] for rate in rates)] for name, row in cells.items()]
    note = (
        "training loss in the last tenth of the run, the geometric mean over batches, which decides (explained "
        "variance of held-out activations)"
    )
    return f"{lay_out(rows)}\n{wrapped(note)}"


def best_lr_yaml(best: Mapping[str, float]) -> str:
    """Return the configuration with the best rates, to be given after that of the run."""
    model = {"class_path": _PANEL, "init_args": {"learning_rates": dict(best)}}
    return "# Learning rates that sae sweep chose.\n" + yaml.safe_dump({"model": model}, sort_keys=False)
