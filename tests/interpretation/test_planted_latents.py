"""Latents of `benchmarks.planted_latents` fire where they are said to, and a judge is scored on that."""

from benchmarks.planted_latents import Planted, Told, summary, tasks_of
from sae_lightning.interpretation import Judge, LexicalJudge, interpret
from sae_lightning.interpretation.tasks import TaskSettings

SETTINGS = TaskSettings(1, n_shown=10, n_judged=12, min_excerpts=12, min_frequency=0.0)
MOON = Planted("the moon", lambda token, before: token.strip() == "moon", True)
AFTER_MOON = Planted("what follows the moon", lambda token, before: before.strip() == "moon", False)
NEVER = Planted("nothing", lambda token, before: False, True)


class Reads(Judge):
    """Knows what one explanation means."""

    def explain(self, shown, contrast):
        raise AssertionError

    def judge(self, explanation, excerpts):
        return ["moon" in excerpt.text and explanation.text == "the moon" for excerpt in excerpts]


def test_latents_fire_on_their_tokens_and_judges_are_scored_on_them(excerpts):
    tasks = dict(tasks_of([MOON, AFTER_MOON, NEVER], excerpts, SETTINGS))
    assert list(tasks) == [MOON, AFTER_MOON]
    task = tasks[MOON]
    assert [any("moon" in token for token in excerpt.tokens) for excerpt in task.judged] == list(task.fires)
    assert sum(task.fires) == 12
    after = tasks[AFTER_MOON].shown[0]
    place = max(range(len(after.activations)), key=after.activations.__getitem__)
    assert "moon" in after.excerpt.tokens[place - 1]
    assert place > 0
    results = [(latent, interpret(LexicalJudge(), task)) for latent, task in tasks.items()]
    assert results[0][1].accuracy == 1
    assert summary(results)["seen in the token"] == "too few latents"
    assert summary([results[0], results[0]])["all"] == "1.000 ± 0.000 (2 latents, 100% above 0.7)"


def test_a_judge_that_is_told_the_truth_only_predicts(excerpts):
    ((_, task),) = tasks_of([MOON], excerpts, SETTINGS)
    told = interpret(Told(Reads(), "the moon"), task)
    assert (told.accuracy, told.explanation) == (1, "the moon")
    assert interpret(Told(Reads(), "the sun"), task).accuracy == 0.5
