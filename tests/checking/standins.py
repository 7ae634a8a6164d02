"""Stand-ins for published SAEs: random weights in the files of each format, and narrow models of each architecture."""

import json
import re
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tiny import WORDS, save_text
from tiny_models import GROUPED, SMALL, save

D_IN, D_SAE, K = 64, 96, 4  # Qwen-Scope keeps up to 50, as the name of its repository says, and controls at most d_in
THRESHOLD = 8.0
ARCHITECTURES = {
    "google/gemma-3-": ("Gemma3ForCausalLM", GROUPED | {"sliding_window": 8}),
    "google/gemma-2-": ("Gemma2ForCausalLM", GROUPED),
    "meta-llama/": ("LlamaForCausalLM", GROUPED),
    "EleutherAI/pythia-": ("GPTNeoXForCausalLM", SMALL),
    "Qwen/Qwen3-": ("Qwen3ForCausalLM", GROUPED),
}
CLASSES = {
    "Standard": "AutoEncoder",
    "TopK": "AutoEncoderTopK",
    "top_k": "AutoEncoderTopK",
    "BatchTopK": "BatchTopKSAE",
    "MatryoshkaBatchTopK": "MatryoshkaBatchTopKSAE",
    "matryoshka_batch_top_k": "MatryoshkaBatchTopKSAE",
    "JumpRelu": "JumpReluAutoEncoder",
    "jump_relu": "JumpReluAutoEncoder",
    "GatedSAE": "GatedAutoEncoder",
}


def model(folder, name, hook):
    """Save a narrow model of the architecture of a published one, as deep as the hook asks for, with a tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    cls, settings = next(own for start, own in ARCHITECTURES.items() if name.startswith(start))
    layer = int(re.search(r"\d+", hook)[0])
    save(folder, cls, settings | {"hidden_size": D_IN, "num_hidden_layers": layer + 2, "initializer_range": 0.2})
    vocabulary = {word: i for i, word in enumerate(["<unk>", "<s>", "</s>", "<pad>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {} if name.startswith("Qwen/") else {"bos_token": "<s>", "eos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", **special).save_pretrained(folder)
    return str(folder)


def weights(place):
    """Tensors of our names, others for each place: unit decoder directions, which the encoder reads."""
    draw = torch.Generator().manual_seed(zlib.crc32(place.as_posix().encode()))
    rows = torch.nn.functional.normalize(torch.randn(D_SAE, D_IN, generator=draw), dim=1)
    return {"W_enc": rows.T.contiguous(), "W_dec": rows, "b_enc": torch.zeros(D_SAE), "b_dec": torch.zeros(D_IN)}


def published(root, where):
    """Write an SAE in the format of a published one under the end of its path, and return the new path."""
    repository, path = re.fullmatch(r"hf://[\w.-]+/([\w.-]+)/(.+)", where).groups()
    place = root / repository / path
    folder = place.parent if place.suffix in (".safetensors", ".pt") else place
    folder.mkdir(parents=True, exist_ok=True)
    write = next(write for start, write in WRITERS.items() if repository.startswith(start))
    write(folder, place)
    return str(place)


def gemma_scope(folder, place):
    np.savez(folder / "params.npz", **{k: v.numpy() for k, v in (weights(place) | _threshold()).items()})


def gemma_scope_2(folder, place):
    save_file({name.lower(): tensor for name, tensor in (weights(place) | _threshold()).items()}, place)
    layer = re.search(r"layer_(\d+)", str(place))[1]
    hook = f"model.layers.{layer}.output"
    config = {"hf_hook_point_in": hook, "hf_hook_point_out": hook, "width": D_SAE, "model_name": "google/gemma-3"}
    config |= {"architecture": "jump_relu", "l0": 60, "affine_connection": False, "type": "sae"}
    (folder / "config.json").write_text(json.dumps(config))


def llama_scope(folder, place):
    own, hook = weights(place), f"blocks.{re.search(r'-L([0-9]+)R-', str(place))[1]}.hook_resid_post"
    (folder / "checkpoints").mkdir()
    tensors = {"encoder.weight": own["W_enc"].T.contiguous(), "encoder.bias": own["b_enc"]}
    tensors |= {"decoder.weight": own["W_dec"].T.contiguous(), "decoder.bias": own["b_dec"]}
    save_file(tensors, folder / "checkpoints/final.safetensors")
    config = {"d_model": D_IN, "d_sae": D_SAE, "act_fn": "jumprelu", "jump_relu_threshold": THRESHOLD, "top_k": K}
    config |= {"norm_activation": "dataset-wise", "dataset_average_activation_norm": {"in": 4.0, "out": 4.0}}
    config |= {"sparsity_include_decoder_norm": True, "use_decoder_bias": True, "seed": 0}
    config |= {"apply_decoder_bias_to_pre_encoder": False, "hook_point_in": hook, "hook_point_out": hook}
    (folder / "hyperparams.json").write_text(json.dumps(config))


def saebench(folder, place):
    name, layer = re.search(
        r"/(?:gemma-2-2b_)?(\w+?)_(?:width|pythia)[^/]*/resid_post_layer_(\d+)", str(place)
    ).groups()
    cls, own = CLASSES[name], weights(place)
    bias = {"AutoEncoder": "bias", "GatedAutoEncoder": "decoder_bias"}.get(cls, "b_dec")
    tensors = {"encoder.weight": own["W_enc"].T.contiguous(), "decoder.weight": own["W_dec"].T.contiguous()}
    tensors |= {bias: own["b_dec"]}
    if cls == "GatedAutoEncoder":
        tensors |= {key: torch.full((D_SAE,), -THRESHOLD) for key in ("gate_bias", "mag_bias")}
        tensors["r_mag"] = torch.zeros(D_SAE)
    else:
        tensors["encoder.bias"] = own["b_enc"]
    if cls in ("MatryoshkaBatchTopKSAE", "JumpReluAutoEncoder"):
        tensors = own | (_threshold() if cls == "JumpReluAutoEncoder" else {})
    if "TopK" in cls:
        tensors |= {"k": torch.tensor(K, dtype=torch.int32), "threshold": torch.tensor(THRESHOLD)}
    if cls == "MatryoshkaBatchTopKSAE":
        tensors["group_sizes"] = torch.tensor([8, D_SAE - 8])
    torch.save(tensors, folder / "ae.pt")
    trainer = {"trainer_class": "T", "dict_class": cls, "activation_dim": D_IN, "dict_size": D_SAE, "lr": 1e-3}
    trainer |= {"steps": 100, "seed": 0, "layer": int(layer), "lm_name": "a/model"}
    trainer |= {"submodule_name": f"resid_post_layer_{layer}"} | ({"k": K} if "TopK" in cls else {})
    buffer = {"d_submodule": D_IN, "io": "out", "ctx_len": 1024, "out_batch_size": 2048}
    (folder / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": buffer}))


def saelens(folder, place):
    save_file(weights(place) | _threshold(), folder / "sae_weights.safetensors")
    metadata = {"sae_lens_version": "6.54.0", "model_name": "gemma-2-2b", "hook_name": "blocks.12.hook_resid_post"}
    metadata |= {"context_size": 1024, "prepend_bos": True, "dataset_path": "monology/pile-uncopyrighted"}
    config = {"architecture": "jumprelu", "d_in": D_IN, "d_sae": D_SAE, "dtype": "float32", "metadata": metadata}
    config |= {"apply_b_dec_to_input": True, "normalize_activations": "none", "reshape_activations": "none"}
    (folder / "cfg.json").write_text(json.dumps(config))


def qwen_scope(folder, place):
    own = weights(place)
    torch.save(own | {name: own[name].T.contiguous() for name in ("W_enc", "W_dec")}, place)


WRITERS = {
    "gemma-scope-2-": gemma_scope_2,
    "gemma-scope-": gemma_scope,
    "Llama3_1-": llama_scope,
    "saebench_": saebench,
    "sae-snapshot-panels": saelens,
    "SAE-Res-Qwen": qwen_scope,
}


def stand_in(settings, folder):
    """Return the configuration of a check with a stand-in for each SAE, for the model and for the text, and smaller."""
    arguments, data = settings["model"]["init_args"], settings["data"]["init_args"]
    arguments["references"] = {
        name: published(folder / "saes", where) for name, where in arguments["references"].items()
    }
    arguments |= {"draws": 2, "control_samples": 128}
    if len(arguments["references"]) > 1:  # all controls of one SAE are enough
        arguments["controls"] = dict(list(arguments["controls"].items())[:2])
    data["model"] = model(folder / "model", data["model"], data["hook"])
    paths = save_text(Path(folder) / "text.jsonl", 400)
    data["text"] = {"class_path": "FileText", "init_args": {"paths": paths, "heldout_every": 5}}
    data |= {"context_length": 16, "batch_size": 64, "val_samples": 64, "loss_samples": 64}
    data |= {"buffer_samples": 256, "dtype": "float32"}
    data["nulls"] = {"gaussian": {"class_path": "GaussianMatched", "init_args": {"samples_per_dimension": 10}}}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    logger = {"class_path": "sae_lightning.loggers.MemberTensorBoardLogger", "init_args": {"save_dir": str(folder)}}
    settings["trainer"] |= quiet | {"logger": logger}
    return settings


def _threshold():
    return {"threshold": torch.full((D_SAE,), THRESHOLD)}
