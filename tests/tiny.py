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


def save_tiny_gguf(path, layers=2, d=16, seed=0):
    """A LlamaForCausalLM and a byte-level tokenizer in one GGUF file in float32; returns the model."""
    import gguf
    import torch
    from tokenizers import pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM

    merges = ["t h", "th e", "c a", "ca t"]
    special = ["<unk>", "<s>", "</s>", "<pad>"]
    tokens = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in merges)]
    config = LlamaConfig(
        hidden_size=d,
        intermediate_size=2 * d,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        vocab_size=len(tokens),
        initializer_range=0.5,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).eval()
    file = gguf.GGUFWriter(str(path), "llama")
    file.add_name("tiny")
    file.add_context_length(64)
    file.add_embedding_length(d)
    file.add_block_count(layers)
    file.add_feed_forward_length(2 * d)
    file.add_head_count(2)
    file.add_head_count_kv(1)
    file.add_rope_dimension_count(d // 2)
    file.add_rope_freq_base(10_000.0)
    file.add_layer_norm_rms_eps(1e-5)
    file.add_vocab_size(len(tokens))
    file.add_tokenizer_model("gpt2")
    file.add_token_list(tokens)
    file.add_token_types([gguf.TokenType.CONTROL] * len(special) + [gguf.TokenType.NORMAL] * (len(tokens) - 4))
    file.add_token_merges(merges)
    file.add_unk_token_id(0)
    file.add_bos_token_id(1)
    file.add_eos_token_id(2)
    file.add_pad_token_id(3)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, layers)
    heads = {"q_proj": 2, "k_proj": 1}
    for name, weight in model.state_dict().items():
        if n := heads.get(name.split(".")[-2]):  # llama.cpp rotates neighbours, transformers the two halves of a head
            weight = weight.view(n, 2, len(weight) // n // 2, -1).swapaxes(1, 2).reshape(weight.shape)
        file.add_tensor(names.get_name(name, (".weight",)), weight.contiguous().numpy())
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()
    return model


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
