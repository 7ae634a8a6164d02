"""What a run measured, as pandas frames."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_lightning.runs.latents import LatentValues
from sae_lightning.runs.measurements import Measurements

if TYPE_CHECKING:
    import pandas as pd


def table(measured: Measurements) -> "pd.DataFrame":
    """Return a row for each metric and member.

    Columns: metric, part, policy, seed, value, floor, better, label; `better` is None where neither way is.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for tag, members in measured.values.items():
        own_floors = measured.member_floors.get(tag, {})
        for member, value in members.items():
            rows.append(
                {
                    "metric": tag.metric,
                    "part": tag.part,
                    "policy": member.policy,
                    "seed": member.seed,
                    "value": np.nan if value is None else value,
                    "floor": own_floors.get(member, measured.floors.get(tag)),
                    "better": measured.better(tag),
                    "label": measured.label(tag),
                }
            )
    frame = pd.DataFrame(rows)
    return frame.astype({"floor": float})


def verdict(path: Path) -> "pd.DataFrame":
    """Return a row for each metric and baseline of `verdict.json`.

    Columns: metric, baseline, verdict, trained, value, floor, difference, low, high, p, n_seeds, n_items, label; a
    published SAE stands as `reference`, by name, and its value in the column `trained`.

    Raises:
        ValueError: if there is none.
    """
    import pandas as pd

    if not path.is_file():
        raise ValueError(
            f"{path.parent} has no verdict: nothing was measured beside which the trained SAE could stand; take a "
            "SanityPanel"
        )
    try:
        return pd.DataFrame(_compared(json.loads(path.read_text(encoding="utf-8"))["metrics"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}; sae compare writes the verdict anew") from error


def latents(measured: Mapping[str, LatentValues]) -> "pd.DataFrame":
    """Return a row for each latent, indexed by part, policy, seed and latent, and a column for each quantity.

    Raises:
        ValueError: if no evaluator measured single latents.
    """
    import pandas as pd

    if not measured:
        raise ValueError(
            "no evaluator has measured single latents at the last validation: add SeedAgreement, AutoInterp or another "
            "that does"
        )
    columns = []
    for name, values in measured.items():
        of_members = {(one.part, one.policy, one.seed): pd.Series(own) for one, own in values.members.items()}
        columns.append(pd.concat(of_members, names=["part", "policy", "seed", "latent"]).rename(name))
    return pd.concat(columns, axis=1)


def _compared(metrics: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for metric, about in metrics.items():
        reference = about.get("reference") or {}
        for baseline, own in about["baselines"].items():
            row = {"metric": metric, "baseline": baseline, "verdict": own["verdict"]}
            row |= {"reference": reference["name"]} if reference else {}
            row |= {"trained": reference.get("value", about.get("trained")), "value": own["value"]}
            row |= {"floor": own["floor"], "difference": own["difference"]}
            row |= dict(zip(("low", "high"), own["interval"], strict=True))
            yield row | {name: own[name] for name in ("p", "n_seeds", "n_items")} | {"label": about["label"]}
