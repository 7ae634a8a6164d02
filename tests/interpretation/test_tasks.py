import pytest
import torch
from tiny import WORDS

from sae_lightning.interpretation.excerpts import Excerpts, token_texts
from sae_lightning.interpretation.firings import Counts
from sae_lightning.interpretation.tasks import TaskSettings, choose_latents
from sae_lightning.sources import TokenBatch


def where(excerpts, texts):
    numbers = {excerpts[i].tokens: i for i in range(len(excerpts))}
    return [numbers[excerpt.tokens] for excerpt in texts]


def test_shown_and_judged_share_no_row_and_no_text(excerpts, planted):
    shown = where(excerpts, [example.excerpt for example in planted.shown] + list(planted.contrast))
    judged = where(excerpts, planted.judged)
    assert {number // 3 % 2 for number in shown} == {0}
    assert {number // 3 % 2 for number in judged} == {1}
    assert len(set(judged)) == len(judged) == 100


def test_repeated_texts_are_used_once(tokenizer):
    ids = torch.arange(4, 12).repeat(6, 1)
    ids[1, :4] = 4
    excerpts = Excerpts(TokenBatch(ids, torch.ones_like(ids, dtype=torch.bool)), 4, tokenizer)
    assert (excerpts.shown | excerpts.judged).nonzero().flatten().tolist() == [0, 1, 2]
    assert excerpts.start.tolist() == [0, 4] * 6


def test_the_strongest_are_shown_and_all_strengths_judged(excerpts, planted):
    peaks = [max(example.activations) for example in planted.shown]
    assert peaks == sorted(peaks, reverse=True)
    assert len(peaks) == 15
    assert min(peaks) > 0.8
    assert sum(planted.fires) == 50
    for excerpt, fires in zip(planted.judged, planted.fires, strict=True):
        assert ("moon" in excerpt.text) == fires
    for example in planted.shown:
        for token, activation in zip(example.excerpt.tokens, example.activations, strict=True):
            assert (token.strip() == "moon") == (activation > 0)
    assert all("moon" not in excerpt.text for excerpt in planted.contrast)


def test_the_order_of_judged_texts_says_nothing(planted):
    first_half = sum(planted.fires[:50])
    assert 15 < first_half < 35, "a judge that says yes to the first half of them would know no less than the latent"


def test_judged_strengths_reach_from_the_strongest_to_the_weakest(excerpts, task_for):
    active = torch.zeros(len(excerpts), excerpts.length)
    active[excerpts.judged, 2] = torch.arange(int(excerpts.judged.sum())) + 1.0
    active[excerpts.judged.nonzero()[:60, 0]] = 0
    task = task_for(active.flatten())
    judged = [i for i, fires in zip(where(excerpts, task.judged), task.fires, strict=True) if fires]
    strengths = sorted(active[judged].amax(1).tolist())
    assert strengths[0] == 61
    assert strengths[-1] == excerpts.judged.sum()
    assert torch.tensor(strengths).diff().max() <= 4


def test_a_latent_that_always_fires_leaves_nothing_to_judge(excerpts, task_for):
    task = task_for(torch.ones(excerpts.ids.numel()))
    assert not task.judged
    assert len(task.shown) == 15


def test_the_same_latents_are_chosen_for_every_member_as_far_as_they_are_alive():
    n = torch.full((100,), 20)
    settings = TaskSettings(n_latents=30, n_shown=15, n_judged=50, min_excerpts=10, min_frequency=1e-6)
    chosen, alive = choose_latents(Counts(n, n, n, 1000), settings)
    assert len(chosen) == 30
    assert alive == 1
    dead = torch.zeros(100, dtype=torch.bool)
    dead[chosen[:20]] = True
    fewer = n.masked_fill(dead, 9)
    others, alive = choose_latents(Counts(n, n, fewer, 1000), settings)
    assert alive == 0.8
    assert set(chosen[20:]) <= set(others)
    assert len(others) == 30
    assert not set(chosen[:20]) & set(others)
    frequent = n.masked_fill(dead, 1)
    rare_settings = TaskSettings(n_latents=30, n_shown=15, n_judged=50, min_excerpts=1, min_frequency=0.001)
    assert choose_latents(Counts(frequent, n, n, 1000), rare_settings)[1] == 0.8
    assert choose_latents(Counts(0 * n, 0 * n, 0 * n, 1000), settings) == ([], 0.0)


def test_tasks_leave_the_global_random_state_alone(excerpts, task_for):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    task_for((excerpts.ids.flatten() == 9).float())
    n = torch.full((100,), 20)
    choose_latents(Counts(n, n, n, 1000), TaskSettings(30, 15, 50, 10, 1e-6))
    assert torch.equal(before, torch.get_rng_state())


def test_tokens_keep_the_space_in_front(tokenizer):
    assert token_texts(tokenizer, [4, 5]) == [f" {WORDS[0]}", f" {WORDS[1]}"]


@pytest.mark.parametrize("repository", ["data/pocket_lm"])
def test_joined_tokens_are_the_text(repository):
    from pathlib import Path

    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(Path(__file__).parents[2] / repository)
    text = "def naïve(x):\n    return x  # 'Aleppo' in Asia\n"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert "".join(token_texts(tokenizer, ids)) == text
