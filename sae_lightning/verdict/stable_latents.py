"""Are stable latents the better ones?

Gerasimov et al. 2026 (arXiv 2606.12138) find that the latents which other seeds have too carry most of the signal, and
that unstable ones fire rarely. Here the stability of single latents is held against what evaluators measured of them in
the same runs, by rank correlation, for the trained SAE and for each baseline. Two things would look like a finding and
are none, so both stand beside it. Latents that fire often may be both stable and good, so the correlation is also given
with the firing frequency held fixed. And directions along which activations vary much are near many directions of any
dictionary: a frozen decoder, whose stability is that of random directions, shows what that alone does. Where stability
and quality have nothing to do with each other the correlation is 0.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sae_lightning.members import TRAINED, Member, in_order, natural_order, policy_label
from sae_lightning.nouns import a_noun
from sae_lightning.runs import Measurements
from sae_lightning.runs.latents import LatentValues
from sae_lightning.verdict.comparison import UNCLEAR
from sae_lightning.verdict.rank_correlation import Correlation, Sample, correlation
from sae_lightning.verdict.statistics import LEVEL

QUESTION = "Are stable latents the better ones?"
MORE, LESS = "more", "less"
CHANCE = "frozen_decoder"
"""The policy whose latents are random directions."""
_STABILITY, _FREQUENCY = "stability", "firing_frequency"
_HELD = "with firing frequency held fixed"


@dataclass(frozen=True)
class StableLatents:
    """How the stability of latents goes with another quantity of theirs.

    Args:
        part: of the activations.
        policy: whose latents.
        name: of the quantity.
        label: of the quantity, in plain words.
        n_latents: of one SAE, of which both are known, the mean over seeds.
        n_seeds: how many SAEs.
        correlation: between the two.
        held: with the firing frequency held fixed; None where it is not known, or is the quantity.
    """

    part: str
    policy: str
    name: str
    label: str
    n_latents: int
    n_seeds: int
    correlation: Correlation
    held: Correlation | None


def word(correlation: Correlation) -> str:
    """Say whether stable latents have more or less of the quantity; `unclear` where the interval holds 0."""
    return MORE if correlation.low > 0 else LESS if correlation.high < 0 else UNCLEAR


def stable_latents(runs: Sequence[Measurements]) -> list[StableLatents]:
    """Hold stability against the firing frequency, and then against each quality, of every policy of every part.

    Args:
        runs: of one experiment; a family by its sizes (`Measurements.by_size`).
    """
    about = {name: values for run in runs for name, values in run.latents.items()}
    names = [name for name, values in about.items() if name == _FREQUENCY or values.is_quality]
    names.sort(key=lambda name: name != _FREQUENCY)
    members = [member for run in runs for member in _members(run)]
    results = []
    for part in sorted({member.part for member in members}, key=natural_order):
        for name in names:
            for policy in in_order(member.policy for member in members if member.part == part):
                result = _of_policy(runs, part, policy, name, about[name])
                results += [] if result is None else [result]
    return results if any(result.name != _FREQUENCY for result in results) else []


def _members(run: Measurements) -> list[Member]:
    """Return the SAEs of which the stability of latents is known, without those on null data."""
    stability = run.latents.get(_STABILITY)
    return [member for member in (stability.members if stability else ()) if member.part not in run.nulls]


def _of_policy(
    runs: Sequence[Measurements], part: str, policy: str, name: str, about: LatentValues
) -> StableLatents | None:
    own = [
        (run.latents, member)
        for run in runs
        for member in _members(run)
        if (member.part, member.policy) == (part, policy) and name in run.latents
    ]
    samples = [sample for latents, member in own if (sample := _sample(latents, member, [name]))]
    if (plain := correlation(samples)) is None:
        return None
    held = None
    if name != _FREQUENCY:
        both = [sample for latents, member in own if (sample := _sample(latents, member, [name, _FREQUENCY]))]
        held = correlation(both)
    n_latents = round(float(np.mean([len(sample.x) for sample in samples])))
    return StableLatents(part, policy, name, about.label, n_latents, len(samples), plain, held)


def _sample(latents: Mapping[str, LatentValues], member: Member, names: Sequence[str]) -> Sample | None:
    """Return stability and other quantities of the latents of which all are known; None where one is of none."""
    rows: list[NDArray[np.float64]] = []
    for name in (_STABILITY, *names):
        if name not in latents or member not in latents[name].members:
            return None
        rows.append(latents[name].members[member].astype(np.float64))
    known = np.isfinite(rows).all(0)
    return Sample(*(row[known] for row in rows))


def table(results: Sequence[StableLatents]) -> list[list[str]]:
    """Lay the correlations out: a head, then a row for each quantity, and one with the firing frequency held fixed."""
    policies = in_order(result.policy for result in results)
    rows = [["", *policies]]
    for part, name in dict.fromkeys((result.part, result.name) for result in results):
        own = {result.policy: result for result in results if (result.part, result.name) == (part, name)}
        label = next(iter(own.values())).label + (f" ({part})" if part else "")
        rows.append([label, *(_cell(own[policy].correlation) if policy in own else "-" for policy in policies)])
        if any(result.held for result in own.values()):
            rows.append([f"  {_HELD}", *(_cell(own[policy].held) if policy in own else "-" for policy in policies)])
    return rows


def _cell(correlation: Correlation | None) -> str:
    return "-" if correlation is None else f"{word(correlation)} {_number(correlation)}"


def _number(correlation: Correlation) -> str:
    rho, low, high = (round(value, 2) + 0.0 for value in (correlation.rho, correlation.low, correlation.high))
    return f"{rho:+.2f} [{low:+.2f}, {high:+.2f}]"  # + 0.0 makes a zero of -0.0


def in_words(results: Sequence[StableLatents]) -> Iterator[tuple[str, str, str]]:
    """Yield of each quantity its label, what stable latents of the trained SAE have, and what those of chance have.

    Chance is the frozen decoder; empty where there is none.
    """
    by_place = {(result.part, result.name, result.policy): result for result in results}
    for (part, name, policy), result in by_place.items():
        if policy == TRAINED:
            label = f"{result.label}{f' ({part})' if part else ''}, {result.n_latents} latents of {a_noun()}"
            chance = by_place.get((part, name, CHANCE))
            yield label, _said(result), _said(chance) if chance else ""


def sentences(results: Sequence[StableLatents]) -> Iterator[str]:
    """Yield the same as sentences."""
    for label, said, chance in in_words(results):
        yield f"{label}: {said}" + (f"; of the {policy_label(CHANCE)}, by chance: {chance}" if chance else "")


def _said(result: StableLatents) -> str:
    said = {MORE: "stable latents have more", LESS: "stable latents have less", UNCLEAR: UNCLEAR}
    texts = [f"{said[word(result.correlation)]} {_number(result.correlation)}"]
    texts += [f"{_HELD} {said[word(result.held)]} {_number(result.held)}"] if result.held else []
    return ", ".join(texts)


def legend() -> str:
    """Say what the numbers and words mean."""
    return (
        f"Rank correlation (Spearman) over latents, mean over seeds [{LEVEL:.0%} interval over latents and seeds]; "
        "0: stability has nothing to do with it; more or less: what stable latents have, where the interval does not "
        "hold 0"
    )


def as_json(results: Sequence[StableLatents]) -> dict[str, Any]:
    """Return the correlations for programs, by quantity and policy."""
    values: dict[str, Any] = {}
    for result in results:
        name = f"{result.name}@{result.part}" if result.part else result.name
        entry = values.setdefault(name, {"label": result.label, "policies": {}})
        entry["policies"][result.policy] = {
            "n_latents": result.n_latents,
            "n_seeds": result.n_seeds,
            **_as_json(result.correlation),
            "frequency_held_fixed": None if result.held is None else _as_json(result.held),
        }
    return values


def _as_json(correlation: Correlation) -> dict[str, Any]:
    return {"rho": correlation.rho, "interval": [correlation.low, correlation.high], "word": word(correlation)}
