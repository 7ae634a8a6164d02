import json

from matplotlib.figure import Figure
from runs.folders import panel, write

from sae_lightning.figures.recovery import RECOVERY
from sae_lightning.figures.training import curves, training_charts
from sae_lightning.members import Tag, policy_styles
from sae_lightning.runs import Run, Validation


def line(samples: int, **metrics: dict) -> Validation:
    about = {"step": samples, "samples": samples, "seconds": 1.0, "floors": {}}
    return Validation.parse(json.dumps(about | {"metrics": metrics}))


def test_curves_are_means_over_the_seeds_that_were_measured():
    lines = [
        line(10, fvu={"trained": {"0": 0.1, "1": 0.4}, "other": {"0": None}}),
        line(20, l0={"trained": {"0": 3.0}}),
        line(30, fvu={"trained": {"0": None, "1": 0.2}, "other": {"0": 0.5}}),
    ]
    collected = curves(lines, Tag("fvu"))
    assert collected["trained"].x == [10, 30]
    assert collected["trained"].y == [0.25, 0.2]
    assert collected["trained"].low == [0.1, 0.2]
    assert collected["trained"].high == [0.4, 0.2]
    assert collected["other"].x == [30]
    assert curves(lines, Tag("kl")) == {}


def test_what_hardly_changes_is_level_over_training(tmp_path):
    """One feature of 3200 that is recovered, an l0 that the variant holds, directions that stay where they are."""
    changes = {"l0": (20.0, 20.01), RECOVERY: (0.0, 1 / 3200), "cosine_to_start_mean": (0.995, 0.994)}
    folder = write(tmp_path / "run", panel(), {name: {"trained": {"0": own[0]}} for name, own in changes.items()})
    (first,) = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    later = first | {"step": 20, "samples": 320, "floors": dict.fromkeys(changes, 0.0)}
    later["metrics"] = {name: {"trained": {"0": own[1]}} for name, own in changes.items()}
    (folder / "metrics.jsonl").write_text(f"{json.dumps(first)}\n{json.dumps(later)}\n")
    charts = training_charts(Run(folder), "", list(changes))
    assert [chart.name for chart in charts] == list(changes)
    for chart in charts:
        axes = Figure().subplots()
        chart.draw(axes, policy_styles(chart.policies))
        low, high = axes.get_ylim()
        start, end = changes[chart.name]
        assert abs(end - start) < 0.02 * (high - low), chart.name
        assert low <= 0 <= high, chart.name
