"""What ``sae stitch`` prints."""

from collections.abc import Iterator, Mapping
from typing import Any

from sae_lightning.moving_line import wrapped
from sae_lightning.stitching.insertion import CLASSES
from sae_lightning.tables import lay_out, number_format

END_TOLERANCE = 1e-3
"""The end of the curve and the large SAE differ by float32 rounding, far below this share of an activation's norm."""


def tables(comparison: Mapping[str, Any]) -> Iterator[str]:
    """Yield each table under a heading that says what it shows."""
    small, large, auc = comparison["small"], comparison["large"], comparison["auc"]
    yield "\n".join(
        [
            wrapped(
                f"Each of the {comparison['d_large']:,} latents of {large} inserted alone into {small} "
                f"({comparison['d_small']:,} latents) on {comparison['n_samples']:,} held-out samples; cosine: the "
                "largest to a latent of that; change of its squared error, and gain at the best scale; shuffled: with "
                "latents of another sample"
            ),
            _classes(comparison["classes"]),
            wrapped(
                f"error falls, whatever the interval: {_percent(comparison['lowers_error'])} of the latents that fire "
                f"(shuffled {_percent(comparison['lowers_error_shuffled'])})"
            ),
        ]
    )
    head = (
        "Does the largest cosine to the small dictionary say which latents lower the error? ROC-AUC "
        f"{_number(auc['all'])}, of novel and reconstruction latents {_number(auc['decided'])} (chance 0.5); mean "
        f"largest cosine of random directions {comparison['best_cosine_chance']:.3f}"
    )
    yield f"{wrapped(head)}\n{_by_cosine(comparison['by_cosine'])}"
    yield wrapped(_components(comparison["components"]))
    curve = comparison["curve"]
    ce = f"; CE on {comparison['loss']['n_tokens']:,} tokens of these or later rows" if comparison["loss"] else ""
    head = f"From {small} to {large}, on {curve['n_samples']:,} other held-out samples{ce}"
    yield f"{wrapped(head)}\n{_curve(comparison)}\n{wrapped(_end(curve['end_deviation']))}"
    if comparison["loss"] and comparison["loss"]["latents"]:
        head = (
            "Single latents and the loss of the language model, as inserted alone (changes in nats a token and in "
            "squared error)"
        )
        yield f"{wrapped(head)}\n{_latents(comparison['loss']['latents'])}"


def _classes(classes: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [["", "latents", "share", "of firings", "cosine", "change", "gain", "shuffled"]]
    for name in CLASSES:
        row = classes[name]
        relative = [_percent(row[measure], 3) for measure in ("change", "gain")]
        shares = [_percent(row[measure]) for measure in ("share", "firing_share")]
        rows.append([name, str(row["n"]), *shares, _number(row["best_cosine"]), *relative, _percent(row["shuffled"])])
    return lay_out(rows)


def _by_cosine(rows: list[dict[str, Any]]) -> str:
    names = {"below": "latents below it", "lowers_below": "of those lower the error", "lowers_above": "of those above"}
    head = [["cosine", *names.values()]]
    return lay_out(head + [[f"{row['threshold']:g}", *(_percent(row[name]) for name in names)] for row in rows])


def _components(components: Mapping[str, Any]) -> str:
    return (
        f"Components of latents with a cosine above {components['threshold']:g}: {components['n']:,}, of which "
        f"{components['one_to_one']:,} have one latent of each SAE; the largest has {components['most_small']:,} "
        f"of the small or {components['most_large']:,} of the large SAE. In none: {components['out_small']:,} latents "
        f"of the small and {components['out_large']:,} of the large SAE"
    )


def _curve(comparison: Mapping[str, Any]) -> str:
    curve, ce = comparison["curve"], (comparison["loss"] or {}).get("ce", {})
    show = number_format([curve["small"]["mse"]])
    rows = [["", "of small", "of large", "MSE", "EV", "l0", *(["CE"] if ce else [])]]
    for step, row in enumerate(curve["steps"]):
        cells = [row["phase"], str(row["n_small"]), str(row["n_large"]), *_fit(row, show)]
        rows.append([*cells, *([_number(ce.get(step), 4)] if ce else [])])
    counts = ["0", str(comparison["d_large"])]
    rows.append([f"{comparison['large']} itself", *counts, *_fit(curve["large"], show), *(["-"] if ce else [])])
    if ce:
        rows.append(["the activation itself", *["-"] * 5, _number(comparison["loss"]["ce_clean"], 4)])
    return lay_out(rows)


def _fit(row: Mapping[str, Any], show: str) -> list[str]:
    return [f"{row['mse']:{show}}", f"{row['explained_variance']:.4f}", f"{row['l0']:.1f}"]


def _end(deviation: float) -> str:
    verdict = "equals" if deviation < END_TOLERANCE else "DIFFERS FROM"
    return f"the end {verdict} the large SAE up to b_dec (largest distance {deviation:.1e} of an activation's norm)"


def _latents(latents: list[dict[str, Any]]) -> str:
    rows = [["latent", "class", "MSE", "CE", "low", "high"]]
    for latent in latents:
        numbers = [f"{latent['mse_change']:+.2e}"]
        numbers += ["-" if latent[name] is None else f"{latent[name]:+.2e}" for name in ("ce_change", "low", "high")]
        rows.append([str(latent["latent"]), latent["class"], *numbers])
    return lay_out(rows)


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f} %"
