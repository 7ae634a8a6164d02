"""The share of novel latents over the size of the larger SAE, from comparisons by hand."""

import json

import pytest

from sae_lightning.stitching.figures import draw_sizes, novel_chart
from sae_lightning.stitching.results import read_comparisons


@pytest.fixture
def run(tmp_path):
    shares = {
        "x1-0_to_x4_frozen_decoder-0": 0.9,
        "x1-0_to_x4-0": 0.6,
        "x1-0_to_x2-0": 0.4,
        "x1-1_to_x2-1": 0.2,
        "x2-0_to_x4-0": 0.1,
    }
    for name, share in shares.items():
        small, large = (int(end[1]) * 64 for end in name.split("_to_"))
        content = {"d_small": small, "d_large": large, "large": f"{name.split('_to_')[1][:-2]}/0"}
        content["classes"] = {"novel": {"share": share, "shuffled": share / 10}}
        (folder := tmp_path / "stitch" / name).mkdir(parents=True)
        (folder / "stitch.json").write_text(json.dumps(content))
    return tmp_path


def test_a_line_for_each_smaller_size(run):
    small, frozen, medium, chance = novel_chart(read_comparisons(run)).series
    assert (small.text, small.x, small.y) == ("into 64", [128, 256], pytest.approx([0.3, 0.6]))
    assert (small.low, small.high) == ([0.2, 0.6], [0.4, 0.6])
    assert (frozen.text, frozen.x, frozen.y) == ("Frozen Decoder into 64", [256], [0.9])  # and no seed of the trained
    assert (medium.text, medium.x, medium.y) == ("into 128", [256], [0.1])
    assert chance.y == pytest.approx([0.03, (0.06 + 0.01 + 0.09) / 3])


def test_a_run_with_comparisons_gets_a_file(run, tmp_path):
    assert draw_sizes(run, run / "figures") == [run / "figures/novel_by_size.png"]
    assert (run / "figures/novel_by_size.png").is_file()
    assert draw_sizes(tmp_path / "another", tmp_path) == []
