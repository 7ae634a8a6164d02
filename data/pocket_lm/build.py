"""The untrained pocket language model, its tokenizer, and the form in which both are saved."""

import json
from pathlib import Path

import torch
from measures import CONTEXT
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from sae_lightning.pocket.corpus import PocketCorpus

SPECIAL = ("<|bos|>", "<|eos|>", "<|pad|>")
VOCABULARY = 5632
NAME_REPEATS = 400


def build_tokenizer(corpus: PocketCorpus) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE on the corpus, with the names of the facts tables repeated.

    The repeats make nearly every name's last word one token, so that an entity has one position in a sequence of
    tokens.
    """
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    cells = (cell for entity in corpus.entities for cell in (entity.name, *entity.values.values()))
    names = " " + " ".join(sorted({word for cell in cells for word in cell.split()}))
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([*corpus, *[names] * NAME_REPEATS], trainer)
    bpe.post_processor = processors.TemplateProcessing(
        single=f"{SPECIAL[0]} $A", pair=f"{SPECIAL[0]} $A {SPECIAL[0]} $B", special_tokens=[(SPECIAL[0], 0)]
    )
    bos, eos, pad = SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=bos,
        eos_token=eos,
        pad_token=pad,
        model_max_length=CONTEXT,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def build_model() -> LlamaForCausalLM:
    """Make an untrained model of about 4.6 million parameters."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=256,
            intermediate_size=688,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=2,
        )
    )


def save_model(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the tokenizer and the weights, in 16 bit under a configuration that loads them in 32 bit."""
    state = {name: value.detach().to(torch.float16) for name, value in model.state_dict().items()}
    state.pop("lm_head.weight", None)
    assert all(value.isfinite().all() for value in state.values())
    model.save_pretrained(folder, state_dict=state)
    (folder / "model.safetensors").chmod(0o644)
    tokenizer.save_pretrained(folder)
    # The class name that every version of transformers knows, and nothing about where the tokenizer was loaded from.
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    kept = {name: value for name, value in config.items() if name not in ("backend", "is_local", "local_files_only")}
    path.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
