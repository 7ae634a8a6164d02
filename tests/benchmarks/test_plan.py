"""One case worked by hand."""

from pathlib import Path

import pytest
import yaml

from benchmarks import plan
from benchmarks.plan import LanguageModel, Machine

EXPERIMENTS = Path(__file__).parents[2] / "configs" / "experiment"

PANEL = """
model:
  class_path: SanityPanel
  init_args:
    seeds: [0]
    sae: {class_path: TopK, init_args: {d_sae: 10, k: 3}}
    policies: {trained: {class_path: NoFreeze}, frozen_decoder: {class_path: FrozenDecoder}}
data:
  init_args: {model: tiny, hook: model.layers.0, context_length: 5, batch_size: 20, train_samples: 1000,
    buffer_samples: 50, llm_batch_size: 2}
"""


@pytest.fixture
def rows(monkeypatch):
    monkeypatch.setitem(plan.MODELS, "tiny", LanguageModel(4, 8, 3, 2, 1, 2, 7, tied=True))
    machine = Machine(gpus=2, tflops=1e-6, memory_gbs=1e-3, nvlink_gbs=1e-6)
    rows = plan.plan(yaml.safe_load(PANEL), machine)
    assert "| sum | 0.00 GB |" in plan.table(rows)
    values = {}
    for name, value, _, _ in rows:
        values.setdefault(name, value)
    return values


def test_sizes(rows):
    assert rows["members"] == 2
    assert rows["trained matrices"] == 3
    assert rows["parameters of a member"] == 2 * 40 + 4 + 10
    # A layer: 4 x 4 for queries and output each, 4 x 2 for keys and values each, and three of 4 x 8; embedding 7 x 4.
    assert rows["parameters of the language model"] == 3 * (32 + 16 + 96) + 28


def test_memory(rows):
    assert rows["weights"] == 2 * 2 * 40 * 4
    assert rows["decoder starts"] == 2 * 40 * 4
    assert rows["gradients"] == rows["buckets of DDP"] == 3 * 40 * 4
    assert rows["Adam"] == 2 * 3 * 40 * 4
    assert rows["buffer"] == 50 * 4 * 2
    assert rows["besides, on rank 0 while saving"] == 2 * 50 * 4 * 2
    assert rows["besides, in LossRecovered"] == 2 * 5 * 7 * 2


def test_time(rows):
    # One layer: 2 x 144, and for 5 positions of context 2 heads of 2 twice, 2 each.
    assert rows["steps"] == 1000 // 40
    language_model, encode = 20 * (2 * 144 + 4 * 5 * 4) / 1e6, 20 * 2 * 2 * 40 / 1e6
    gathered = 4 * 20 * 3 * 4 * 7  # decode and its gradient of both, W_enc's of both, W_dec's of one
    optimizer = 40 * (32 * 3 + 20 * 1 + 6 * 2)
    selection = 2 * 3 * 20 * 10 * 2
    memory = (gathered + optimizer + selection) / 1e6
    all_reduce = 3 * 40 * 4 / 1e3  # each of two ranks sends and receives half twice
    assert rows["step"] == pytest.approx(language_model + encode + memory + all_reduce)
    assert rows["tokens a second"] == pytest.approx(40 / rows["step"])


def test_members_spread_over_gpus(monkeypatch):
    monkeypatch.setitem(plan.MODELS, "tiny", LanguageModel(4, 8, 3, 2, 1, 2, 7, tied=True))
    rows = plan.plan(yaml.safe_load(PANEL), Machine(gpus=2, nvlink_gbs=1e-6), strategy="members")
    values = {}
    for name, value, _, _ in rows:
        values.setdefault(name, value)
    assert values["weights"] == 2 * 40 * 4  # of the trained SAE, the larger share
    assert values["Adam"] == 2 * 2 * 40 * 4
    assert values["buckets of DDP"] == values["besides, on rank 0 while saving"] == 0
    assert values["all-gather: batch"] == 20 * 4 * 2  # what the other rank has read, in bfloat16
    assert values["trained matrices"] == 3
    with pytest.raises(ValueError, match="3 GPUs for 2 members"):
        plan.plan(yaml.safe_load(PANEL), Machine(gpus=3), strategy="members")


@pytest.mark.parametrize("name", ["sanity_gemma2_2b_l12", "sanity_llama3_8b_l16"])
def test_real_configurations_have_a_plan(name):
    rows = plan.plan(yaml.safe_load((EXPERIMENTS / f"{name}.yaml").read_text()), Machine())
    assert {name: value for name, value, _, _ in rows}["trained matrices"] == 6


def test_other_data_are_refused():
    with pytest.raises(ValueError, match="data.model=pocket: expected one of google/gemma-2-2b"):
        plan.plan(yaml.safe_load(PANEL.replace("tiny", "pocket")), Machine())
