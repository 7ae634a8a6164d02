"""Six claims about dense representations, and what a measurement has to say of each.

The claims are those of an unsigned post which argues that models with normalised activations have no sparse
representation. Each is decided by one number against thresholds that are chosen here and printed with the verdict:
they are conventions, and the measures behind them say more.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from sae_lightning.density.activations import ALL_DIMENSIONS, AXES, GAUSSIAN, WITHOUT_FIRST

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "not decided by these data"
SAE = "trained"
"""The policy whose SAEs decide."""

_EXPLAINED = "explained_variance"


@dataclass(frozen=True)
class Verdict:
    """What became of a claim.

    Args:
        number: its place in the post.
        claim: in one sentence.
        verdict: supported, contradicted or not decided.
        evidence: the numbers.
        rule: the thresholds.
        reading: what the verdict does not say.
    """

    number: int
    claim: str
    verdict: str
    evidence: str
    rule: str
    reading: str

    def __str__(self) -> str:
        return f"{self.number}. {self.claim}: {self.verdict.upper()}\n   {self.evidence}\n   {self.rule} {self.reading}"


def verdicts(found: Mapping[str, Any]) -> list[Verdict]:
    """All six, from what was measured.

    Args:
        found: `layers`, `directions`, `supports`, `seeds` and `metrics`; None where there is nothing.
    """
    return [
        Verdict(
            1,
            "Every dimension of the residual stream reaches every logit",
            *_logits(found["directions"]),
            "Supported where 80 % or more of the logits of the axes are above a tenth of their RMS; contradicted where "
            "less than 50 % are.",
            "Where a random rotation reaches as many, that says nothing of a sparse code in another dictionary.",
        ),
        Verdict(
            2,
            "After normalisation most dimensions are not near zero",
            *_layers(found["layers"]),
            "Supported where less than half of the coordinates are below 0.1 in every layer; contradicted where half "
            "of them or more are in every layer.",
            "It is about the axes of the model, and an SAE looks for other directions.",
        ),
        Verdict(
            3,
            "A sparse code of K latents is not unique",
            *_supports(found["supports"]),
            "Supported where K is above d_in / 2, or the pursuit finds another code in 10 % of exact signals; "
            "contradicted where K is within the bound, or it finds a code in half of them, the same in 90 % of those.",
            "That concerns one fixed dictionary and exact signals; where nothing is found nothing follows. With "
            "generic directions codes of up to d_in / 2 entries are unique.",
        ),
        Verdict(
            4,
            "Different seeds give completely different latents",
            *_seeds(found["seeds"]),
            "Supported where at most 5 % are shared and the mean is within 0.05 of chance; contradicted where more "
            "than 5 % are shared; not decided where directions stayed near their random start (mean cosine of 0.8).",
            "Partial agreement contradicts 'completely' and no more.",
        ),
        Verdict(
            5,
            "Sparse latents are artefacts of the penalty",
            *_nulls(found["metrics"]),
            "Contradicted where explained variance is 0.05 or more above that of the same SAE trained on the noise; "
            "supported where it is at most 0.01 above.",
            "Compare at equal l0.",
        ),
        Verdict(
            6,
            "Sparse latents perform poorly downstream",
            *_probes(found["metrics"]),
            "Supported where the best sparse probe is 0.05 or more below the dense one; contradicted within 0.01.",
            "One kind of task; the frozen baselines say what training adds.",
        ),
    ]


def as_json(all_: list[Verdict]) -> list[dict[str, Any]]:
    """Plain values."""
    return [asdict(verdict) for verdict in all_]


def _decide(supported: bool, contradicted: bool, evidence: str) -> tuple[str, str]:
    return (SUPPORTED if supported else CONTRADICTED if contradicted else UNDECIDED), evidence


def _logits(directions: list[dict[str, Any]]) -> tuple[str, str]:
    rows = {row["directions"]: row for row in directions if row["reading"] == "logits"}
    if not rows:
        return UNDECIDED, "The model has no language-modelling head that reads these activations."
    reached = {name: row["above_10_percent_of_rms"] for name, row in rows.items()}
    shown = ", ".join(
        f"{name} {reached[name]:.3f} (kurtosis {rows[name]['excess_kurtosis']:.2f})"
        for name in (AXES, "random rotation", "random directions", SAE)
        if name in rows
    )
    return _decide(reached[AXES] >= 0.8, reached[AXES] < 0.5, f"Logits above a tenth of their RMS: {shown}.")


def _layers(layers: list[dict[str, Any]]) -> tuple[str, str]:
    chosen = [row for row in layers if (row["tokens"], row["dimensions"]) == (WITHOUT_FIRST, ALL_DIMENSIONS)]
    near = [row["near_zero"] for row in chosen if row["view"] == AXES]
    used = {
        view: fmean(row["participation_ratio"] for row in chosen if row["view"] == view) for view in (AXES, GAUSSIAN)
    }
    return _decide(
        max(near) < 0.5,
        min(near) >= 0.5,
        f"Coordinates below 0.1: {min(near):.3f} to {max(near):.3f} over {len(near)} layers; participation ratio "
        f"{used[AXES]:.3f} on average, of Gaussian noise of equal mean and covariance {used[GAUSSIAN]:.3f}.",
    )


def _supports(supports: Mapping[str, Any] | None) -> tuple[str, str]:
    of = next((of for member, of in (supports or {}).items() if member.split("/")[-2] == SAE), None)
    if of is None:
        return UNDECIDED, f"No {SAE} SAE to look at: give the folder of a run with --run."
    k, bound = of["k"], of["unique_up_to"]
    evidence = f"K={k}; coherence {of['coherence']:.3f} guarantees K <= {bound}"
    if "same_code" not in of:
        return SUPPORTED, f"{evidence}; K is above d_in / 2 = {of['d_in'] / 2:g}, where no code is unique."
    exact = of["same_code"] + of["other_code"]
    size, noisy = next(iter(of["noise"].items()))
    return _decide(
        of["other_code"] >= 0.1,
        k <= bound or (exact >= 0.5 and of["same_code"] >= 0.9 * exact),
        f"{evidence}; of exact signals the pursuit finds the same code in {of['same_code']:.1%}, another in "
        f"{of['other_code']:.1%}, none in {1 - exact:.1%}. Real activations: encoder and pursuit share "
        f"{of['jaccard']:.3f} of their latents (chance {of['jaccard_chance']:.3f}); noise of {float(size):.0%} leaves "
        f"the encoder {noisy['encoder']:.3f} of its own, the pursuit {noisy['pursuit']:.3f}.",
    )


def _seeds(seeds: Mapping[str, Any] | None) -> tuple[str, str]:
    of = (seeds or {}).get("policies", {}).get(SAE)
    if seeds is None or of is None:
        return UNDECIDED, f"Needs the folder of a run with two seeds or more of {SAE} (--run, model.seeds)."
    measure = "matched_cosine" if "matched_cosine" in of else "best_cosine"
    floor = of["chance"][measure]
    start = seeds["cosine_to_start"][SAE]
    shared = of.get("shared")
    evidence = (
        f"Mean {measure.replace('_', ' ')} {of[measure]:.3f}, chance {floor:.3f} "
        f"(isotropic {seeds['isotropic'][measure]:.3f}); "
        + ("" if shared is None else f"{shared:.1%} of the latents are shared (cosine above 0.7); ")
        + f"mean cosine to the start {start:.3f}."
    )
    if start >= 0.8 or shared is None:
        return UNDECIDED, evidence
    return _decide(shared <= 0.05 and of[measure] <= floor + 0.05, shared > 0.05, evidence)


def _nulls(metrics: Mapping[str, Any] | None) -> tuple[str, str]:
    values = [_mean((metrics or {}).get(name, {}).get(SAE, {})) for name in (_EXPLAINED, f"{_EXPLAINED}@gaussian")]
    if values[0] is None or values[1] is None:
        return UNDECIDED, (
            f"The run has no {_EXPLAINED}@gaussian: train the same SAEs on Gaussian noise beside the activations, with "
            "--data.nulls '{gaussian: {class_path: GaussianMatched}}', and give that run with --run."
        )
    beyond = values[0] - values[1]
    evidence = (
        f"Explained variance {values[0]:.3f} of the activations, {values[1]:.3f} of matched noise: {beyond:+.3f}."
    )
    return _decide(beyond <= 0.01, beyond >= 0.05, evidence)


def _probes(metrics: Mapping[str, Any] | None) -> tuple[str, str]:
    accuracies = {name: of for name, of in (metrics or {}).items() if name.startswith("probe_accuracy")}
    sparse = {name: mean for name, of in accuracies.items() if (mean := _mean(of.get(SAE, {}))) is not None}
    dense = [
        mean
        for of in accuracies.values()
        for policy, seeds in of.items()
        if policy.startswith("dense") and (mean := _mean(seeds)) is not None
    ]
    if not sparse or not dense:
        return UNDECIDED, (
            "The run has no probe_accuracy of SAEs beside a dense probe: add --trainer.callbacks+=SparseProbing to "
            "sae validate or sae fit, and give that run with --run."
        )
    best, gap = max(sparse, key=sparse.__getitem__), max(dense) - max(sparse.values())
    shown = ", ".join(f"{name} {value:.3f}" for name, value in sparse.items())
    return _decide(gap >= 0.05, gap <= 0.01, f"{shown}; dense probe {max(dense):.3f}: {best} is {gap:+.3f} below it.")


def _mean(seeds: Mapping[str, float | None]) -> float | None:
    values = [value for value in seeds.values() if value is not None]
    return fmean(values) if values else None
