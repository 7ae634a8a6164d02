import pytest
import torch
from PIL import Image

from sae_lightning.images import ClipEmbedding, PixelEmbedding
from sae_lightning.sources import ClipSource

CPU = torch.device("cpu")


def test_pixels_are_means_of_squares():
    image = Image.new("RGB", (32, 16), (255, 0, 0))
    image.paste((0, 0, 255), (16, 0, 32, 16))
    embedding = PixelEmbedding(2)
    assert embedding.embed(embedding.preprocess(image)[None], CPU).view(3, 2, 2).tolist() == [
        [[1, 0], [1, 0]], [[0, 0], [0, 0]], [[0, 1], [0, 1]]
    ]  # fmt: skip


def test_a_clip_embedding_is_that_of_its_image_tower(tiny_clip, tmp_path):
    source = ClipSource(tiny_clip, "visual.transformer.resblocks.0")
    other = source.redrawn(1, embeddings=True)
    embedding = ClipEmbedding(tiny_clip)
    embedding.check(other)
    pixels = embedding.preprocess(Image.new("RGB", (32, 32), "red"))[None]
    vectors = embedding.embed(pixels, CPU)
    assert torch.allclose(torch.nn.functional.normalize(vectors), source.embed_images(pixels), atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_model_that_is_read_is_refused_as_embedding(tiny_clip, dtype):
    source = ClipSource(tiny_clip, "visual.transformer.resblocks.0", dtype=dtype)
    with pytest.raises(ValueError, match="has the weights of the model whose activations the SAE reads"):
        ClipEmbedding(tiny_clip).check(source)


def test_bad_arguments(tiny_clip):
    with pytest.raises(ValueError, match="size=0: expected a whole number, 1 or more, in pixels"):
        PixelEmbedding(0)
    with pytest.raises(ValueError, match="there is no such folder"):
        ClipEmbedding("./nowhere").check(None)


def test_no_address_in_the_key_of_a_checkpoint():
    assert repr(PixelEmbedding()) == "PixelEmbedding(size=8)"
    assert repr(ClipEmbedding("ViT-B-16", "openai")) == "ClipEmbedding(model='ViT-B-16', pretrained='openai')"
