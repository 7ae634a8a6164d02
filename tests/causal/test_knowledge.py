"""What a model knows of facts is said, and what it knows too little of is left out."""

from collections import Counter

import pytest
from causal.toy import ToyData, ToyPrompts

from sae_lightning.causal import EntityPrompt, Knowledge, ask_what_is_known


class Taught(ToyPrompts):
    """Beside what the toy knows, attributes of which its prompts say something else."""

    def __init__(self, *wrong, n_correct=0):
        super().__init__()
        self.wrong, self.n_correct = wrong, n_correct

    def prompts(self, split):
        prompts = list(super().prompts(split))
        for attribute in self.wrong:
            for i, one in enumerate([one for one in prompts if one.attribute == "country"]):
                answer = one.answer if i < self.n_correct else " language0"
                prompts.append(EntityPrompt(one.text, one.entity, one.entity_end, attribute, answer))
        return prompts


class OneValue(ToyPrompts):
    """The first attribute has a single value, but for few entities."""

    def prompts(self, split):
        own = [one for one in super().prompts(split) if one.attribute == "language" or one.answer == " country0"]
        own += [one for one in super().prompts(split) if one.answer == " country1"][:3]
        return own + own[:6]  # the model is asked some of them twice, so that it knows enough


def knowledge(prompts, data=None, n_prompts=100):
    data = data or ToyData()
    return Knowledge(*(ask_what_is_known(data.reader, prompts, n_prompts, 0, "", s) for s in ("train", "test")))


def test_shares_are_of_what_was_asked():
    known = knowledge(Taught("mayor", n_correct=9))
    assert [known.share(name) for name in known.attributes] == [1, 1, 9 / 36]
    # Three values of twelve prompts each; of the last one, 27 of 36 have one value.
    assert [known.share_of_commonest(name) for name in known.attributes] == [1 / 3, 1 / 3, 27 / 36]


def test_what_is_known_too_little_is_left_out_and_the_rest_is_not():
    known = knowledge(Taught("mayor", n_correct=9))
    assert known.left_out() == {
        "mayor": "the model answers 9 of 36 train prompts about mayor correctly, and 16 are needed"
    }
    known.refuse_if_nothing_is_left()
    lines = known.table().splitlines()
    assert [line.split() for line in lines if line.startswith("mayor")] == [
        ["mayor", *["9", "of", "36"], *["9", "of", "36"], "0.250", "0.750", "left", "out"]
    ]
    assert not any("left out" in line for line in lines if line.startswith("country"))


def test_one_answer_to_everything_is_no_knowledge():
    reason = knowledge(OneValue()).left_out()["country"]
    assert "have the answer 'country0', and 4 others are needed" in reason


def test_an_attribute_that_is_alone_of_its_entities_is_left_out():
    prompts = Taught("mayor")
    prompts.prompts = lambda split: [one for one in Taught("mayor").prompts(split) if one.attribute != "language"]
    known = knowledge(prompts)
    assert known.left_out()["country"] == "of no other attribute of the entities of country the model knows enough"
    with pytest.raises(
        ValueError, match=r"the model answers 0 of 36 train prompts about mayor(.|\n)*country +36 of 36"
    ):
        known.refuse_if_nothing_is_left()


def test_a_model_that_knows_nothing_is_refused_with_what_it_knows():
    known = knowledge(ToyPrompts(), ToyData(knows=False))
    with pytest.raises(ValueError, match="answers 0 of 36 train prompts about country correctly, and 16 are needed"):
        known.refuse_if_nothing_is_left()


def test_each_prompt_is_asked_once():
    data, answered = ToyData(), {}
    for seed in (0, 1):
        answers = ask_what_is_known(data.reader, ToyPrompts(), 10, seed, "", "train", answered)
        assert Counter(one.attribute for one, _ in answers.known) == {"country": 10, "language": 10}
    n_calls = len(data.source.hooks)
    ask_what_is_known(data.reader, ToyPrompts(), 10, 1, "", "train", answered)
    assert len(data.source.hooks) == n_calls


def test_an_edit_that_cannot_reach_an_entity_makes_it_unknown():
    data = ToyData()
    data.source.capture = lambda inputs: (data.source.table[inputs.input_ids], inputs.mask & False)
    assert ask_what_is_known(data.reader, ToyPrompts(), 10, 0, "", "train").known == []


def test_prompts_about_one_attribute_are_refused():
    with pytest.raises(ValueError, match="prompts are about country; isolation needs two attributes or more"):
        ask_what_is_known(ToyData().reader, ToyPrompts(("country",)), 100, 0, "", "test")
