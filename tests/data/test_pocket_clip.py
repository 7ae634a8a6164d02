"""The pocket CLIP model as it lies in its folder."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors import safe_open

from sae_lightning.pocket import PocketCaptions, PocketImages

FOLDER = Path(__file__).parents[2] / "data" / "pocket_clip"


@pytest.fixture(scope="module")
def scripts() -> Iterator[dict[str, ModuleType]]:
    """The modules that lie beside the model, which its scripts import by their plain names."""
    names = ("build", "measures", "train")
    others = {name: sys.modules.pop(name, None) for name in names}  # the other pocket model has scripts of these names
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield {name: importlib.import_module(name) for name in names}
    for name, other in others.items():
        del sys.modules[name]
        if other is not None:
            sys.modules[name] = other


@pytest.fixture(scope="module")
def loaded(scripts):
    """The model, how it prepares images, and its tokenizer."""
    return scripts["build"].load_model(FOLDER)


@pytest.fixture(scope="module")
def images():
    return PocketImages(n_scenes=2000)


def test_folder_is_small_and_weights_have_16_bit():
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) < 12e6
    with safe_open(FOLDER / "open_clip_model.safetensors", "pt") as weights:
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"F16"}  # noqa: SIM118


def test_model_has_the_stated_shape(loaded):
    model, preprocess, tokenizer = loaded
    assert 1e6 < sum(value.numel() for value in model.parameters()) < 3e6
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert model.vocab_size == len(tokenizer.tokenizer)
    assert model.context_length == tokenizer.context_length == tokenizer.tokenizer.model_max_length
    assert model.visual.image_size == (64, 64)


def test_text_is_pooled_at_the_end_token(loaded):
    _, _, tokenizer = loaded
    model, inner = loaded[0], tokenizer.tokenizer
    tokens = tokenizer(["A  RED circle", "a red circle " * 30])
    assert inner.convert_ids_to_tokens(tokens[0][:6].tolist()) == ["<start>", "a", "red", "circle", "<end>", "<pad>"]
    assert tokens.argmax(-1).tolist() == [4, 23] == (tokens == inner.eos_token_id).int().argmax(-1).tolist()
    assert model.text_pool_type == "argmax"
    assert inner.eos_token_id == len(inner) - 1 == model.text_eos_id
    assert inner.pad_token_id == 0
    changed = tokens[:1].clone()
    changed[0, 5:] = inner.convert_tokens_to_ids("blue")  # what stands behind the end is not read
    with torch.inference_mode():
        assert torch.equal(model.encode_text(changed), model.encode_text(tokens[:1]))


def test_every_word_of_captions_and_prompts_is_known_and_none_is_cut_off(loaded):
    inner = loaded[2].tokenizer
    texts = list(PocketCaptions(n_scenes=500, seed=3, captions_per_picture=1).train())
    for attribute, prompts in PocketImages.prompts.items():
        texts += [prompt.format(value) for prompt in prompts for value in PocketImages.values[attribute]]
    rows = inner(texts)["input_ids"]
    assert inner.unk_token_id not in {token for row in rows for token in row}
    assert max(len(row) for row in rows) <= loaded[0].context_length
    assert inner("a zebra")["input_ids"][2] == inner.unk_token_id


def test_preprocessing_keeps_every_pixel(loaded, images):
    image = images.image(1)
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(64, 64, 3).permute(2, 0, 1)
    torch.testing.assert_close(loaded[1](image), pixels / 127.5 - 1)


def test_values_are_named_zero_shot_and_not_by_untrained_weights(loaded, images, scripts):
    model, preprocess, tokenizer = loaded
    numbers = images.numbers("heldout").tolist()
    assert len(numbers) == 380
    hits = scripts["measures"].zero_shot_hits(model, tokenizer, preprocess, images, numbers)
    shares = {name: right.float().mean().item() for name, right in hits.items()}
    assert len(hits["digit"]) == 180
    assert len(hits["shape"]) == 200
    assert min(shares.values()) > 0.85, shares
    torch.manual_seed(0)
    untrained, _, _ = scripts["build"].load_model(FOLDER, trained=False)
    floor = scripts["measures"].zero_shot_hits(untrained, tokenizer, preprocess, images, numbers)
    assert all(right.float().mean() < 1 / len(images.values[name]) + 0.25 for name, right in floor.items())


def test_committed_configuration_is_what_the_scripts_write(scripts, tmp_path):
    scripts["build"].write_untrained(tmp_path)
    for name in ("open_clip_config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_text() == (FOLDER / name).read_text()


def test_truth_says_which_captions_are_true_of_which_images(loaded, scripts):
    arguments = type("Arguments", (), {"batch": 16, "captions": 2, "scenes": 300, "seed": 0})
    batches = scripts["train"].Batches(loaded[1], loaded[2], arguments)
    pixels, tokens, truth, labels = batches[3]
    assert (pixels.shape, tokens.shape, truth.shape) == ((16, 3, 64, 64), (32, 24), (32, 16))
    assert (truth[range(32), [i // 2 for i in range(32)]] == 1).all()  # every caption is true of its own image
    assert 0.05 < truth.mean() < 0.6
    red = loaded[2].tokenizer.convert_tokens_to_ids("red")
    colours = labels[:, list(PocketImages.values).index("colour")]
    assert torch.equal(colours, batches.images.labels("colour")[batches.numbers[48:64]])
    for row, tells in zip(truth, (tokens == red).any(1), strict=True):
        assert not tells or not row[colours != 0].any()
    batches[batches.per_turn + 1]
    again = batches[3]  # also after another turn was open
    assert all(torch.equal(*pair) for pair in zip((pixels, tokens, truth, labels), again, strict=True))


def test_contrastive_loss_of_own_captions_only_is_that_of_clip(scripts):
    generator = torch.Generator().manual_seed(0)
    images, texts = (torch.nn.functional.normalize(torch.randn(5, 8, generator=generator)) for _ in range(2))
    from open_clip.loss import ClipLoss

    ours = scripts["train"].contrastive_loss(images, texts, torch.tensor(3.0), torch.eye(5))
    torch.testing.assert_close(ours, ClipLoss()(images, texts, torch.tensor(3.0)))
