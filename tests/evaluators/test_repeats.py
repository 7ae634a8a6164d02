"""Repeats of an evaluator with other seeds: means, what is kept of each, and items that make up the means."""

import json
import math
from inspect import signature

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from training import subclasses

from sae_lightning.callbacks.metrics_file import MetricsFile
from sae_lightning.evaluators import Items, Scores
from sae_lightning.evaluators.repeats import Repeated, mean_over_repeats, seed_of
from sae_lightning.members import Member, Tag
from sae_lightning.metric import undescribed
from sae_lightning.runs.metrics_lines import read_validations
from sae_lightning.verdict.statistics import linearised

ANSWER = undescribed("answer", "higher")
A, B = Member("trained", 0), Member("frozen_decoder", 0)


class Draws(Repeated):
    """Asks two of three documents for each member, others in each repeat."""

    documents = ((1.0, 2.0), (3.0, 7.0))

    def __init__(self, n_repeats=1, every_n_validations=1):
        super().__init__(n_repeats, every_n_validations)

    def scores_by_repeat(self, trainer, module, stage):
        for repeat in range(self.n_repeats):
            values = torch.tensor(self.documents[repeat]).double()
            items = {member: values + (member.policy == "trained") for member in module.members}
            names = dict.fromkeys(items, [f"document {repeat}", f"document {repeat + 1}"])
            yield [
                Scores(
                    ANSWER,
                    {member: each.mean() for member, each in items.items()},
                    {member: float(repeat) for member in items},
                    Items.mean(items, names=names),
                )
            ]


def test_a_value_is_the_mean_over_repeats_and_each_is_written(panel, data, trainer, tmp_path):
    run = trainer(Draws(2), MetricsFile(), logger=TensorBoardLogger(tmp_path))
    run.validate(panel, data, verbose=False)
    (line,) = read_validations(next(tmp_path.rglob("metrics.jsonl")))
    assert line.values[Tag("answer")][A] == 4.25
    assert line.repeats[Tag("answer")] == {
        member: (2.5, 6.0) if member == A else (1.5, 5.0) for member in panel.members
    }
    assert line.member_floors[Tag("answer")] == dict.fromkeys(panel.members, 0.5)
    assert line.floors == {Tag("answer"): 0.5}
    assert run.callback_metrics["val/answer/floor"] == 0.5


def test_one_repeat_is_as_if_there_were_none(panel, data, trainer, tmp_path):
    evaluator = Draws(1)
    run = trainer(evaluator, MetricsFile(), logger=TensorBoardLogger(tmp_path))
    run.validate(panel, data, verbose=False)
    assert evaluator.measured["answer"].repeats is None
    assert len(evaluator.measured["answer"].items.numerators[A]) == 2
    (text,) = next(tmp_path.rglob("metrics.jsonl")).read_text().splitlines()
    assert "repeats" not in json.loads(text)


def test_a_document_of_two_repeats_is_one_item_and_the_items_make_up_the_value(panel, data, trainer):
    evaluator = Draws(2)
    trainer(evaluator).validate(panel, data, verbose=False)
    scores = evaluator.measured["answer"]
    numerators, denominators = scores.items.numerators[A], scores.items.denominators[A]
    assert scores.items.paired
    assert len(numerators) == 3
    assert float(numerators.sum() / denominators.sum()) == pytest.approx(4.25)
    # Document 1 was asked twice, 3 and 4 of the trained SAE.
    assert (numerators / denominators).tolist() == pytest.approx([2, 3.5, 8])
    assert denominators.tolist() == pytest.approx([0.75, 1.5, 0.75])


def test_the_same_items_in_every_repeat_are_no_more_certain_than_one_reading_of_them():
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(40, generator=generator).double()
    once = Scores(ANSWER, {A: values.mean()}, None, Items.mean({A: values}, names={A: range(40)}))
    mean = mean_over_repeats([once] * 5)
    spread = [
        np.std(linearised(each.items.numerators[A].numpy(), each.items.denominators[A].numpy()))
        for each in (once, mean)
    ]
    assert len(mean.items.numerators[A]) == 40
    assert spread[1] == pytest.approx(spread[0])


def test_items_without_names_are_different_items_and_ratios_of_repeats_weigh_the_same():
    def scores(numerators, denominators):
        items = Items({A: torch.tensor(numerators)}, {A: torch.tensor(denominators)}, paired=False)
        return Scores(ANSWER, {A: sum(numerators) / sum(denominators)}, 0.5, items)

    mean = mean_over_repeats([scores([1.0, 2], [4.0, 4]), scores([30.0], [100.0])])
    assert mean.members[A] == pytest.approx((3 / 8 + 0.3) / 2)
    numerators, denominators = mean.items.numerators[A], mean.items.denominators[A]
    assert len(numerators) == 3
    assert float(numerators.sum() / denominators.sum()) == pytest.approx(mean.members[A])
    assert mean.floor == 0.5


def test_a_member_without_a_value_in_some_repeat_has_none():
    mean = mean_over_repeats([Scores(ANSWER, {A: 1.0, B: b}, {"": 0.5}) for b in (0.0, math.nan)])
    assert math.isnan(mean.members[B])
    assert mean.repeats == {A: (1.0, 1.0)}
    assert mean.floor == {"": 0.5}


def test_seeds_of_repeats_are_apart_and_the_first_is_the_own_one():
    assert seed_of(7, 0) == 7
    seeds = {seed_of(latent, repeat) for latent in range(1000) for repeat in range(10)}
    assert len(seeds) == 10_000


def test_every_evaluator_that_draws_has_the_option():
    names = {evaluator.__name__ for evaluator in subclasses(Repeated)}
    assert names == {
        "Absorption", "AttributeEditing", "AttributeProbing", "AutoInterp", "CausalEditing", "ConceptPurity",
        "MetaSteering", "Probing", "SparseProbing", "ZeroShotRecovered",
    }  # fmt: skip
    for evaluator in subclasses(Repeated):
        if evaluator.__name__ != "Probing":
            assert signature(evaluator).parameters["n_repeats"].default == 1, evaluator
            assert "n_repeats: " in evaluator.__doc__, evaluator


def test_fewer_than_one_repeat_is_refused():
    with pytest.raises(ValueError, match="n_repeats=0: expected a whole number, 1 or more"):
        Draws(0)
