"""Which runs are one experiment."""

from pathlib import Path

import pytest
from runs.folders import SAE, changed, lone, panel, values, write

from sae_lightning.runs import Run, experiments_of
from sae_lightning.runs.settings import Settings

SOFT = {
    "soft_frozen_decoder": {"class_path": "sae_lightning.freeze.SoftFrozenDecoder", "init_args": {"min_cosine": 0.8}}
}
HARD = {
    "soft_frozen_decoder": {"class_path": "sae_lightning.freeze.SoftFrozenDecoder", "init_args": {"min_cosine": 0.0}}
}
DATA_POINTS = {"class_path": "sae_lightning.saes.DataPoints", "init_args": {}}


def differences(tmp_path: Path, one: dict, other: dict, **of_other) -> list[str]:
    runs = [Run(write(tmp_path / "one", one, {"ev": values(0)}))]
    runs.append(Run(write(tmp_path / "other", other, {"ev": values(1)}, **of_other)))
    first, second = (Settings.of(run) for run in runs)
    texts = first.differences(second)
    assert bool(texts) == bool(second.differences(first)), "whichever is asked"
    assert len(experiments_of(runs)) == (2 if texts else 1)
    return texts


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("data.d_in", 50, "data.d_in 8, 50"),
        ("data.val_samples", 128, "data.val_samples 64, 128"),
        (
            "data.nulls",
            {"g": {"class_path": "sae_lightning.sources.GaussianMatched"}},
            "data.nulls.g unset, GaussianMatched",
        ),
        ("trainer.max_steps", 100, "trainer.max_steps null, 100"),
        ("trainer.precision", "bf16-mixed", "trainer.precision null, bf16-mixed"),
        ("trainer.gradient_clip_val", -1, "trainer.gradient_clip_val null, -1"),
        ("trainer.gradient_clip_val", 1.0, "trainer.gradient_clip_val null, 1.0"),
        ("trainer.accumulate_grad_batches", 4, "trainer.accumulate_grad_batches null, 4"),
        ("trainer.limit_train_batches", 1, "trainer.limit_train_batches null, 1"),
        ("trainer.max_time", "00:00:10:00", "trainer.max_time null, 00:00:10:00"),
        ("trainer.of_a_later_version", 3, "trainer.of_a_later_version unset, 3"),
        (
            "trainer.callbacks",
            [{"class_path": "mine.Anneal", "init_args": {}}],
            "trainer.callbacks.Anneal unset, mine.Anneal",
        ),
        ("model.sae.k", 4, "model.sae.k 2, 4"),
        ("model.sae.init", DATA_POINTS, "init of trained null, DataPoints"),
        ("model.sae.optimizer.lr", 0.01, "model.sae.optimizer.lr 0.001, 0.01"),
        ("model.policies", HARD, "freeze.min_cosine of soft_frozen_decoder 0.8, 0.0"),
        ("model.inits", {"frozen_decoder": DATA_POINTS}, "init of frozen_decoder null, DataPoints"),
        ("ckpt_path", "elsewhere/checkpoints/last.ckpt", "ckpt_path unset, elsewhere/checkpoints/last.ckpt"),
    ],
)
def test_a_setting_that_changes_what_is_trained_makes_another_experiment(tmp_path: Path, option, value, text):
    assert text in differences(tmp_path, panel((0,)), changed(panel((1,)), option, value))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("data.seed", 5),
        ("seed_everything", 5),
        ("data.n_workers", 7),
        ("name", "another"),
        ("trainer.default_root_dir", "/elsewhere"),
        ("trainer.logger", {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "x"}}),
        ("trainer.callbacks", [{"class_path": "sae_lightning.evaluators.Recovery", "init_args": {"threshold": 0.8}}]),
        ("trainer.callbacks", [{"class_path": "lightning.pytorch.callbacks.LearningRateMonitor"}]),
        ("trainer.accelerator", "gpu"),
        ("trainer.val_check_interval", 0.1),
        ("trainer.precision", "32-true"),
        ("trainer.gradient_clip_val", 0.0),
        ("trainer.gradient_clip_algorithm", "value"),
        ("trainer.accumulate_grad_batches", None),
        ("trainer.accumulate_grad_batches", ...),
        ("trainer", {}),
        ("model.policies", SOFT),
        ("model.widths", None),
        ("model.sae.aux_coefficient", 0.03125),
        ("data.coefficient_sigma", 0.25),
        ("data.batch_size", 16.0),
    ],
)
def test_seeds_places_watchers_and_defaults_do_not(tmp_path: Path, option, value):
    assert differences(tmp_path, panel((0,)), changed(panel((1,)), option, value)) == []


def test_lone_runs_of_several_policies_are_columns_of_one_experiment(tmp_path: Path):
    assert differences(tmp_path, lone(), lone("FrozenDecoder")) == []


def test_a_lone_run_stands_beside_a_panel(tmp_path: Path):
    assert differences(tmp_path, panel(), lone("SoftFrozenDecoder", min_cosine=0.8)) == []


def test_one_policy_with_two_settings_is_two_experiments(tmp_path: Path):
    texts = differences(tmp_path, panel(), lone("SoftFrozenDecoder", min_cosine=0.0))
    assert texts == ["freeze.min_cosine of soft_frozen_decoder 0.8, 0.0"]


def test_lone_runs_call_their_options_as_they_were_typed(tmp_path: Path):
    assert differences(tmp_path, lone(), changed(lone(seed=1), "model.k", 4)) == ["model.k 2, 4"]


def test_the_number_of_ranks_counts_and_not_how_it_was_asked_for(tmp_path: Path):
    run = write(tmp_path / "one", panel((0,)), {"ev": values(0)})
    other = write(tmp_path / "other", changed(panel((1,)), "trainer.devices", "auto"), {"ev": values(1)})
    assert len(experiments_of([Run(run), Run(other)])) == 1
    (other / "starts.jsonl").write_text('{"time": "2026", "command": "fit", "devices": "2 x cuda"}\n')
    assert len(experiments_of([Run(run), Run(other)])) == 2


def test_sizes_of_a_family_count(tmp_path: Path):
    def family(seed: int, factors: list[int], init: object = None) -> dict:
        sae = {"class_path": SAE["class_path"], "init_args": SAE["init_args"] | {"init": init}}
        settings = panel((seed,), sae=sae, expansion_factors=factors, policy_factors=None)
        settings["model"]["class_path"] = "sae_lightning.family.SAEFamily"
        return settings

    assert differences(tmp_path / "a", family(0, [1, 2]), family(1, [1, 2])) == []
    assert differences(tmp_path / "b", family(0, [1, 2]), family(1, [1, 4])) == [
        "model.expansion_factors [1, 2], [1, 4]"
    ]
    texts = differences(tmp_path / "c", family(0, [1, 2]), family(1, [1, 2], DATA_POINTS))
    assert texts == ["init of trained null, DataPoints"]


def test_a_run_that_is_older_than_an_option_did_what_was_done_then(tmp_path: Path):
    """And not what the default says today: b_dec began at zero, and massive activations were kept."""
    median = changed(changed(panel((1,)), "model.sae.b_dec_init", None), "data.max_norm_ratio", 10.0)
    texts = differences(tmp_path / "a", panel((0,)), median)
    assert texts == ["data.max_norm_ratio null, 10.0", "model.sae.b_dec_init Zero, null"]
    zero = changed(panel((1,)), "model.sae.b_dec_init", {"class_path": "sae_lightning.saes.Zero"})
    zero = changed(changed(zero, "data.max_norm_ratio", None), "data.skip_first_positions", 0)
    assert differences(tmp_path / "b", panel((0,)), zero) == []


def test_a_newer_version_validates_an_older_run(tmp_path: Path):
    old = Run(write(tmp_path / "old", panel(), {"ev": values(0)}, {"trained/0": "x"}))
    settings = changed(changed(panel(), "model.sae.b_dec_init", None), "trainer.max_steps", 7)
    new = Run(write(tmp_path / "new", settings, {"f1": values(0)}, {"trained/0": "x"}, "validate"))
    assert len(experiments_of([old, new])) == 1
