"""The verdict of a run in TensorBoard: its charts, and settings beside results, by which runs compare there."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from sae_lightning.figures.png import figure_of, pixels
from sae_lightning.figures.verdict import headlines, verdict_chart
from sae_lightning.members import TRAINED
from sae_lightning.runs import Run
from sae_lightning.verdict import WORDS, decide

FOLDER = "verdict"


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
    results: dict[str, float] = {}
    for tag, members in measurements.values.items():
        values = [value for member, value in members.items() if member.policy == TRAINED and value is not None]
        if measurements.better(tag) and values:
            results[f"{measurements.reference_parts.get(tag.part, TRAINED)}/{tag}"] = fmean(values)
    judged = [comparison for comparison in comparisons if not comparison.is_reference]
    has_several = len({comparison.published for comparison in judged}) > 1
    names = [f"{one.published or TRAINED}_{one.baseline}" if has_several else one.baseline for one in judged]
    for name in dict.fromkeys(names):
        counts = Counter(one.verdict for one, own in zip(judged, names, strict=True) if own == name)
        results |= {f"{word}/{name}": counts[word] for word in WORDS[:4]}
    if not results:
        return
    chosen = {name: run.settings[name] for name in ("model", "data", "freeze") if run.settings.get(name)}
    step = run.last.step
    with SummaryWriter(str(out)) as writer:
        if comparisons:
            tags = headlines([measurements], dict.fromkeys(comparison.tag for comparison in comparisons))
            charts = [verdict_chart([measurements], comparisons, tag) for tag in tags]
            figure = figure_of(charts, f"Does this SAE beat random? {run.title}")
            writer.add_image("verdict", pixels(figure), step, dataformats="HWC")
        writer.add_hparams(dict(plain(chosen)), results, run_name=".", global_step=step)


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
