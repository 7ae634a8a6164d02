"""A random two-layer language model with a tokenizer, small enough to make anew for each test."""

import json
from pathlib import Path

WORDS = "the cat sat on a mat and dog ran to red hill while old bird sang of far green sea under bright moon"
WORDS = WORDS.split()


def sentences(n, start=0):
    """Deterministic documents of 5 to 40 words."""
    return [
        " ".join(WORDS[(i * 7 + j * (i % 5 + 1) + j * j) % len(WORDS)] for j in range(5 + i % 36))
        for i in range(start, start + n)
    ]


def save_text(path, n=200, start=0, column="text"):
    """JSON lines with one document each; returns the path as a string."""
    Path(path).write_text("".join(json.dumps({column: text}) + "\n" for text in sentences(n, start)), encoding="utf-8")
    return str(path)


def save_lm_data(folder, n_documents, **sizes):
    """A tiny model and its text in a folder; returns the section `data` of a configuration that reads them."""
    model, paths = save_tiny_lm(folder / "model"), save_text(folder / "text.jsonl", n_documents)
    text = {"class_path": "FileText", "init_args": {"paths": paths, "heldout_every": 5}}
    arguments = {"model": str(model), "hook": "model.layers.0", "text": text, **sizes}
    return {"class_path": "LanguageModelDataModule", "init_args": arguments}


def save_tiny_lm(folder, d=16, layers=2, bos=True, context=64, vocabulary=64, dtype="float32", seed=0, words=WORDS):
    """A LlamaForCausalLM and a fast tokenizer of words with <unk> <s> </s> <pad>; returns the folder as a string."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocab = {word: i for i, word in enumerate(["<unk>", "<s>", "</s>", "<pad>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"unk_token": "<unk>", "pad_token": "<pad>"} | ({"bos_token": "<s>", "eos_token": "</s>"} if bos else {})
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)

    config = LlamaConfig(
        hidden_size=d,
        intermediate_size=2 * d,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=context,
        vocab_size=vocabulary,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=3,
        initializer_range=0.5,  # otherwise the layers hardly change anything
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        LlamaForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(folder)
    return str(folder)


def save_sink_lm(folder, sink=100.0, d=16, context=16, seed=0):
    """A GPT2LMHeadModel whose second position embedding is many times as long as the others, and a tokenizer.

    At `transformer.drop` the activations at all other positions are those of the same model with sink=1.
    """
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    save_tiny_lm(folder)
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3}
    config = GPT2Config(n_embd=d, n_layer=1, n_head=2, n_positions=context, vocab_size=64, **special)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPT2LMHeadModel(config)
        model.transformer.wte.weight.data.normal_(std=0.5)
        model.transformer.wpe.weight.data.normal_(std=0.5)
    model.transformer.wpe.weight.data[1] *= sink
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    return str(folder)
