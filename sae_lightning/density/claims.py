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
from sae_lightning.members import TRAINED, Member

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "not decided by these data"


_EXPLAINED = "explained_variance"


@dataclass(frozen=True)
class Verdict:
    """What a measurement has to say of a claim.

    Args:
        number: its place in the post.
        claim: the claim in one sentence.
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


def verdicts(results: Mapping[str, Any]) -> list[Verdict]:
    """Return the verdicts on all six claims.

    Args:
        results: as `density.measure` returns them, and `metrics` of the run; None without a run.
    """
    return [
        Verdict(
            1,
            "Every dimension of the residual stream reaches every logit",
            *_logits(results["directions"]),
            "Supported where 80 % or more of the logits of the axes are above a tenth of their RMS; contradicted where "
            "less than 50 % are.",
            "Where a random rotation reaches as many, that says nothing of a sparse code in another dictionary.",
        ),
        Verdict(
            2,
            "After normalisation most dimensions are not near zero",
            *_layers(results["layers"]),
            "Supported where less than half of the coordinates are below 0.1 in every layer; contradicted where half "
            "of them or more are in every layer.",
            "It is about the axes of the model, and an SAE looks for other directions.",
        ),
        Verdict(
            3,
            "A sparse code of K latents is not unique",
            *_supports(results["supports"]),
            "Supported where K is above d_in / 2, or the pursuit finds another code in 10 % of exact signals; "
            "contradicted where K is within the bound, or it finds a code in half of them, the same in 90 % of those.",
            "That concerns one fixed dictionary and exact signals; where nothing is found nothing follows. With "
            "generic directions codes of up to d_in / 2 entries are unique.",
        ),
        Verdict(
            4,
            "Different seeds give completely different latents",
            *_seeds(results["seeds"]),
            "Supported where at most 5 % are shared and the mean is within 0.05 of chance; contradicted where more "
            "than 5 % are shared; not decided where directions stayed near their random start (mean cosine of 0.8).",
            "Partial agreement contradicts 'completely' and no more.",
        ),
        Verdict(
            5,
            "Sparse latents are artefacts of the penalty",
            *_nulls(results["metrics"]),
            "Contradicted where explained variance is 0.05 or more above that of the same SAE trained on the noise; "
            "supported where it is at most 0.01 above.",
            "Compare at equal l0.",
        ),
        Verdict(
            6,
            "Sparse latents perform poorly downstream",
            *_probes(results["metrics"]),
            "Supported where the best sparse probe is 0.05 or more below the dense one; contradicted within 0.01.",
            "One kind of task; the frozen baselines say what training adds.",
        ),
    ]


def as_json(decided: list[Verdict]) -> list[dict[str, Any]]:
    """Return verdicts as plain values."""
    return [asdict(verdict) for verdict in decided]


def _decide(supported: bool, contradicted: bool, evidence: str) -> tuple[str, str]:
    return (SUPPORTED if supported else CONTRADICTED if contradicted else UNDECIDED), evidence


def _logits(directions: list[dict[str, Any]]) -> tuple[str, str]:
    rows = {row["directions"]: row for row in directions if row["reading"] == "logits"}
    if not rows:
        return UNDECIDED, "The model has no language-modelling head that reads these activations."
    reached = {name: row["above_10_percent_of_rms"] for name, row in rows.items()}
    shown = ", ".join(
        f"{name} {reached[name]:.3f} (kurtosis {rows[name]['excess_kurtosis']:.2f})"
        for name in (AXES, "random rotation", "random directions", TRAINED)
        if name in rows
    )
    return _decide(reached[AXES] >= 0.8, reached[AXES] < 0.5, f"Logits above a tenth of their RMS: {shown}.")


def _layers(layers: list[dict[str, Any]]) -> tuple[str, str]:
    chosen = [row for row in layers if (row["tokens"], row["dimensions"]) == (WITHOUT_FIRST, ALL_DIMENSIONS)]
    near = [row["near_zero"] for row in chosen if row["view"] == AXES]
    used = {
        view: fmean(row["participation_ratio"] for row in chosen if row["view"] == view) for view in (AXES, GAUSSIAN)
    }
    where = f"{len(near)} layer{'s' * (len(near) > 1)}"
    return _decide(
        max(near) < 0.5,
        min(near) >= 0.5,
        f"Coordinates below 0.1: {min(near):.3f} to {max(near):.3f} over {where}; participation ratio "
        f"{used[AXES]:.3f} on average, of Gaussian noise of equal mean and covariance {used[GAUSSIAN]:.3f}.",
    )


def _supports(supports: Mapping[str, Any] | None) -> tuple[str, str]:
    codes = next((codes for member, codes in (supports or {}).items() if Member.parse(member).policy == TRAINED), None)
    if codes is None:
        return UNDECIDED, f"Needs a {TRAINED} SAE: give the folder of a run with --run."
    k, bound = codes["k"], codes["unique_up_to"]
    evidence = f"K={k}; coherence {codes['coherence']:.3f} guarantees K <= {bound}"
    if "same_code" not in codes:
        return SUPPORTED, f"{evidence}; K is above d_in / 2 = {codes['d_in'] / 2:g}, where no code is unique."
    exact = codes["same_code"] + codes["other_code"]
    size, noisy = next(iter(codes["noise"].items()))
    return _decide(
        codes["other_code"] >= 0.1,
        k <= bound or (exact >= 0.5 and codes["same_code"] >= 0.9 * exact),
        f"{evidence}; of exact signals the pursuit finds the same code in {codes['same_code']:.1%}, another in "
        f"{codes['other_code']:.1%}, none in {1 - exact:.1%}. Real activations: encoder and pursuit share "
        f"{codes['jaccard']:.3f} of their latents (chance {codes['jaccard_chance']:.3f}); noise of {float(size):.0%} "
        f"leaves the encoder {noisy['encoder']:.3f} of its own, the pursuit {noisy['pursuit']:.3f}.",
    )


def _seeds(seeds: Mapping[str, Any] | None) -> tuple[str, str]:
    agreement = (seeds or {}).get("policies", {}).get(TRAINED)
    if seeds is None or agreement is None:
        return UNDECIDED, f"Needs the folder of a run with two seeds or more of {TRAINED} (--run, model.seeds)."
    measure = "matched_cosine" if "matched_cosine" in agreement else "best_cosine"
    floor = agreement["chance"][measure]
    start = seeds["cosine_to_start"][TRAINED]
    shared = agreement.get("shared")
    evidence = (
        f"Mean {measure.replace('_', ' ')} {agreement[measure]:.3f}, chance {floor:.3f} "
        f"(isotropic {seeds['isotropic'][measure]:.3f}); "
        + ("" if shared is None else f"{shared:.1%} of the latents are shared (cosine above 0.7); ")
        + f"mean cosine to the start {start:.3f}."
    )
    if start >= 0.8 or shared is None:
        return UNDECIDED, evidence
    return _decide(shared <= 0.05 and agreement[measure] <= floor + 0.05, shared > 0.05, evidence)


def _nulls(metrics: Mapping[str, Any] | None) -> tuple[str, str]:
    values = [_mean((metrics or {}).get(name, {}).get(TRAINED, {})) for name in (_EXPLAINED, f"{_EXPLAINED}@gaussian")]
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
    accuracies = {name: policies for name, policies in (metrics or {}).items() if name.startswith("probe_accuracy")}
    sparse = {
        name: mean for name, policies in accuracies.items() if (mean := _mean(policies.get(TRAINED, {}))) is not None
    }
    dense = [
        mean
        for policies in accuracies.values()
        for policy, seeds in policies.items()
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
