"""CLIP models, either tower, at any hook."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from sae_lightning.sources import ClipSource, ImageBatch, TokenBatch

IMAGE, TEXT = "visual.transformer.resblocks.0", "transformer.resblocks.0"


def images(n=3):
    pixels = torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return ImageBatch(pixels, torch.ones(n, 17, dtype=torch.bool), torch.arange(n))


def captions(source):
    ids = source.tokenizer()(["a red square", "two", "a long green line on a table"])
    return TokenBatch(ids, torch.ones_like(ids, dtype=torch.bool))


def inputs(source):
    return images() if source.reads_images else captions(source)


@pytest.fixture(params=[IMAGE, TEXT])
def source(request, tiny_clip):
    return ClipSource(tiny_clip, request.param)


def test_capture_stops_and_equals_a_whole_forward(source):
    seen, ran = [], []
    tower = source.model.visual if source.reads_images else source.model
    source.model.get_submodule(source.hook).register_forward_hook(lambda module, args, output: seen.append(output))
    tower.transformer.resblocks[1].register_forward_hook(lambda *_: ran.append(True))
    activations, mask = source.capture(inputs(source))
    assert not ran
    whole = source.forward(inputs(source))
    assert ran
    assert torch.equal(activations, seen[-1])
    assert activations.shape == (*mask.shape, source.d_in)
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(3))


def test_replace_by_itself_changes_nothing_and_by_zero_much(source):
    batch = inputs(source)
    clean = source.forward(batch)
    torch.testing.assert_close(source.replace(batch, lambda x: x), clean)
    assert (source.replace(batch, torch.zeros_like) - clean).abs().max() > 0.05


def test_replace_is_differentiable_in_the_edit(source):
    scale = torch.ones((), requires_grad=True)
    source.replace(inputs(source), lambda x: x * scale)[0, 0].backward()
    assert scale.grad is not None


def test_several_hooks_of_one_tower(tiny_clip):
    source = ClipSource(tiny_clip, {"first": IMAGE, "second": "visual.transformer.resblocks.1"})
    assert (source.widths, source.d_in) == ({"first": 32, "second": 32}, 64)
    both, _ = source.capture(images())
    assert torch.equal(both[..., 32:], source.at("visual.transformer.resblocks.1").capture(images())[0])


def test_positions(tiny_clip):
    source = ClipSource(tiny_clip, IMAGE)
    assert (source.grid, source.n_positions()) == ((4, 4), (1, 17))
    with pytest.raises(ValueError, match="visual.conv1.* is a convolution"):
        source.at("visual.conv1").n_positions()
    source.model.visual.transformer.resblocks[0].register_forward_hook(lambda module, args, output: output[:, :2])
    with pytest.raises(ValueError, match="it has 2 positions, and the image 16 patches"):
        source.n_positions()


def test_embeddings_do_not_depend_on_the_tower_of_the_hooks(tiny_clip):
    of_image, of_text = ClipSource(tiny_clip, IMAGE), ClipSource(tiny_clip, TEXT)
    assert torch.equal(of_text.embed_images(images().pixels), of_image.forward(images()))
    ids = captions(of_text).input_ids
    assert torch.equal(of_image.embed_tokens(ids), of_text.forward(captions(of_text)))
    assert of_image.scale == pytest.approx(1 / 0.07, rel=1e-4)


@pytest.mark.parametrize("embeddings", [True, False])
def test_redrawn(source, embeddings):
    before = torch.get_rng_state()
    other, again = source.redrawn(3, embeddings), source.redrawn(3, embeddings)
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in other.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
    kept = {"visual.conv1.weight", "token_embedding.weight"}
    changed = {name for name, value in source.model.named_parameters() if value.ndim > 1}
    changed = {
        name for name in changed if not torch.equal(other.model.get_parameter(name), source.model.get_parameter(name))
    }
    assert changed.isdisjoint(kept) != embeddings
    assert "visual.transformer.resblocks.0.mlp.c_fc.weight" in changed
    assert not torch.allclose(other.forward(inputs(source)), source.forward(inputs(source)), atol=1e-3)


def test_bfloat16(tiny_clip):
    source = ClipSource(tiny_clip, IMAGE, dtype="bfloat16")
    assert source.capture(images())[0].dtype == torch.bfloat16
    clean = ClipSource(tiny_clip, IMAGE).forward(images())
    torch.testing.assert_close(source.forward(images()).float(), clean, atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "ViT-B-33"}, "no such model and there is no such folder; near are ViT-B-32"),
        ({"model": "ViT-B-32"}, "expected pretrained, the tag or file of its weights; tags are openai"),
        ({"model": "ViT-B-32", "pretrained": "opnai"}, "near are openai"),
        ({"model": "ViT-B-32", "pretrained": "nowhere.pt"}, "ViT-B-32 has no such weights and there is no such file"),
        ({"model": "./nowhere"}, "there is no such folder"),
        ({"model": "empty"}, "the folder has no open_clip_config.json"),
        ({"model": "unweighted"}, "the folder has no weights; expected open_clip_model.safetensors"),
        ({"model": "broken"}, "open_clip cannot load it"),
        ({"pretrained": "openai"}, "pretrained=openai: expected none"),
        ({"hook": "visual.transformer.resblocks.7"}, "no such submodule; near are visual.transformer.resblocks.1"),
        ({"hook": {"a": IMAGE, "b": TEXT}}, "expected hooks of one tower"),
        (
            {"hook": "visual"},
            r"its output has shape \[2, 16\] for 2 rows, expected \[batch, seq, d\]; .* sae hooks .* --clip$",
        ),
    ],
)
def test_bad_arguments(tiny_clip, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "unweighted", "broken"):
        Path(name).mkdir()
    for name in ("unweighted", "broken"):
        shutil.copy(Path(tiny_clip) / "open_clip_config.json", name)
    Path("broken/open_clip_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match=message):
        ClipSource(**{"model": tiny_clip, "hook": IMAGE, **arguments})


def test_weights_of_a_tag_get_their_activation_function(tiny_clip, monkeypatch):
    """OpenAI's weights were trained with QuickGELU, and open_clip only warns of an architecture without it."""
    import open_clip

    asked = {}

    def create(name, **kwargs):
        asked.update(kwargs)
        return open_clip_create(f"local-dir:{tiny_clip}")

    open_clip_create = open_clip.create_model_and_transforms
    monkeypatch.setattr(open_clip, "create_model_and_transforms", create)
    for tag, quick in (("openai", True), ("laion2b_s34b_b79k", False)):
        ClipSource("ViT-B-32", IMAGE, pretrained=tag)
        assert asked["force_quick_gelu"] is quick, json.dumps(asked)
