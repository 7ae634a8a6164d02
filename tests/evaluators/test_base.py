import sys
import types

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from sae_lightning.evaluators import (
    Drift,
    Evaluator,
    Reconstruction,
    Recovery,
    References,
    Scores,
    Sparsity,
    evaluate_across_ranks,
    log_histogram,
)
from sae_lightning.evaluators.base import log_image
from sae_lightning.members import LoggedName, Member, Tag
from sae_lightning.metric import undescribed

ANSWER = undescribed("answer")


class Probe(Evaluator):
    """Counts."""

    def __init__(self, every_n_validations=1):
        super().__init__(every_n_validations)
        self._seen = []

    def start(self, module):
        self._batches = 0

    def update(self, steps):
        self._batches += 1

    def scores(self, trainer, module, stage):
        self._seen.append((stage, trainer.global_step, self._batches))
        return [Scores(ANSWER, dict.fromkeys(module.members, 42.0), 0.5)]


def test_scores_are_logged_for_every_member_with_the_floor(panel, data, trainer):
    run = trainer(Probe())
    run.fit(panel, data)
    logged = {name: value.item() for name, value in run.callback_metrics.items() if name.startswith("val/")}
    assert logged == {f"val/answer/{name}": 42.0 for name in panel.members} | {"val/answer/floor": 0.5}
    assert set(panel.members) == {Member(name, 0) for name in panel.policies}


def test_no_floor_is_logged_where_there_is_none(sae, data, trainer, monkeypatch):
    monkeypatch.setattr(Probe, "scores", lambda *args: [Scores(ANSWER, {Member("trained", 0): 1.0}, None)])
    run = trainer(Probe())
    run.validate(sae, data, verbose=False)
    assert set(run.callback_metrics) == {"val/answer/trained/0"}


def test_the_sanity_check_does_not_count_and_each_validation_starts_afresh(sae, data, trainer):
    probe = Probe()
    trainer(probe, num_sanity_val_steps=2).fit(sae, data)
    assert probe._seen == [("val", step, 10) for step in (2, 4, 6, 8, 10)]


def test_a_test_is_logged_under_its_own_name_and_always_counts(sae, data, trainer):
    probe = Probe(every_n_validations=7)
    run = trainer(probe)
    run.test(sae, data, verbose=False)
    assert probe._seen == [("test", 0, 10)]
    assert run.callback_metrics["test/answer/floor"] == 0.5


def test_validating_a_finished_model_always_counts(sae, data, trainer):
    probe = Probe(every_n_validations=7)
    trainer(probe).validate(sae, data, verbose=False)
    assert probe._seen == [("val", 0, 10)]


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({}, [6, 10]),  # validations after 2, 4, ..., 10 steps: the third, and the last
        ({"max_steps": 9}, [6, 8]),
        ({"max_steps": -1, "max_epochs": 3, "val_check_interval": 1.0}, [30]),
        ({"max_steps": -1, "max_epochs": 2, "val_check_interval": 6}, [16]),
        ({"max_steps": 25, "val_check_interval": 6, "check_val_every_n_epoch": None}, [18, 24]),
        ({"max_steps": -1, "max_epochs": 3, "val_check_interval": 1.0, "check_val_every_n_epoch": 2}, [20]),
        ({"max_steps": -1, "max_epochs": 2, "val_check_interval": 1.0, "accumulate_grad_batches": 5}, [4]),
    ],
)
def test_every_third_validation_and_the_last(sae, data, trainer, settings, steps):
    probe = Probe(every_n_validations=3)
    trainer(probe, num_sanity_val_steps=0, limit_val_batches=1, **settings).fit(sae, data)
    assert [step for _, step, _ in probe._seen] == steps


def test_counting_goes_on_after_a_restart(sae, data, trainer, tmp_path):
    first, second = Probe(every_n_validations=4), Probe(every_n_validations=4)
    stopped = trainer(first)
    stopped.fit(sae, data)
    stopped.save_checkpoint(tmp_path / "stopped.ckpt")
    state = torch.load(tmp_path / "stopped.ckpt", weights_only=True)["callbacks"][first.state_key]
    assert state == {"n_validations": 5}
    trainer(second, max_steps=20).fit(sae, data, ckpt_path=tmp_path / "stopped.ckpt")
    assert [step for _, step, _ in second._seen] == [16, 20]


def test_evaluators_of_one_class_have_states_of_their_own(sae, data, trainer):
    evaluators = [Recovery(0.8), Recovery(0.9), Recovery(0.8, every_n_validations=2), Drift(), Sparsity()]
    evaluators += [References(2), References(3), References(3, n_samples=64)]
    assert len({evaluator.state_key for evaluator in evaluators}) == 8
    key = evaluators[0].state_key
    trainer(evaluators[0]).validate(sae, data, verbose=False)
    assert evaluators[0].state_key == key


def test_training_is_the_same_bits_with_and_without_evaluators(panel, synthetic, trainer):
    results = []
    for evaluators in ([], [Reconstruction(), Sparsity(), Drift(), Recovery(), References(2, n_samples=32)]):
        torch.manual_seed(3)
        for sae in panel.members.values():
            sae.initialise(sae.seed)
        trainer(*evaluators, max_steps=4, limit_val_batches=2).fit(panel, synthetic)
        results.append([*(p.detach().clone() for p in panel.parameters()), torch.get_rng_state()])
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


def test_a_module_without_members_is_refused(data, trainer):
    with pytest.raises(ValueError, match="Drift: expected an SAE or a SanityPanel, got LightningModule"):
        Drift().setup(trainer(), LightningModule(), "fit")


def test_every_n_validations_must_not_be_negative():
    with pytest.raises(
        ValueError, match="every_n_validations=-1: expected a whole number, 0 or more, where 0 is the last alone"
    ):
        Drift(every_n_validations=-1)


def test_an_evaluator_can_ask_at_the_end_alone(sae, data, trainer):
    probe = Probe(every_n_validations=0)
    trainer(probe).fit(sae, data)
    assert probe._seen == [("val", 10, 10)]
    assert probe.measured["answer"].floor == 0.5


def test_members_are_shared_between_ranks_and_come_back_in_order(panel):
    assert evaluate_across_ranks(panel.members, lambda member, sae: (member, sae.d_sae)) == {
        member: (member, 24) for member in panel.members
    }


class Recorder:
    """Stands for a logger, or for its experiment."""

    def __init__(self, **methods):
        self.__dict__.update(methods)


def test_histograms_go_to_every_logger_that_can_draw_them(trainer):
    drawn = []
    run = trainer()
    run.loggers = [
        Recorder(log_histogram=lambda *args: drawn.append(("panel", *args))),
        Recorder(experiment=Recorder(add_histogram=lambda *args: drawn.append(("plain", *args)))),
        Recorder(experiment=Recorder()),
        Recorder(),
    ]
    member = Member("trained", 0)
    log_histogram(run, "val", "what", member, torch.ones(2, dtype=torch.float64, requires_grad=True))
    log_histogram(run, "val", "what", member, torch.ones(0))
    assert [(*entry[:2], entry[-1]) for entry in drawn if entry[0] == "panel"] == [
        ("panel", LoggedName.of("val", "what", member), 0)
    ]
    assert [entry[:2] for entry in drawn if entry[0] == "plain"] == [("plain", "val/what/trained/0")]


def test_weights_and_biases_gets_the_same_names_and_what_it_can_draw(monkeypatch):
    wandb = types.ModuleType("wandb")
    wandb.Histogram, wandb.Image = (lambda values: ("histogram", values)), (lambda image: ("image", image))
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    logged = {}

    class Fake(WandbLogger):
        experiment = None

        def __init__(self):
            """Needs no installed library."""

        def log_metrics(self, metrics, step=None):
            logged.update(metrics, step=step)

    run = Trainer(logger=Fake(), accelerator="cpu", enable_checkpointing=False)
    member = Member("trained", 0)
    log_histogram(run, "val", "cosine_to_start", member, torch.tensor([1.0, torch.nan, 2.0]))
    image = np.zeros((2, 3, 3), np.uint8)
    log_image(run, "val", Tag("latent_images"), member, image)
    log_image(run, "val", Tag("latent_images"), None, image)
    assert logged == {
        "val/cosine_to_start/trained/0": ("histogram", [1.0, 2.0]),
        "val/latent_images/trained/0": [("image", image)],
        "val/latent_images": [("image", image)],
        "step": 0,
    }
