"""``sae figures``, on tiny runs of the real command and on runs by hand."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from commands.test_compare import LAST, write_run
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sae_lightning.cli import main
from sae_lightning.figures.chart import FigureSkipped
from sae_lightning.figures.runs import FOLDER, explained_variance_vs_recovery, parts_of, training
from sae_lightning.figures.training import sae_policies, training_charts
from sae_lightning.loggers import HEADLINE
from sae_lightning.runs import Run

OF_ONE_RUN = {"recovery_by_frequency", "best_cosines", "cosine_to_start", "training", "headlines"}
OF_ALL_RUNS = "explained_variance_vs_recovery"
OVER_RUNS = {"metrics_vs_l0", "soft_freeze", "training_length"}
POLICIES = {"trained", "frozen_decoder", "oracle"}


def figures(capsys: pytest.CaptureFixture, *args: object) -> tuple[list[Path], str]:
    """The paths on stdout, and what stands on stderr."""
    capsys.readouterr()
    main(["figures", *map(str, args)])
    printed = capsys.readouterr()
    left_out = " ".join(printed.err.split()).split("left out ")[1:]  # its lines end where the terminal does
    return [Path(line) for line in printed.out.splitlines()], [line.strip() for line in left_out]


def images(folder: Path) -> dict[str, list]:
    """What TensorBoard shows by name."""
    events = EventAccumulator(str(folder)).Reload()
    tags = events.Tags()["images"]
    assert {tag.split("/")[0] > HEADLINE for tag in tags} == {True}, "TensorBoard shows the headlines first"
    return {tag.split("/")[1]: events.Images(tag) for tag in tags}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # tensorboard's own
def test_a_run_gets_its_figures(variable: Path, capsys: pytest.CaptureFixture):
    old = variable / FOLDER / "events.out.tfevents.0.host"
    old.parent.mkdir()
    old.write_bytes(b"")
    written, told = figures(capsys, variable)
    assert set(written) == {variable / FOLDER / f"{name}.png" for name in (*OF_ONE_RUN, OF_ALL_RUNS)}
    assert {line.split(":")[0] for line in told} == OVER_RUNS
    assert "training_length: it needs runs that differ in the length of training and in nothing else" in told
    for path in written:
        image = imread(path)
        assert path.stat().st_size < 80_000
        assert image.shape[1] in (1200, 1500)  # 1500 where names stand between charts
        assert 300 < image.shape[0] < 1300
        assert image[..., :3].std() > 0.05  # not empty
    assert not old.exists()  # drawn once more, a figure stands in place of the one before
    shown = images(variable / FOLDER)
    assert set(shown) == {*OF_ONE_RUN, OF_ALL_RUNS}
    for (event,) in shown.values():
        assert event.step == 8
        assert event.width in (1200, 1500)
        assert event.encoded_image_string[:4] == b"\x89PNG"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_parts_of_activations_have_figures_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture):
    measured = {"explained_variance": {"trained": {"0": 0.5}}, "cosine_to_start_mean": {"trained": {"0": 0.9}}}
    parts = {f"{name}@{part}": values for name, values in measured.items() for part in ("early", "late")}
    last = LAST | {"metrics": parts, "floors": {}}
    folder = write_run(tmp_path / "hooks", last | {"step": 5, "samples": 50}, last)
    run = Run(folder)
    assert parts_of(run) == ["early", "late"]
    charts = training_charts(run, "early", list(measured))
    shown = {chart.name: [(series.name, series.y) for series in chart.series] for chart in charts}
    assert shown == {f"{name}@early": [("trained", 2 * [values["trained"]["0"]])] for name, values in measured.items()}
    written, _ = figures(capsys, folder)
    assert {path.parent for path in written} >= {folder / FOLDER / "early", folder / FOLDER / "late"}


def test_nulls_stand_apart_from_the_real_activations(tmp_path: Path):
    values = {"trained": {"0": 0.5}}
    names = ("explained_variance", "explained_variance@gaussian", "explained_variance_beyond_gaussian")
    measured = {"metrics": dict.fromkeys(names, values), "floors": {"explained_variance@gaussian": 0.0}}
    run = Run(write_run(tmp_path / "nulls", LAST | measured | {"nulls": ["gaussian"]}))
    assert parts_of(run) == ["", "gaussian"]
    names = ["explained_variance", "explained_variance_beyond_gaussian"]
    assert [chart.name for chart in training_charts(run, "", names)] == names
    (chart,) = training_charts(run, "gaussian", names)
    assert chart.name == "explained_variance@gaussian"
    assert [guide.value for guide in chart.guides] == [0.0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_runs_are_put_together_in_one_figure(
    variable: Path, constant: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    written, told = figures(capsys, constant, variable, constant / ".", "--out", tmp_path / "all")
    assert set(written) == {
        *(constant / FOLDER / f"{name}.png" for name in OF_ONE_RUN - {"recovery_by_frequency"}),
        *(variable / FOLDER / f"{name}.png" for name in OF_ONE_RUN),
        tmp_path / "all" / f"{OF_ALL_RUNS}.png",
    }
    assert all(path.is_file() for path in written)
    first, *others = told
    assert first == f"recovery_by_frequency of {constant}: every feature fires equally often, with p=0.05"
    assert {line.split(":")[0] for line in others} == OVER_RUNS
    assert OF_ALL_RUNS in images(constant / FOLDER)
    assert OF_ALL_RUNS in images(variable / FOLDER)


def test_an_unfinished_run_shows_its_training(variable: Path, capsys: pytest.CaptureFixture):
    shutil.rmtree(variable / "saes")
    written, told = figures(capsys, variable)
    assert {path.stem for path in written} == {"training", "headlines", OF_ALL_RUNS}
    assert "recovery_by_frequency, best_cosines: there is no saes/: the run has not finished" in told


def test_a_language_model_is_not_loaded(tmp_path: Path, capsys: pytest.CaptureFixture):
    folder = write_run(tmp_path / "lm", LAST | {"step": 5, "samples": 50}, LAST)
    settings = {"model": "no/such/model", "hook": "h", "text": {"class_path": "PocketText"}}
    config = {"data": {"class_path": "LanguageModelDataModule", "init_args": settings}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    written, told = figures(capsys, folder)
    assert [path.stem for path in written] == ["training"]
    assert "recovery_by_frequency, best_cosines: the true features of LanguageModelDataModule are not known" in told
    (axis,) = training(Run(folder)).axes
    assert axis.get_xlabel() == "activations seen"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (None, "which `sae fit` writes and training from Python does not"),
        ({"data": {"class_path": "SyntheticDataModule", "init_args": {"width": 8}}}, "has no option 'width'"),
        ({"model": None}, "does not say which data"),
    ],
)
def test_a_run_whose_data_are_not_known(config: dict | None, expected: str, tmp_path, capsys: pytest.CaptureFixture):
    folder = write_run(tmp_path / "run", LAST | {"step": 5, "samples": 50}, LAST)
    (folder / "config.yaml").unlink()
    if config is not None:
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    written, told = figures(capsys, folder)
    assert [path.stem for path in written] == ["training"]
    assert expected in " ".join(told)


def test_one_validation_is_no_course_of_training(tmp_path: Path):
    with pytest.raises(FigureSkipped, match="two validations: set trainer.val_check_interval"):
        training(Run(write_run(tmp_path / "short", LAST)))


def test_references_are_no_curves(variable: Path):
    path = variable / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for measured in lines:
        measured["metrics"]["explained_variance"]["pca"] = {"0": 0.3}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = Run(variable)
    assert sae_policies(run, "") == POLICIES
    assert "pca" not in {line.get_label() for line in training(run).axes[0].get_lines()}
    assert len(explained_variance_vs_recovery([run]).axes) == 2


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["none"], "none: no such folder; give a run folder"),
        (["."], "holds no metrics.jsonl"),
        (["run"], "nothing to draw: "),
        (["run", "--out", "run/metrics.jsonl"], "--out run/metrics.jsonl is a file"),
    ],
)
def test_mistakes(args: list[str], expected: str, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture):
    monkeypatch.chdir(tmp_path)
    write_run(Path("run"), LAST | {"metrics": {"zeta": {"trained": {"0": 1.0}}}})
    with pytest.raises(SystemExit) as stop:
        main(["figures", *args])
    assert stop.value.code == 2
    told = capsys.readouterr().err
    assert expected in told
    assert "Traceback" not in told
    assert not list(tmp_path.glob("**/*.png"))
