import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch

from sae_lightning.sources import LanguageModelSource, TokenBatch

IDS = torch.arange(1, 25).reshape(2, 12)
INPUTS = TokenBatch(IDS, IDS > 3)


@pytest.fixture(scope="module")
def source(tiny_lm):
    return LanguageModelSource(tiny_lm, "model.layers.0")


def test_capture_stops_and_equals_a_whole_forward(source):
    ran = []
    handle = source.model.model.layers[1].register_forward_hook(lambda *_: ran.append(1))
    activations, mask = source.capture(INPUTS)
    handle.remove()
    assert not ran
    assert source.d_in == 16
    assert torch.equal(mask, INPUTS.mask)
    expected = source.model(IDS, output_hidden_states=True).hidden_states[1]
    assert torch.equal(activations, expected)


def test_captured_activations_can_be_trained_on(source):
    activations, _ = source.capture(INPUTS)
    assert not activations.is_inference()
    weight = torch.ones(16, requires_grad=True)
    (activations @ weight).sum().backward()
    assert weight.grad is not None


def test_no_hook_is_left(source):
    source.capture(INPUTS)
    (hooked,) = source._hooked.values()
    before = len(hooked._forward_hooks)  # transformers keeps some of its own
    source.capture(INPUTS)
    source.replace(INPUTS, lambda x: x)
    assert len(hooked._forward_hooks) == before


def test_several_hooks_in_one_forward(tiny_lm):
    hooks = {"late": "model.layers.1.mlp.down_proj", "early": "model.layers.0"}
    alone = {name: LanguageModelSource(tiny_lm, hook) for name, hook in hooks.items()}
    source = LanguageModelSource(tiny_lm, hooks)
    forwards = []
    source.model.model.embed_tokens.register_forward_hook(lambda *_: forwards.append(1))
    activations, mask = source.capture(INPUTS)
    assert len(forwards) == 1
    assert source.widths == {"late": 16, "early": 16}
    assert source.d_in == 32
    assert torch.equal(mask, INPUTS.mask)
    assert torch.equal(activations, torch.cat([of.capture(INPUTS)[0] for of in alone.values()], -1))
    for name, of in alone.items():
        expected = of.replace(INPUTS, torch.zeros_like)
        assert torch.equal(source.replace(INPUTS, torch.zeros_like, name), expected)


@pytest.mark.parametrize(
    "hook",
    [
        {},
        {"a.b": "model.layers.0"},
        {"late": "model.layers.7"},
        {"one": "model.layers.0", "two": "model.layers.0"},
        {"attention": "model.layers.0.self_attn", "projection": "model.layers.0.self_attn.o_proj"},  # its last step
    ],
)
def test_wrong_hooks(tiny_lm, hook):
    with pytest.raises(ValueError, match=r"hook="):
        LanguageModelSource(tiny_lm, hook)


@pytest.mark.parametrize(
    ("hook", "hook_input", "d_in"),
    [
        ("model.layers.1", True, 16),
        ("model.layers.0.self_attn", False, 16),
        ("model.layers.0.self_attn", True, 16),
        ("model.layers.1.mlp.down_proj", True, 32),
        ("model.embed_tokens", False, 16),
    ],
)
def test_any_hook_captures_and_replaces(tiny_lm, hook, hook_input, d_in):
    source = LanguageModelSource(tiny_lm, hook, hook_input=hook_input)
    assert source.d_in == d_in
    clean = source.model(IDS).logits
    seen = []
    assert torch.equal(source.replace(INPUTS, lambda x: seen.append(x) or x), clean)
    assert torch.equal(seen[0], source.capture(INPUTS)[0])
    assert seen[0].shape == (2, 12, d_in)
    assert not torch.allclose(source.replace(INPUTS, torch.zeros_like), clean)


def test_input_of_a_layer_is_output_of_the_one_before(tiny_lm, source):
    above = LanguageModelSource(tiny_lm, "model.layers.1", hook_input=True)
    assert torch.equal(above.capture(INPUTS)[0], source.capture(INPUTS)[0])


def test_heads_are_flattened_and_put_back(source):
    class Heads(torch.nn.Module):
        def forward(self, x):
            assert x.shape == (2, 12, 2, 8)
            return x

    class Layer(torch.nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer, self.heads = layer, Heads()

        def forward(self, x, **kwargs):
            return self.heads(self.layer(x, **kwargs).unflatten(2, (2, 8))).flatten(2)

    layer, hooked = source.model.model.layers[0], source._hooked
    clean = source.model(IDS).logits
    try:
        source.model.model.layers[0] = Layer(layer)
        source._hooked = {source.hook: source.model.model.layers[0].heads}
        activations = source.capture(INPUTS)[0]
        assert activations.shape == (2, 12, 16)
        assert torch.equal(source.replace(INPUTS, lambda x: activations), clean)
    finally:
        source.model.model.layers[0], source._hooked = layer, hooked


def test_edit_of_one_position_moves_no_earlier_logits(source):
    def edit(x):
        x = x.clone()
        x[:, 6] += 5
        return x

    clean, edited = source.replace(INPUTS, lambda x: x), source.replace(INPUTS, edit)
    torch.testing.assert_close(edited[:, :6], clean[:, :6])
    assert not torch.allclose(edited[:, 6:], clean[:, 6:])


def test_outputs_are_computed_where_they_are_read_and_an_edit_is_what_it_was(source):
    positions, edit = torch.tensor([0, 2]), lambda x: 2 * x
    widths = []
    source.model.lm_head.register_forward_hook(lambda _, args, output: widths.append(output.shape[1]))
    whole = source.replace(INPUTS, edit)
    some = source.replace(replace(INPUTS, positions=positions), edit)
    torch.testing.assert_close(some, whole[:, positions])
    assert widths == [IDS.shape[1], 2]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_number_format_in_which_this_cpu_is_slow_is_said_once(tiny_lm, monkeypatch, recwarn, dtype):
    monkeypatch.setattr("sae_lightning.sources.language_model.slowness", lambda dtype: 9.7)
    source = LanguageModelSource(tiny_lm, "model.layers.0", dtype=dtype)
    assert source.no_next_token == ""
    assert not recwarn  # an example says nothing: the model may move to a GPU yet
    with pytest.warns(UserWarning, match=f"runs in {dtype}, .*10 times as long as in float32: with data.dtype=float32"):
        source.capture(INPUTS)
    source.capture(INPUTS)
    assert not recwarn
    LanguageModelSource(tiny_lm, "model.layers.0", dtype="float32").capture(INPUTS)
    monkeypatch.setattr("sae_lightning.sources.language_model.slowness", lambda dtype: 1.9)
    LanguageModelSource(tiny_lm, "model.layers.0", dtype=dtype).capture(INPUTS)
    assert not recwarn


def test_dtypes(tmp_path, tiny_lm):
    stored = tiny.save_tiny_lm(tmp_path, dtype="bfloat16")
    assert LanguageModelSource(stored, "model.layers.0").capture(INPUTS)[0].dtype == torch.bfloat16
    assert LanguageModelSource(stored, "model.layers.0", dtype="float32").capture(INPUTS)[0].dtype == torch.float32
    half = LanguageModelSource(tiny_lm, "model.layers.0", dtype="bfloat16")
    assert half.capture(INPUTS)[0].dtype == torch.bfloat16
    assert half.replace(INPUTS, lambda x: x.float()).dtype == torch.bfloat16  # an SAE answers in float32


def test_a_model_without_a_head(tmp_path):
    from transformers import AutoModel

    folder = tiny.save_tiny_lm(tmp_path / "lm")
    AutoModel.from_pretrained(folder).save_pretrained(tmp_path / "base")
    source = LanguageModelSource(str(tmp_path / "base"), "layers.0")
    assert source.replace(INPUTS, lambda x: x).shape == (2, 12, 16)


def test_nothing_is_trained(source):
    assert not any(parameter.requires_grad for parameter in source.model.parameters())
    assert not source.model.training


def test_infinite_activations(tiny_lm):
    source = LanguageModelSource(tiny_lm, "model.layers.0")
    source.model.model.embed_tokens.weight[5, 0] = float("nan")
    source.capture(TokenBatch(torch.ones(1, 4).long(), torch.ones(1, 4).bool()))
    with pytest.raises(ValueError, match=r"hook=model.layers.0: \d+ of 384 activations are not finite"):
        source.capture(INPUTS)


def test_foreign_tokens(source):
    with pytest.raises(ValueError, match="token 64.*vocabulary of 64.*tokenizer"):
        source.capture(TokenBatch(torch.full((1, 2), 64), torch.ones(1, 2).bool()))


def test_unknown_hook(tiny_lm):
    with pytest.raises(ValueError, match=r"hook=model.layer.1: .*near are .*model.layers.1.*can be chosen: sae hooks"):
        LanguageModelSource(tiny_lm, "model.layer.1")


@pytest.mark.parametrize(
    ("hook", "hook_input", "message"),
    [
        ("model.layers", False, "did not run this submodule"),
        ("model", False, "no tensor comes out"),
        ("model", True, "its input has shape"),
        ("model.rotary_emb", False, r"its output has shape \[1, 5, 8\] for 2 rows and 5 positions, expected"),
        ("lm_head", False, "its output is the logits, a number for each of 64 tokens"),
    ],
)
def test_a_hook_without_activations(tiny_lm, hook, hook_input, message):
    with pytest.raises(ValueError, match=f"hook={hook}: .*{message}"):
        LanguageModelSource(tiny_lm, hook, hook_input=hook_input)


def test_folder_without_weights(tmp_path, tiny_lm):
    folder = shutil.copytree(tiny_lm, tmp_path / "empty")
    Path(folder, "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"empty: the folder has no weights; expected \*.safetensors or \*.bin"):
        LanguageModelSource(str(folder), "model.layers.0")
    Path(folder, "config.json").unlink()
    with pytest.raises(ValueError, match="no config.json"):
        LanguageModelSource(str(folder), "model.layers.0")


def test_missing_folder(tmp_path):
    with pytest.raises(ValueError, match="there is no such folder"):
        LanguageModelSource(str(tmp_path / "nowhere"), "model.layers.0")


def test_unknown_kind_of_model(tmp_path, tiny_lm):
    folder = shutil.copytree(tiny_lm, tmp_path / "odd")
    config = json.loads(Path(folder, "config.json").read_text())
    Path(folder, "config.json").write_text(json.dumps(config | {"model_type": "no_such_type"}))
    with pytest.raises(ValueError, match="transformers cannot load this folder"):
        LanguageModelSource(str(folder), "model.layers.0")


def test_hub_without_network(monkeypatch):
    import transformers

    def fail(*args, **kwargs):
        raise OSError("We couldn't connect to 'https://huggingface.co'")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", fail)
    with pytest.raises(ValueError, match="somebody/model.*could not be fetched.*give a local folder"):
        LanguageModelSource("somebody/model", "model.layers.0")


def test_what_is_put_in_place_has_a_gradient_and_the_model_none(source):
    vector = torch.zeros(16, requires_grad=True)
    logits = source.replace(INPUTS, lambda x: x + vector)
    (gradient,) = torch.autograd.grad(logits[..., 3].sum(), vector)
    assert gradient.abs().max() > 0
    assert not any(parameter.requires_grad for parameter in source.model.parameters())
    assert not source.replace(INPUTS, lambda x: x).requires_grad
