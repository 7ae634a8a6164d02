"""A CLIP model with weights as before training, and coloured images, small enough for tests."""

import json
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 40, 230)}


def save_tiny_clip(folder: Path) -> Path:
    """Save an open_clip checkpoint: 32 by 32 pixels, 16 patches and a class token, two blocks of width 32 and 16."""
    import open_clip

    model = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
    }
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": preprocess}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = open_clip.CLIP(**model).state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "open_clip_model.safetensors")
    return folder


def save_images(folder: Path, n_of_each: int = 20) -> Path:
    """Save images of three classes in folders: red, green and blue squares on grey of varying shade."""
    for colour, value in COLOURS.items():
        (folder / colour).mkdir(parents=True, exist_ok=True)
        for i in range(n_of_each):
            image = Image.new("RGB", (32, 32), (100 + 2 * i,) * 3)
            image.paste(value, (2 + i % 12, 4, 14 + i % 12, 24))
            image.save(folder / colour / f"{i}.png")
    return folder
