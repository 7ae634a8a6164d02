import pytest
import torch
from tiny_models import MODELS, save
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    LlamaConfig,
    LlamaForCausalLM,
)

from sae_lightning.density.activations import block_outputs
from sae_lightning.density.logits import density_of, read_unembedding
from sae_lightning.metrics.rotation import random_rotation
from sae_lightning.sources import LanguageModelSource

SIZES = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 40,
}


def made(kind):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "llama":
            return LlamaForCausalLM(LlamaConfig(**SIZES, bos_token_id=1, eos_token_id=2, pad_token_id=3))
        if kind == "gemma":
            return Gemma2ForCausalLM(Gemma2Config(**SIZES, final_logit_softcapping=None))
        config = GPT2Config(
            n_embd=16, n_layer=2, n_head=2, vocab_size=40, n_positions=8, bos_token_id=1, eos_token_id=1
        )
        return (GPT2LMHeadModel if kind == "gpt2" else GPT2Model)(config)


@pytest.fixture
def source(request, tmp_path):
    kind, hook, _ = request.param
    model = made(kind)
    random = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:  # gains and biases that say something
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=random)
        if name.endswith("wte.weight"):
            parameter.data *= 20
    model.save_pretrained(tmp_path)
    return LanguageModelSource(str(tmp_path), hook)


CASES = [
    ("llama", "model.layers.0", "model.norm"),
    ("gemma", "model.layers.0", "model.norm"),
    ("gpt2", "transformer.h.0", "transformer.ln_f"),
]


@pytest.mark.parametrize(("source", "case"), [(case, case) for case in CASES], indirect=["source"], ids=lambda c: c[0])
def test_folded_norm_and_head_give_the_logits(source, case):
    unembedding = read_unembedding(source)
    assert unembedding.norm == case[2]
    norm = source.model.get_submodule(case[2])
    x = 3 * torch.randn(5, 16, generator=torch.Generator().manual_seed(2))
    # A norm's bias is the same for x and -x, and its division the one thing that is left out.
    logits = (source.model.get_output_embeddings()(norm(x)) - source.model.get_output_embeddings()(norm(-x))) / 2
    centred = x - x.mean(1, keepdim=True) if case[0] == "gpt2" else x
    expected = x @ unembedding.W_U / centred.square().mean(1, keepdim=True).sqrt()
    torch.testing.assert_close(expected, logits - logits.mean(1, keepdim=True), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("source", [("headless", "h.0", "")], indirect=True)
def test_model_without_a_head(source):
    assert read_unembedding(source) is None
    assert block_outputs(source) == ["h.0", "h.1"]
    table = density_of({"axes": torch.eye(16)}, None)
    assert [row["reading"] for row in table] == ["coordinates"]


def test_a_head_that_does_not_read_the_activations_and_blocks_that_see_no_token(tmp_path):
    for name, first in (
        ("BertForMaskedLM", "bert.encoder.layer.0"),
        ("T5ForConditionalGeneration", "encoder.block.0"),
        ("Gemma3ForConditionalGeneration", "model.language_model.layers.0"),  # its vision tower has more blocks
    ):
        settings, hook, reason = MODELS[name]
        layers = {"num_layers": 4} if name.startswith("T5") else {}  # else the three parts of its one block are more
        source = LanguageModelSource(save(tmp_path / name, name, settings | layers)[0], hook)
        assert (read_unembedding(source) is None) == bool(reason)
        assert block_outputs(source)[0] == first


@pytest.mark.parametrize("source", CASES[:1], indirect=True)
def test_the_density_of_axes_is_in_the_basis(source):
    unembedding = read_unembedding(source)
    bases = {"axes": torch.eye(16), "rotated": random_rotation(16, torch.Generator().manual_seed(0))}
    table = {(row["directions"], row["reading"]): row for row in density_of(bases, unembedding)}
    assert table["axes", "coordinates"]["hoyer"] == pytest.approx(1)
    assert table["rotated", "coordinates"]["hoyer"] < 0.4
    assert table["axes", "logits"]["hoyer"] == pytest.approx(table["rotated", "logits"]["hoyer"], abs=0.05)
