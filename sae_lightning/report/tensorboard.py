"""The verdict of a run in TensorBoard: its charts, and settings beside results, by which runs compare there."""

import io
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml
from matplotlib.image import imread
from torch.utils.tensorboard import SummaryWriter

from sae_lightning.compare import Run, by_size, read_lines, read_run, verdict
from sae_lightning.figures.look import STYLES
from sae_lightning.report.answer import headlines, verdict_rows
from sae_lightning.report.charts import FRAME, ROW, draw_dots
from sae_lightning.report.figure import WIDTH, look_of
from sae_lightning.report.words import label
from sae_lightning.verdict import Comparison

FOLDER = "verdict"
_COLOURS = {"ink": "black", "paper": "white", "muted": "0.4", "line": "0.9", "other": "0.4"}
_COLOURS |= {policy.replace("_", "-"): style.colour for policy, style in STYLES.items()}


def into_tensorboard(folder: Path) -> None:
    """Write into the folder `verdict` of a finished run, in place of what an earlier end of it has left.

    Args:
        folder: the run folder; where nothing in it has a better way, nothing is written.
    """
    run, step, config = by_size(read_run(folder)), read_lines(folder)[-1]["step"], folder / "config.yaml"
    settings = (yaml.safe_load(config.read_text()) or {}) if config.is_file() else {}
    comparisons = verdict([run])
    out = folder / FOLDER
    for old in out.glob("events.out.tfevents.*"):
        old.unlink()
    results = {
        f"trained/{metric}": fmean(values)
        for metric in run.better
        if (values := [value for value in run.metrics[metric].get("trained", {}).values() if value is not None])
    }
    for baseline in dict.fromkeys(of.baseline for of in comparisons):
        counts = Counter(of.verdict for of in comparisons if of.baseline == baseline)
        results |= {f"{word}/{baseline}": counts[word] for word in ("beats", "ties", "loses")}
    if not results:
        return
    chosen = {name: settings[name] for name in ("model", "data", "freeze") if settings.get(name)}
    with SummaryWriter(str(out)) as writer:
        if comparisons:
            writer.add_image("verdict", _image(run, comparisons), step, dataformats="HWC")
        writer.add_hparams(dict(plain(chosen)), results, run_name=".", global_step=step)


def plain(settings: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Settings in one level, as TensorBoard wants them: classes by their names, arguments as `model.sae.k`.

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


def _image(run: Run, comparisons: list[Comparison]) -> Any:
    """The charts of the report's first screen under each other, as an image [height, width, 4]."""
    from matplotlib import style as matplotlib_style
    from matplotlib.figure import Figure

    charts = {name: verdict_rows([run], comparisons, name) for name in headlines([of.metric for of in comparisons])}
    heights = [FRAME + 20 + ROW * len(rows) for rows, _, _ in charts.values()]
    with matplotlib_style.context(look_of(_COLOURS)):
        figure = Figure(figsize=(WIDTH * 1.4 / 72, sum(heights) / 72))
        axes = figure.subplots(len(charts), height_ratios=heights, squeeze=False)[:, 0]
        for axis, (metric, (rows, floor, better)) in zip(axes, charts.items(), strict=True):
            draw_dots(axis, rows, floor, better, _COLOURS)
            axis.set_title(label(metric), loc="left")
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=110)
    file.seek(0)
    return imread(file)
