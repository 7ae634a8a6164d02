"""Pairs of prompts that differ in what is swapped and in what is asked."""

import pytest

from sae_lightning.causal import EntityPrompt, draw_pairs


def prompts_about(*attributes, n=6):
    return [EntityPrompt(f"e{i}", f"e{i}", 2, name, f" {name}{i % 3}") for name in attributes for i in range(n)]


def values_of(prompts):
    return {(prompt.entity, prompt.attribute): prompt.answer for prompt in prompts}


def test_pairs():
    prompts = prompts_about("country", "language", "currency")
    pairs = draw_pairs(prompts, values_of(prompts), "country", 8, seed=0)
    assert pairs == draw_pairs(prompts, values_of(prompts), "country", 8, seed=0)
    assert [pair.is_cause for pair in pairs] == [True] * 8 + [False] * 8
    for pair in pairs:
        base, source = prompts[pair.base], prompts[pair.source]
        assert source.attribute == "country"
        assert int(base.entity[1]) % 3 != int(source.entity[1]) % 3
        assert pair.answer == (source if pair.is_cause else base).answer
    assert {prompts[pair.base].attribute for pair in pairs[:8]} == {"country"}
    assert [prompts[pair.base].attribute for pair in pairs[8:]] == ["language"] * 4 + ["currency"] * 4
    assert len({pair.base for pair in pairs[:6]}) == 6  # each once before one is taken again


def test_no_pairs():
    alike = [EntityPrompt(f"e{i}", f"e{i}", 2, name, " same") for name in ("country", "language") for i in range(4)]
    with pytest.raises(ValueError, match="no pairs for country: among the entities .* no two differ in it and in"):
        draw_pairs(alike, values_of(alike), "country", 2, seed=0)
    only = prompts_about("country")
    with pytest.raises(ValueError, match="no pairs for country: they need known prompts about it, and about another"):
        draw_pairs(only, values_of(only), "country", 2, seed=0)
