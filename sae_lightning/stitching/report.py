"""What ``sae stitch`` prints."""

from collections.abc import Iterator, Mapping
from typing import Any

from sae_lightning.density.report import columns
from sae_lightning.stitching.insertion import CLASSES
from sae_lightning.tables import number_format

END_TOLERANCE = 1e-3
"""The end of the curve and the large SAE differ by float32 rounding, far below this share of an activation's norm."""


def tables(found: Mapping[str, Any]) -> Iterator[str]:
    """Each table with a heading that says what it shows."""
    yield (
        f"Each of the {found['d_large']:,} latents of {found['large']} inserted alone into {found['small']} "
        f"({found['d_small']:,} latents)\non {found['n_samples']:,} held-out samples; change and best gain relative to "
        f"its squared error, shuffled: latents of another sample\n{_classes(found['classes'])}\n"
        f"error falls, whatever the interval: {_percent(found['lowers_error'])} of the latents that fire "
        f"(shuffled {_percent(found['lowers_error_shuffled'])})"
    )
    yield (
        "Does the largest cosine to the small dictionary say which latents lower the error? ROC-AUC "
        f"{_number(found['auc']['all'])}, of novel and reconstruction latents {_number(found['auc']['decided'])} "
        f"(chance 0.5);\nmean largest cosine of random directions {found['best_cosine_chance']:.3f}\n"
        f"{_by_cosine(found['by_cosine'])}"
    )
    yield _components(found["components"])
    curve = found["curve"]
    yield (
        f"From {found['small']} to {found['large']}, on {curve['n_samples']:,} other held-out samples\n"
        f"{_curve(found)}\n{_end(curve['end_deviation'])}"
    )
    if found["loss"] and found["loss"]["latents"]:
        yield (
            "Single latents and the loss of the language model, as inserted alone (changes in nats a token and in "
            f"squared error)\n{_latents(found['loss']['latents'])}"
        )


def _classes(classes: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [["", "latents", "share", "of firings", "largest cosine", "change", "best gain", "shuffled"]]
    for name in CLASSES:
        of = classes[name]
        relative = [_percent(of[measure], 3) for measure in ("change", "gain")]
        shares = [_percent(of[measure]) for measure in ("share", "firing_share")]
        rows.append([name, str(of["n"]), *shares, _number(of["best_cosine"]), *relative, _percent(of["shuffled"])])
    return columns(rows)


def _by_cosine(rows: list[dict[str, Any]]) -> str:
    names = {"below": "latents below it", "lowers_below": "of those lower the error", "lowers_above": "of those above"}
    head = [["cosine", *names.values()]]
    return columns(head + [[f"{row['threshold']:g}", *(_percent(row[name]) for name in names)] for row in rows])


def _components(of: Mapping[str, Any]) -> str:
    return (
        f"Components of latents with a cosine above {of['threshold']:g}: {of['n']:,}, of which {of['one_to_one']:,} "
        f"have one latent of each SAE; the largest\nhas {of['most_small']:,} of the small or {of['most_large']:,} of "
        f"the large SAE. In none: {of['out_small']:,} latents of the small and {of['out_large']:,} of the large SAE"
    )


def _curve(found: Mapping[str, Any]) -> str:
    curve, ce = found["curve"], (found["loss"] or {}).get("ce", {})
    show = number_format([curve["small"]["mse"]])
    rows = [["", "of small", "of large", "MSE", "EV", "l0", *(["CE"] if ce else [])]]
    for step, row in enumerate(curve["steps"]):
        cells = [row["phase"], str(row["n_small"]), str(row["n_large"]), *_fit(row, show)]
        rows.append([*cells, *([_number(ce.get(step), 4)] if ce else [])])
    counts = ["0", str(found["d_large"])]
    rows.append([f"{found['large']} itself", *counts, *_fit(curve["large"], show), *(["-"] if ce else [])])
    if ce:
        rows.append(["the activation itself", *["-"] * 5, _number(found["loss"]["ce_clean"], 4)])
    return columns(rows)


def _fit(row: Mapping[str, Any], show: str) -> list[str]:
    return [f"{row['mse']:{show}}", f"{row['explained_variance']:.4f}", f"{row['l0']:.1f}"]


def _end(deviation: float) -> str:
    verdict = "equals" if deviation < END_TOLERANCE else "DIFFERS FROM"
    return f"the end {verdict} the large SAE up to b_dec (largest distance {deviation:.1e} of an activation's norm)"


def _latents(latents: list[dict[str, Any]]) -> str:
    rows = [["latent", "class", "MSE", "CE", "low", "high"]]
    for of in latents:
        numbers = [f"{of['mse_change']:+.2e}"]
        numbers += ["-" if of[name] is None else f"{of[name]:+.2e}" for name in ("ce_change", "low", "high")]
        rows.append([str(of["latent"]), of["class"], *numbers])
    return columns(rows)


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f} %"
