"""Zero-shot accuracy of a CLIP model on images whose attributes are known (Radford et al. 2021, arXiv 2103.00020)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sae_lightning.images import Images


@torch.inference_mode()
def encode_images(model: torch.nn.Module, preprocess: Callable, images: Images, numbers: Sequence[int]) -> Tensor:
    """Encode images as embeddings [n, embed_dim] of unit length."""
    parts = []
    for start in range(0, len(numbers), 256):
        pixels = torch.stack([preprocess(images.image(number)) for number in numbers[start : start + 256]])
        parts.append(model.encode_image(pixels, normalize=True))
    return torch.cat(parts)


@torch.inference_mode()
def encode_values(model: torch.nn.Module, tokenizer: Callable, images: Images, attribute: str) -> Tensor:
    """Encode each value of an attribute as an embedding [n_values, embed_dim], the mean over its prompts."""
    rows = []
    for value in images.values[attribute]:
        texts = tokenizer([prompt.format(value) for prompt in images.prompts[attribute]])
        rows.append(model.encode_text(texts, normalize=True).mean(0))
    return torch.nn.functional.normalize(torch.stack(rows), dim=-1)


def zero_shot_hits(
    model: torch.nn.Module, tokenizer: Callable, preprocess: Callable, images: Images, numbers: Sequence[int]
) -> dict[str, Tensor]:
    """Return, for each attribute and each image that it applies to, whether the nearest value is the image's."""
    embeddings = encode_images(model, preprocess, images, numbers)
    hits = {}
    for attribute in images.values:
        labels = images.labels(attribute)[list(numbers)]
        answers = (embeddings @ encode_values(model, tokenizer, images, attribute).T).argmax(-1)
        hits[attribute] = (answers == labels)[labels >= 0]
    return hits
