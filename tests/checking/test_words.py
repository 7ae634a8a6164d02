"""The word and the sentence of each question, from what the intervals say of each control."""

import pytest
from checking.checks import control, metric

from sae_lightning.checking.words import questions_of

RANDOM, PERMUTED = "random_encoder", "permuted_decoder"


def answer(*verdicts, **about):
    """The word and the sentence where the controls have these verdicts."""
    controls = {f"{number}": control(RANDOM, verdict=one) for number, one in enumerate(verdicts)}
    for number, one in controls.items():
        one["label"] = f"Control {number}"
    [question] = questions_of({"explained_variance": metric("Variance", "reconstruction", 0.8, controls)}, **about)
    return question["word"], question["sentence"]


@pytest.mark.parametrize(
    ("verdicts", "word", "sentence"),
    [
        (("beats", "beats"), "yes", "Variance: better than all 2 controls."),
        (("beats", "loses"), "no", "Variance: better than 1 of 2 controls; worse than Control 1."),
        (("beats", "equivalent"), "no", "Variance: better than 1 of 2 controls; as good as Control 1."),
        (("beats", "unclear"), "unclear", "Variance: better than 1 of 2 controls; not told from Control 1."),
        (("unclear", "loses"), "no", "worse than Control 1; not told from Control 0."),
        (("beats", "unknown"), "unknown", "without an interval beside Control 1."),
        (("unclear", "unknown"), "unclear", "better than none of 2 controls"),
        (("loses",) * 2, "no", "better than none of 2 controls; worse than Control 0; Control 1."),
        (("loses",) * 3, "no", "better than none of 3 controls; worse than 3."),
    ],
)
def test_the_word_follows_from_the_verdicts(verdicts, word, sentence):
    said = answer(*verdicts)
    assert said[0] == word
    assert sentence in said[1]


def test_controls_that_do_nothing_are_not_asked():
    assert answer("beats", "inactive") == ("yes", "Variance: better than all 1 controls.")
    only = {RANDOM: control(RANDOM, verdict="inactive")}
    assert questions_of({"explained_variance": metric("Variance", "reconstruction", 0.8, only)}) == []


def test_a_question_is_answered_by_its_headline_metric_alone():
    controls = {RANDOM: control(RANDOM), PERMUTED: control(PERMUTED)}
    metrics = {
        "explained_variance": metric("Variance", "reconstruction", 0.8, controls),
        "fvu": metric("Unexplained", "reconstruction", 0.2, controls, "lower", False),
        "l0": metric("l0", "sparsity", 30.0, controls, None),
        "ce": metric("Loss", "model", 0.2, {}),
    }
    [question] = questions_of(metrics, "frozen twins")
    assert question["metric"] == "explained_variance"
    assert question["text"] == "Question on reconstruction?"
    assert question["sentence"] == "Variance: better than all 2 frozen twins."
