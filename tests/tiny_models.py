"""Random models of many families, each of one or two narrow layers, by the class that is saved."""

import torch

SMALL = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
    "initializer_range": 0.5,  # otherwise the layers hardly change anything
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = SMALL | {"num_key_value_heads": 1, "head_dim": 8}
T5 = {
    "vocab_size": 40,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 24,
    "num_layers": 1,
    "num_heads": 2,
    "initializer_factor": 1.0,
}
T5 |= {"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
BART = {"vocab_size": 40, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "max_position_embeddings": 32}
BART |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24}
BART |= {"init_std": 0.5, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2}
GPT2 = {"vocab_size": 40, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32, "initializer_range": 0.5}
GPT2 |= {"bos_token_id": 1, "eos_token_id": 2}
VISION = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION |= {"image_size": 28, "patch_size": 14}
GEMMA3 = {"text_config": GROUPED | {"sliding_window": 8}, "vision_config": VISION, "mm_tokens_per_image": 4}
GEMMA3 |= {"boi_token_index": 36, "eoi_token_index": 37, "image_token_index": 38}
MOE = GROUPED | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "decoder_sparse_step": 1}
WHISPER = {"vocab_size": 40, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "num_mel_bins": 8}
WHISPER |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
WHISPER |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}

NEXT = ""  # of a reason why no next token is predicted
MODELS = {  # the class that is saved, its settings, a hook, and why it predicts no next token
    "GPT2LMHeadModel": (GPT2, "transformer.h.0", NEXT),
    "LlamaForCausalLM": (GROUPED, "model.layers.0", NEXT),
    "Gemma2ForCausalLM": (GROUPED, "model.layers.0", NEXT),
    "Gemma3ForCausalLM": (GROUPED | {"sliding_window": 8}, "model.layers.0", NEXT),
    "Gemma3ForConditionalGeneration": (GEMMA3, "model.language_model.layers.0", NEXT),
    "Qwen3MoeForCausalLM": (MOE, "model.layers.0", NEXT),
    "MambaForCausalLM": (SMALL | {"state_size": 4}, "backbone.layers.0", NEXT),
    "RwkvForCausalLM": ({"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2}, "rwkv.blocks.0", NEXT),
    "OPTForCausalLM": (
        SMALL | {"ffn_dim": 24, "init_std": 0.5, "word_embed_proj_dim": 16},
        "model.decoder.layers.0",
        NEXT,
    ),
    "PhiForCausalLM": (SMALL, "model.layers.0", NEXT),
    "FalconForCausalLM": (SMALL, "transformer.h.0", NEXT),
    "BloomForCausalLM": (SMALL | {"n_layer": 1, "n_head": 2}, "transformer.h.0", NEXT),
    "GPTNeoXForCausalLM": (SMALL, "gpt_neox.layers.0", NEXT),
    "BartForCausalLM": (BART | {"is_decoder": True}, "model.decoder.layers.0", NEXT),
    "GPT2Model": (GPT2 | {"n_embd": 64}, "h.0", "without a language-modelling head"),  # wider than the vocabulary
    "GPT2ForTokenClassification": (GPT2, "h.0", "without a language-modelling head"),
    "BertModel": (SMALL, "encoder.layer.0", "without a language-modelling head"),
    "BertForMaskedLM": (SMALL, "bert.encoder.layer.0", "a masked model"),
    "BertLMHeadModel": (SMALL, "bert.encoder.layer.0", "sees the tokens after"),
    "DistilBertForMaskedLM": (
        SMALL | {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 24},
        "distilbert.transformer.layer.0",
        "a masked model",
    ),
    "RobertaForMaskedLM": (SMALL | {"pad_token_id": 1}, "roberta.encoder.layer.0", "a masked model"),
    "ModernBertForMaskedLM": (
        SMALL | {"cls_token_id": 1, "sep_token_id": 2, "reference_compile": False},
        "model.layers.0",
        "a masked model",
    ),
    "T5ForConditionalGeneration": (T5, "encoder.block.0", "an encoder-decoder"),
    "T5EncoderModel": (T5, "encoder.block.0", "without a language-modelling head"),
    "BartForConditionalGeneration": (BART, "model.decoder.layers.0", "an encoder-decoder"),
}


def save(folder, name, settings):
    import transformers

    cls = getattr(transformers, name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = cls(cls.config_class(**settings))
    model.save_pretrained(folder)
    return str(folder), model.eval()
