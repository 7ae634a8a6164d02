import pytest

from sae_lightning.interpretation import LexicalJudge, interpret
from sae_lightning.interpretation.excerpts import Example, Excerpt


def example(text, *strong, start=8):
    """Of a text with a token a word; a token fires if it is among those given."""
    tokens = tuple(f" {word}" for word in text.split(" "))
    return Example(Excerpt(tokens, start), tuple(float(token.strip() in strong) for token in tokens))


def excerpt(text):
    return example(text).excerpt


CONTRAST = [excerpt(text) for text in ("a cat sat there", "the dog ran far", "birds sing of the sea", "No 7 is it")]


def test_a_latent_of_one_token_is_named_and_predicted(planted):
    answer = interpret(LexicalJudge(), planted)
    assert answer.explanation == "fires on ' moon'"
    assert answer.accuracy == 1
    assert answer.n_judged == 100


@pytest.mark.parametrize(
    ("shown", "words", "met", "missed"),
    [
        ([example("in 1990", "1990"), example("at 45", "45"), example("of 12", "12")], "a number", "see 3", "see it"),
        ([example("x met Ann", "Ann"), example("y met it", "it")], "a token after ' met'", "we met him", "Ann left"),
        ([example("x = ( y", "("), example("{ y z", "{")], "a bracket", "z [ 0", "z"),
        ([example("say ' hello", "hello"), example("he said ' 12", "12")], "a token inside a string", '" x', "# ' x"),
        ([example("we talking", "talking"), example("to string", "string")], "a word ending in -ing", "being", "sang"),
    ],
)
def test_what_shown_tokens_have_in_common_is_found(shown, words, met, missed):
    judge = LexicalJudge(n_terms=1)
    rule = judge.explain(shown, CONTRAST)
    assert rule.text == f"fires on {words}"
    assert judge.judge(rule, [excerpt(met), excerpt(missed)]) == [True, False]


def test_the_beginning_of_a_row_is_a_place():
    shown = [example("word one two three", "word", start=0), example("some other that is", "some", start=1)]
    rule = LexicalJudge().explain(shown, CONTRAST)
    assert rule.text == "fires on one of the first 4 tokens of a row"
    begins, goes_on = (example("x y z", start=start).excerpt for start in (3, 4))
    assert LexicalJudge().judge(rule, [begins, goes_on]) == [True, False]


def test_a_rule_may_have_several_terms():
    shown = [example(f"{a} {b} c", b) for a in "pqrs" for b in ("red", "Rome", "+")]
    rule = LexicalJudge().explain(shown, [excerpt(f"{a} green {a} - {a} Paris") for a in "pqrs"])
    for name in ("' red'", "' Rome'", "' +'"):
        assert name in rule.text
    assert not any(LexicalJudge().judge(rule, CONTRAST))
    assert len(LexicalJudge(n_terms=2).explain(shown, CONTRAST).properties) == 2


def test_what_contrast_has_as_well_tells_nothing():
    shown = [example("a cat sat there", "cat"), example("the dog ran far", "dog")]
    rule = LexicalJudge().explain(shown, [one.excerpt for one in shown])
    assert rule.text == "no property of single tokens tells when it fires"
    assert LexicalJudge().judge(rule, [excerpt("a cat"), excerpt("x")]) == [False, False]


def test_a_token_that_does_not_fire_explains_nothing():
    shown = [example(f"zebra {word}", word) for word in ("one", "two", "four")]
    assert "zebra'" not in LexicalJudge(n_terms=1).explain(shown, CONTRAST).text.replace("after ' zebra'", "")


def test_one_example_is_an_accident():
    shown = [example("xylophone a", "xylophone"), example("a cat", "cat"), example("the dog", "dog")]
    assert "xylophone" not in LexicalJudge(min_gain=0.05).explain(shown, CONTRAST).text


@pytest.mark.parametrize(("name", "value"), [("n_terms", 0), ("min_gain", 0.0), ("min_gain", 1.0)])
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}: expected"):
        LexicalJudge(**{name: value})
