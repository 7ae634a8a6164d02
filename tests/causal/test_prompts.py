"""A prompt is about an entity that stands where it is said to, and has an answer."""

import pytest

from sae_lightning.causal import EntityPrompt


def test_the_entity_must_end_where_it_is_said_to():
    with pytest.raises(ValueError, match="the entity 'Lyon' does not end at character 3 of the prompt 'Paris is in'"):
        EntityPrompt("Paris is in", "Lyon", 3, "country", " France")


@pytest.mark.parametrize("answer", ["", " "])
def test_a_prompt_without_an_answer_is_refused(answer):
    with pytest.raises(ValueError, match="the prompt 'Lyon is in' has no answer"):
        EntityPrompt("Lyon is in", "Lyon", 4, "country", answer)
