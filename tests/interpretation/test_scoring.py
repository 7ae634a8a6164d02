import random

import torch

from sae_lightning.interpretation import Explanation, Judge, interpret
from sae_lightning.members import Member


class Answers(Judge):
    """Answers with a function of the text."""

    def __init__(self, answer):
        self.answer = answer

    def explain(self, shown, contrast):
        return Explanation("whatever")

    def judge(self, explanation, excerpts):
        return [self.answer(excerpt) for excerpt in excerpts]


def test_a_judge_that_knows_is_always_correct(planted):
    assert interpret(Answers(lambda excerpt: "moon" in excerpt.text), planted).accuracy == 1
    assert interpret(Answers(lambda excerpt: "moon" not in excerpt.text), planted).accuracy == 0


def test_a_constant_judge_is_correct_in_half_of_the_cases(planted, task_for, excerpts):
    rare = task_for((torch.arange(excerpts.ids.numel()) % 300 == 40).float())
    assert 2 * sum(rare.fires) == len(rare.judged) < 100
    for task in (planted, rare):
        for answer in (True, False, None):
            result = interpret(Answers(lambda excerpt, answer=answer: answer), task)
            assert result.accuracy == 0.5
            assert result.n_not_understood == (len(task.judged) if answer is None else 0)


def test_a_judge_that_guesses_is_near_one_half(planted):
    coin = random.Random(0)
    scores = [interpret(Answers(lambda excerpt: coin.random() < 0.3), planted).accuracy for _ in range(40)]
    assert abs(sum(scores) / len(scores) - 0.5) < 0.025
    assert len(set(scores)) > 5


def test_without_texts_to_judge_the_score_is_chance(excerpts, task_for):
    result = interpret(Answers(lambda excerpt: True), task_for(torch.ones(excerpts.ids.numel())))
    assert (result.accuracy, result.n_judged) == (0.5, 0)


def test_the_line_that_is_kept_has_tokens_and_activations(planted):
    line = interpret(Answers(lambda excerpt: True), planted).line(Member("trained", 0))
    assert {name: line[name] for name in ("member", "latent", "explanation", "score", "n_judged")} == {
        "member": "trained/0", "latent": 0, "explanation": "whatever", "score": 0.5, "n_judged": 100,
    }  # fmt: skip
    assert len(line["examples"]) == 15
    tokens, activations = line["examples"][0]["tokens"], line["examples"][0]["activations"]
    assert tokens[activations.index(max(activations))] == " moon"
    assert line["frequency"] == planted.frequency
