from types import SimpleNamespace

import pytest
import torch
from tiny import save_tiny_lm
from tiny_models import MODELS, save

from sae_lightning.interpretation import TransformersJudge, interpret, local


@pytest.mark.parametrize("template", [None, "{% for m in messages %}{{ m['content'] }}{% endfor %} the cat"])
def test_a_random_model_answers(planted, tmp_path, template):
    from transformers import AutoTokenizer

    folder = save_tiny_lm(tmp_path, context=2048)
    if template is not None:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.chat_template = template
        tokenizer.save_pretrained(folder)
    judge = TransformersJudge(folder, batch_size=30)
    judge.check()
    before = torch.get_rng_state()
    result = interpret(judge, planted)
    assert result.n_not_understood == 100  # it does not know the words yes and no
    assert result.accuracy == 0.5
    assert result.explanation
    assert torch.equal(before, torch.get_rng_state())


def test_a_batch_has_the_answers_of_each_question_alone(tmp_path):
    judge = TransformersJudge(save_tiny_lm(tmp_path, context=256))
    questions = ["the cat sat", "a", "green sea under the bright moon and a dog"]
    assert judge.ask(questions, 5) == [judge.ask([question], 5)[0] for question in questions]


def test_many_questions_are_said_to_take_long_once(planted, tmp_path, monkeypatch):
    said, clock = [], iter(range(0, 1000, 10))
    monkeypatch.setattr(local, "rank_zero_info", said.append)
    monkeypatch.setattr(local, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    judge = TransformersJudge(str(tmp_path))
    judge.ask = lambda prompts, max_tokens: ["yes"] * len(prompts)
    assert judge.begin([planted] * 60)
    for _ in range(2):
        interpret(judge, planted)
    # 10 s for 100 texts, of 60 latents with an explanation each.
    assert said == ["TransformersJudge: about 10 minutes for 6060 questions. Fewer latents (n_latents), fewer texts "
                    "(n_judged) or a smaller model take less."]  # fmt: skip
    judge.begin([planted])
    interpret(judge, planted)
    assert len(said) == 1


@pytest.mark.parametrize("name", ["T5ForConditionalGeneration", "BertForMaskedLM", "GPT2Model"])
def test_a_model_that_does_not_go_on_after_a_prompt_is_refused(tmp_path, name):
    folder, _ = save(tmp_path, name, MODELS[name][0])
    with pytest.raises(ValueError, match="TransformersJudge: model=.* cannot continue a prompt: it is a"):
        TransformersJudge(folder).check()


def test_what_cannot_be_loaded_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no such folder"):
        TransformersJudge(str(tmp_path / "none")).check()
    with pytest.raises(ValueError, match="batch_size=0: expected a whole number, 1 or more"):
        TransformersJudge("x", batch_size=0)
