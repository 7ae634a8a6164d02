"""Every family of models is read at the right places, and asked only what it can answer."""

import pytest
import torch
from tiny_models import GEMMA3, GROUPED, MODELS, SMALL, WHISPER, save

from sae_lightning.sources import LanguageModelSource, TokenBatch
from sae_lightning.sources.tokens import check_next_token

IDS = torch.tensor([[1, 5, 6, 7, 8, 9, 10], [1, 11, 12, 13, 14, 15, 16], [1, 17, 18, 19, 20, 21, 22]])
INPUTS = TokenBatch(IDS, IDS > 2)


@pytest.fixture(scope="module", params=MODELS.items(), ids=MODELS)
def case(request, tmp_path_factory):
    name, (settings, hook, reason) = request.param
    return name, *save(tmp_path_factory.mktemp(name), name, settings), hook, reason


def test_a_model_is_loaded_as_it_was_saved_read_and_asked_what_it_can_answer(case):
    name, folder, saved, hook, reason = case
    source = LanguageModelSource(folder, hook)
    headless = name == "GPT2ForTokenClassification"  # a head that says nothing of tokens is left out
    assert type(source.model).__name__ == ("GPT2Model" if headless else name)
    weights = source.model.state_dict()
    assert all(torch.equal(weights[key.removeprefix("transformer.") if headless else key], value)
               for key, value in saved.state_dict().items() if "classifier" not in key)  # fmt: skip

    activations, mask = source.capture(INPUTS)
    assert activations.shape == (3, 7, source.d_in)
    assert torch.equal(mask, INPUTS.mask)
    edits = []
    clean = source.replace(INPUTS, lambda x: edits.append(x) or x)
    (seen,) = edits
    assert torch.equal(seen, activations)
    assert not torch.allclose(source.replace(INPUTS, torch.zeros_like), clean)

    assert reason in source.no_next_token
    if reason:
        with pytest.raises(ValueError, match=f"Asks asks for the next token.*{name[:4]}.*leave out Asks"):
            check_next_token(source, "Asks")
    else:
        check_next_token(source, "Asks")
        assert clean.shape == (3, 7, 40)
        later = TokenBatch(torch.cat([IDS[:, :-1], IDS[:, -1:] + 1], 1), INPUTS.mask)
        torch.testing.assert_close(source.replace(later, lambda x: x)[:, :-1], clean[:, :-1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("hook_input", [False, True])
def test_hooks_that_are_listed_are_those_that_are_accepted(case, hook_input):
    _, folder, _, hook, _ = case
    source = LanguageModelSource(folder, hook, hook_input)
    usable = source.usable_hooks()
    assert hook in usable
    refused = [name for name in dict(source.model.named_modules()) if name and name not in usable]
    for name in refused[:: 1 + len(refused) // 5]:  # some of them, since each costs a forward
        with pytest.raises(ValueError, match=f"hook={name}: "):
            source.at(name, hook_input)
    longer = TokenBatch(IDS.repeat(1, 2), INPUTS.mask.repeat(1, 2))
    for name in list(usable)[:: 1 + len(usable) // 10]:
        one = source.at(name, hook_input)
        assert one.d_in == usable[name]
        for inputs in (INPUTS, longer):
            assert one.capture(inputs)[0].shape == (*inputs.input_ids.shape, usable[name])
    assert not {name for name in usable if "vision" in name}
    assert hook_input or not {name for name in usable if "rotary" in name or name == "lm_head"}


def test_logits_are_no_activations(tmp_path):
    folder, _ = save(tmp_path, "Gemma2ForCausalLM", GROUPED)  # whose logits are capped after the head
    with pytest.raises(ValueError, match="hook=lm_head: its output is the logits, a number for each of 40 tokens"):
        LanguageModelSource(folder, "lm_head")
    assert LanguageModelSource(folder, "lm_head", hook_input=True).d_in == 16


def test_a_submodule_that_runs_in_every_layer_is_refused(tmp_path):
    folder, _ = save(tmp_path, "AlbertForMaskedLM", SMALL | {"embedding_size": 16, "num_hidden_layers": 3})
    shared = "albert.encoder.albert_layer_groups.0"
    with pytest.raises(ValueError, match=f"hook={shared}: the model runs this submodule 3 times in a forward"):
        LanguageModelSource(folder, shared)


def test_a_model_that_reads_no_text_is_refused(tmp_path):
    folder, _ = save(tmp_path, "WhisperForConditionalGeneration", WHISPER)
    with pytest.raises(ValueError, match=r"WhisperModel cannot be run on tokens alone \(.*expected a model that reads"):
        LanguageModelSource(folder, "decoder.layers.0")


def test_a_roberta_reads_fewer_tokens_than_it_has_positions(tmp_path):
    folder, _ = save(tmp_path, "RobertaForMaskedLM", SMALL | {"pad_token_id": 1})
    source = LanguageModelSource(folder, "roberta.encoder.layer.0")
    assert source.max_length == 30
    source.capture(TokenBatch(torch.full((1, 30), 5), torch.ones(1, 30).bool()))


def test_the_limit_of_a_multimodal_model_is_that_of_its_text(tmp_path):
    folder, _ = save(tmp_path, "Gemma3ForConditionalGeneration", GEMMA3)
    assert LanguageModelSource(folder, "model.language_model.layers.0").max_length == 32
