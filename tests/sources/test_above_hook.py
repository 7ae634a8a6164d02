"""Edits of one input: blocks below the hook are run once, and the outputs are those of the whole model."""

import pytest
import torch
from tiny import save_tiny_lm
from torch import nn

from sae_lightning.sources import LanguageModelSource, TokenBatch, above_hook
from sae_lightning.sources.above_hook import AboveHook, blocks_below


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return save_tiny_lm(tmp_path_factory.mktemp("model"), layers=4)


def rows(seed):
    ids = torch.randint(4, 20, (3, 7), generator=torch.Generator().manual_seed(seed))
    return TokenBatch(ids, torch.ones(3, 7, dtype=torch.bool))


@pytest.mark.parametrize(
    ("hook", "hook_input", "n_below"),
    [
        ("model.layers.2", False, 3),
        ("model.layers.2", True, 2),
        ("model.layers.2.mlp", False, 2),
        ("model.layers.0.mlp", False, 0),
        ("model.norm", False, 0),
    ],
)
def test_blocks_below_are_run_once_for_one_input(model_folder, hook, hook_input, n_below):
    source = LanguageModelSource(model_folder, hook, hook_input)
    edits = [lambda x: x, torch.zeros_like, lambda x: -x, lambda x: 2 * x]
    inputs = [rows(0), rows(1)]
    whole = [[source.replace(batch, edit) for edit in edits] for batch in inputs]
    calls = []
    for i, block in enumerate(source.model.model.layers):
        block.mlp.register_forward_hook(lambda *_, i=i: calls.append(i))
    for batch, expected in zip(inputs, whole, strict=True):
        calls.clear()
        with source.same_inputs():
            edited = [source.replace(batch, edit) for edit in edits]
        assert all(map(torch.equal, edited, expected))
        tried = batch is inputs[0] and n_below > 0  # once whole beside the run that left blocks out
        assert [calls.count(i) for i in range(4)] == [
            (1 + tried) if i < n_below else len(edits) + tried for i in range(4)
        ]
    assert all("forward" not in vars(block) for block in source.model.model.layers)
    assert torch.equal(source.replace(inputs[0], edits[1]), whole[0][1])


def test_inputs_that_come_again_are_each_run_once_as_far_as_they_can_be_kept(model_folder, monkeypatch):
    source = LanguageModelSource(model_folder, "model.layers.2")
    inputs, calls = [rows(seed) for seed in range(3)], []
    whole = [source.replace(batch, torch.zeros_like) for batch in inputs]
    with source.same_inputs():  # what the first two leave behind fits, the third does not
        kept = sum(_size(source.capture(batch)[0]) for batch in inputs[:2])
        monkeypatch.setattr(above_hook, "LARGEST_MEMORY", kept)
        for _ in range(2):
            source.replace(inputs[0], lambda x: x)
        source.replace(inputs[1], lambda x: x)
        source.model.model.layers[0].mlp.register_forward_hook(lambda *_: calls.append(0))
        for _ in range(2):
            edited = [source.replace(batch, torch.zeros_like) for batch in inputs]
            assert all(map(torch.equal, edited, whole))
    assert len(calls) == 2


def _size(tensor):
    return tensor.numel() * tensor.element_size()


class Skipping(nn.Module):
    """A model whose last block reads the first one's output, past the second."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

    def forward(self, x):
        first = self.blocks[0](x)
        return self.blocks[2](self.blocks[1](first) + first)


def test_a_model_that_is_no_list_of_blocks_is_run_whole():
    torch.manual_seed(0)
    model, x, factor = Skipping(), torch.randn(2, 4), [1.0]
    model.blocks[1].register_forward_hook(lambda _, args, output: factor[0] * output)
    above = AboveHook(model, "blocks.1", edits_input=False)
    for _ in range(2):
        for factor[0] in (1.0, 2.0, 3.0):
            assert torch.equal(above.run("x", lambda: model(x)), model(x))
        above.forget()
    assert above.is_equal is False


def test_a_hook_in_no_list_has_no_blocks_below():
    assert blocks_below(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), "1", False) == []
