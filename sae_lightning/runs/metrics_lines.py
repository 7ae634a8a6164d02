"""``metrics.jsonl``: what a run measured, a line for each validation and test.

``{"format": 2, "step": 500, "samples": 2048000, "seconds": 61.2,
"metrics": {"fvu": {"trained": {"0": 0.21, "1": 0.22}, "frozen_decoder": {...}}}, "floors": {"fvu": 1.0},
"about": {"fvu": {"label": "Fraction of variance unexplained", "question": {...}, ...}}}``

``samples`` counts the activations that training consumed on all ranks, ``seconds`` the time since training began,
validations included; both go on counting over a restart. A value that is not finite is null. With several hooks the
metrics are called ``fvu@early``. ``about`` describes metrics by name (`Metric`), each in the first line that has it.
``nulls`` names the parts that are null versions of the activations. Where SAEs have several sizes, ``sizes`` says
which policies are of one size, and what they are there: ``{"x8_frozen_decoder": ["x8", "frozen_decoder"]}``.
``member_floors`` has, in the form of ``metrics``, the floors of single SAEs and references where these have their own
(their size, their live latents), and ``floors`` then the mean over SAEs. ``repeats`` has the values of each evaluator
seed whose mean is the value: ``{"probe_accuracy_k1": {"trained": {"0": [0.81, 0.84]}}}``. All lists have one length,
and place i is the same draw to every member. ``saes`` has the fingerprint of each SAE that was measured:
``{"trained/0": "5ca1ab1e00c0ffee"}``. ``references`` says by policy where an SAE was read from that is measured and not
trained, and ``controls`` by policy what a control of such an SAE controls for.

Format 1, of older versions, has no ``format``, ``about`` and ``nulls``, but ``better`` (``{"fvu": "lower"}``).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sae_lightning.members import Member, Tag
from sae_lightning.metric import Metric

V = TypeVar("V")

METRICS_FILE = "metrics.jsonl"
FORMAT = 2


@dataclass(frozen=True)
class Validation:
    """One line.

    Args:
        step: optimizer steps done.
        samples: activations that training consumed.
        seconds: since training began.
        values: of each metric by member; None for a value that is not finite.
        floors: of each metric that has one.
        about: descriptions of metrics that no line before has described, by name.
        nulls: parts that are null versions of the activations.
        sizes: by policy the size and what the policy is among those of that size; empty for SAEs of one size.
        better: in format 1 which way each metric is better.
        member_floors: floors of single members, of metrics where they have their own.
        repeats: by evaluator seed the values that each value is the mean of, where there are several.
        fingerprints: of the SAEs as they were measured; none of older versions.
        references: by policy where an SAE that is not trained was read from.
        controls: by policy what a control of a reference controls for.
    """

    step: int
    samples: int
    seconds: float
    values: Mapping[Tag, Mapping[Member, float | None]]
    floors: Mapping[Tag, float | None]
    about: Mapping[str, Metric] = field(default_factory=dict)
    nulls: tuple[str, ...] = ()
    sizes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    better: Mapping[Tag, Any] = field(default_factory=dict)
    member_floors: Mapping[Tag, Mapping[Member, float]] = field(default_factory=dict)
    repeats: Mapping[Tag, Mapping[Member, tuple[float, ...]]] = field(default_factory=dict)
    fingerprints: Mapping[Member, str] = field(default_factory=dict)
    references: Mapping[str, str] = field(default_factory=dict)
    controls: Mapping[str, str] = field(default_factory=dict)

    def plain_values(self) -> dict[str, dict[str, dict[str, float | None]]]:
        """Return the values by metric, policy and seed, as they stand in the line."""
        return _plain(self.values)

    def as_json(self) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "format": FORMAT,
            "step": self.step,
            "samples": self.samples,
            "seconds": self.seconds,
            "metrics": self.plain_values(),
            "floors": {str(tag): floor for tag, floor in self.floors.items()},
        }
        line |= {"about": {name: metric.as_json() for name, metric in self.about.items()}} if self.about else {}
        line |= {"nulls": list(self.nulls)} if self.nulls else {}
        line |= {"sizes": self.sizes} if self.sizes else {}
        line |= {"member_floors": _plain(self.member_floors)} if self.member_floors else {}
        line |= {"repeats": _plain(self.repeats)} if self.repeats else {}
        line |= {"saes": {str(member): text for member, text in self.fingerprints.items()}} if self.fingerprints else {}
        line |= {"references": dict(self.references)} if self.references else {}
        line |= {"controls": dict(self.controls)} if self.controls else {}
        return json.dumps(line, allow_nan=False)

    @classmethod
    def parse(cls, text: str) -> "Validation":
        """Read a line.

        Raises:
            ValueError: if it is none, or of a newer format.
        """
        line = json.loads(text)
        if (version := line.get("format", 1)) > FORMAT:
            raise ValueError(f"it has format {version}, and this version of sae_lightning reads up to {FORMAT}")
        return cls(
            line["step"],
            line["samples"],
            line["seconds"],
            _by_member(line["metrics"]),
            {Tag.parse(name): floor for name, floor in line["floors"].items()},
            {name: Metric.from_json(name, about) for name, about in line.get("about", {}).items()},
            tuple(line.get("nulls", ())),
            line.get("sizes", {}),
            {Tag.parse(name): way for name, way in line.get("better", {}).items()},
            _by_member(line.get("member_floors", {})),
            {
                tag: {member: tuple(of_member) for member, of_member in members.items()}
                for tag, members in _by_member(line.get("repeats", {})).items()
            },
            {Member.parse(key): text for key, text in line.get("saes", {}).items()},
            line.get("references", {}),
            line.get("controls", {}),
        )


def _plain(values: Mapping[Tag, Mapping[Member, V]]) -> dict[str, dict[str, dict[str, V]]]:
    """Return what is known of members by metric, policy and seed."""
    metrics: dict[str, dict[str, dict[str, V]]] = {}
    for tag, members in values.items():
        for member, value in members.items():
            metrics.setdefault(str(tag), {}).setdefault(member.policy, {})[str(member.seed)] = value
    return metrics


def _by_member(metrics: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[Tag, dict[Member, Any]]:
    """Read what `_plain` returned."""
    values = {}
    for name, policies in metrics.items():
        tag = Tag.parse(name)
        values[tag] = {
            Member(policy, int(seed), tag.part): value
            for policy, seeds in policies.items()
            for seed, value in seeds.items()
        }
    return values


def read_validations(path: Path) -> list[Validation]:
    """Read every line of a ``metrics.jsonl``, one or more.

    Raises:
        ValueError: if there is none, or a line cannot be read; the last may have been cut off when the machine stopped.
    """
    validations = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            validations.append(Validation.parse(line))
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise ValueError(f"{path} is damaged: line {number} is not JSON ({error.msg})") from error
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is damaged: line {number} is no validation of a run ({error!r})") from error
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
    if not validations:
        state = f"holds {len(lines)} line that is cut off or damaged, and no other" if lines else "is empty"
        raise ValueError(f"{path} {state}: the run has finished no validation yet; give one that has")
    return validations


def forget_after(path: Path, step: int) -> set[str]:
    """Drop the lines that a run wrote after the checkpoint from which it resumes; it will write them again.

    Returns:
        Names of the metrics that the lines left describe.
    """
    if not path.exists():
        return set()
    kept, described = [], set()
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            values = json.loads(line)
        except json.JSONDecodeError:  # the last may have been cut off
            continue
        if values["step"] <= step:
            kept.append(line)
            described |= set(values.get("about", {}))
    new = path.with_suffix(".tmp")
    new.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
    new.replace(path)
    return described
