"""The verdict of a run in TensorBoard: its charts, and settings beside results, by which runs compare there."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from sae_lightning.evaluators.sparsity import DEAD_FRACTION, L0
from sae_lightning.figures.png import figure_of, pixels
from sae_lightning.figures.verdict import headlines, verdict_chart
from sae_lightning.members import TRAINED
from sae_lightning.nouns import noun, speaking_of
from sae_lightning.runs import Measurements, Run
from sae_lightning.runs.measurements import in_order
from sae_lightning.verdict import WORDS, decide

FOLDER = "verdict"
_SETTINGS = (
    "k", "d_sae", "expansion_factor", "target_l0", "target", "l1_coefficient", "coefficient", "lr", "seeds", "hook",
    "train_samples", "min_cosine", "scale_input",
)  # fmt: skip
"""Settings by which runs are compared; `config.yaml` has all."""


def into_tensorboard(folder: Path) -> None:
    """Write into the folder `verdict` of a finished run, in place of what an earlier end of it has left.

    Args:
        folder: the run folder; where nothing in it has a better way, nothing is written.
    """
    run = Run(folder)
    measurements = run.measurements.by_size()
    comparisons, out = decide([measurements]), folder / FOLDER
    for old in out.glob("events.out.tfevents.*"):
        old.unlink()
    results = _sorted_by(measurements)
    judged = [comparison for comparison in comparisons if not comparison.is_reference]
    has_several = len({comparison.published for comparison in judged}) > 1
    names = [f"{one.published or TRAINED}_{one.baseline}" if has_several else one.baseline for one in judged]
    for name in dict.fromkeys(names):
        counts = Counter(one.verdict for one, own in zip(judged, names, strict=True) if own == name)
        results |= {f"{FOLDER}/{word}_{name}": counts[word] for word in WORDS[:4]}
    if not results:
        return
    step = run.last.step
    with SummaryWriter(str(out)) as writer:
        if comparisons:
            tags = headlines([measurements], dict.fromkeys(comparison.tag for comparison in comparisons))
            charts = [verdict_chart([measurements], comparisons, tag) for tag in tags]
            with speaking_of([run.noun]):
                figure = figure_of(charts, f"Does this {noun()} beat random? {run.title}")
            writer.add_image("verdict", pixels(figure), step, dataformats="HWC")
        writer.add_hparams(_chosen(run.settings), results, run_name=".", global_step=step)


def _sorted_by(measurements: Measurements) -> dict[str, float]:
    """Return what people sort runs by: of the trained SAEs the headline of each question, l0 and dead latents."""
    results: dict[str, float] = {}
    tags = in_order([measurements], measurements.values)
    first = headlines([measurements], [tag for tag in tags if measurements.better(tag)])
    for tag in (*first, *(tag for tag in tags if tag.metric in (L0.name, DEAD_FRACTION.name))):
        members = measurements.values[tag]
        values = [value for member, value in members.items() if member.policy == TRAINED and value is not None]
        if values:
            results[f"{FOLDER}/{measurements.reference_parts.get(tag.part, TRAINED)}_{tag}"] = fmean(values)
    return results


def _chosen(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings by which runs are compared: those of an SAE first, alike alone and in a panel."""
    chosen = {name: settings[name] for name in ("model", "data", "freeze") if settings.get(name)}
    by_name = dict(plain(chosen))
    sae = "model.sae" if "model.sae" in by_name else "model"
    own = {name: value for name, value in by_name.items() if name.rpartition(".")[2] in _SETTINGS or name in chosen}
    named = {"SAE": by_name.get(sae)} | {
        re.sub(rf"^{sae}\.(optimizer\.)?", "SAE.", name): one for name, one in own.items()
    }
    return {name: value for name, value in named.items() if name != "model" and value is not None}


def plain(settings: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield settings in one level, as TensorBoard wants them: classes by their names, arguments as `model.sae.k`.

    >>> dict(plain({"class_path": "a.TopK", "init_args": {"k": 2, "seeds": [0, 1], "init": None}}, "model"))
    {'model': 'TopK', 'model.k': 2, 'model.seeds': '[0, 1]'}
    """
    if isinstance(settings, Mapping) and "class_path" in settings:
        yield name, str(settings["class_path"]).split(".")[-1]
        yield from plain(settings.get("init_args") or {}, name)
    elif isinstance(settings, Mapping):
        for key, value in settings.items():
            yield from plain(value, f"{name}.{key}" if name else str(key))
    elif settings is not None:
        yield name, settings if isinstance(settings, bool | int | float | str) else str(settings)
