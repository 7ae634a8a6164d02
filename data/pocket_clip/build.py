"""The untrained pocket CLIP model, its tokenizer, and the form in which both are saved."""

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import sae_lightning  # noqa: F401  # isort: skip  (first: open_clip may find a torchvision that fails to load)

import open_clip
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from sae_lightning.pocket import PocketCaptions
from sae_lightning.pocket.captions import PROMPTS

CONTEXT = 24
PAD, UNKNOWN, START, END = "<pad>", "<unknown>", "<start>", "<end>"
READ_CAPTIONS = 20_000
"""Captions whose words become the vocabulary."""

_PREPROCESS = {
    "size": 64,
    "mode": "RGB",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer with a token for each word of the captions.

    The end token has the highest number, since open_clip pools the text where the number is highest.
    """
    split = pre_tokenizers.Whitespace()
    texts = [*islice(PocketCaptions().train(), READ_CAPTIONS)]
    texts += [template for templates in PROMPTS.values() for template in templates]
    words = {word for text in texts for word, _ in split.pre_tokenize_str(text.replace("{}", ""))}
    vocabulary = {word: i for i, word in enumerate([PAD, UNKNOWN, START, *sorted(words), END])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = split
    ends = [(token, vocabulary[token]) for token in (START, END)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{START} $A {END}", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=START,
        eos_token=END,
        pad_token=PAD,
        unk_token=UNKNOWN,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def build_config(vocabulary: int) -> dict[str, dict]:
    """Return the configuration from which open_clip builds the model and prepares images."""
    vision = {"image_size": 64, "patch_size": 16, "width": 128, "layers": 4, "head_width": 32}
    text = {
        "context_length": CONTEXT,
        "vocab_size": vocabulary,
        "hf_tokenizer_name": "pocket_clip",  # any name: the tokenizer is read from the model's own folder
        "width": 96,
        "heads": 4,
        "layers": 3,
        "pad_id": 0,
        "eos_id": vocabulary - 1,
        "pool_type": "argmax",
    }
    return {"model_cfg": {"embed_dim": 64, "vision_cfg": vision, "text_cfg": text}, "preprocess_cfg": _PREPROCESS}


def write_untrained(folder: Path) -> None:
    """Write the configuration and the tokenizer, without which open_clip makes no model."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(folder)
    # The class name that every version of transformers knows.
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    kept = {name: value for name, value in config.items() if name not in ("backend", "is_local", "local_files_only")}
    path.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    config = build_config(len(tokenizer))
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_model(folder: Path, trained: bool = True) -> tuple[open_clip.CLIP, Callable, Callable]:
    """Load the model with the weights in the folder, or untrained, its preparation of images, and its tokenizer."""
    name = f"local-dir:{folder}"
    model, _, preprocess = open_clip.create_model_and_transforms(name, load_weights=trained)
    return model.eval(), preprocess, open_clip.get_tokenizer(name)


def save_weights(model: open_clip.CLIP, folder: Path) -> None:
    """Write the weights in 16 bit; open_clip loads them into 32 bit."""
    state = {name: value.detach().to(torch.float16).contiguous() for name, value in model.state_dict().items()}
    assert all(value.isfinite().all() for value in state.values())
    path = folder / "open_clip_model.safetensors"
    save_file(state, path, metadata={"format": "pt"})
    path.chmod(0o644)
