"""The graph of one latent and its meta-latents, on a base that is planted."""

import pytest
import torch
from commands.test_compare import write_run

from sae_lightning.figures.chart import FigureSkipped
from sae_lightning.figures.meta_latents import graph_of, is_of_meta_sae, meta_graph
from sae_lightning.figures.png import figure_of
from sae_lightning.runs import Run
from sae_lightning.saes import TopK

WEIGHTS = torch.tensor(
    # Six latents of four meta-latents: 0 to 3 are made of 0 and 1, 4 and 5 of 2 and 3, and 5 has a rest besides.
    [[0.8, 0.6, 0, 0], [0.6, 0.8, 0, 0], [0.9, 0.3, 0, 0], [0.3, 0.9, 0, 0], [0, 0, 0.8, 0.6], [0, 0, 0.6, 0.7]]
)


@pytest.fixture
def meta_sae():
    sae = TopK(6, k=2, d_sae=4)
    with torch.no_grad():
        sae.W_dec.copy_(torch.eye(6)[:4])
        sae.W_enc.copy_(torch.eye(6)[:, :4])
        sae.b_dec.zero_()
        sae.b_enc.zero_()
    return sae.eval()


def directions():
    rest = torch.zeros(6, 2)
    rest[1:, 0] = 0.1  # latent 0 is explained best
    return torch.cat([WEIGHTS, rest], dim=1)


def test_a_latent_its_meta_latents_and_what_else_these_are_part_of(meta_sae):
    graph = graph_of(meta_sae, directions(), {})
    assert graph.latent == 0
    assert graph.cosine == pytest.approx(1)
    assert [(part.number, round(part.weight, 4)) for part in graph.parts] == [(0, 0.8), (1, 0.6)]
    assert [other for other, _ in graph.parts[0].others] == [2, 1, 3]
    assert [other for other, _ in graph.parts[1].others] == [3, 1, 2]
    assert graph.parts[1].others[0][1] == pytest.approx(0.9)
    assert len(graph.table.rows) == 6


def test_of_an_explained_base_an_explained_latent_is_shown(meta_sae):
    words = {3: "fires on ' Rome'"}
    graph = graph_of(meta_sae, directions(), words)
    assert graph.latent == 3
    [axes] = figure_of([graph], graph.title).axes
    texts = [text.get_text() for text in axes.texts]
    assert any("Rome" in text for text in texts)
    assert texts.count("meta-latent 0") == texts.count("meta-latent 1") == 1


def test_meta_latents_of_one_latent_alone_are_no_graph(meta_sae):
    with pytest.raises(FigureSkipped, match="no latent"):
        graph_of(meta_sae, directions()[4:], {})


def test_a_run_of_activations_has_no_meta_latents(tmp_path):
    assert not is_of_meta_sae(Run(write_run(tmp_path / "run")))
    directions = {"class_path": "sae_lightning.datamodules.DecoderDirections", "init_args": {"saes": ["gone"]}}
    run = Run(write_run(tmp_path / "meta", data=directions))
    assert is_of_meta_sae(run)
    with pytest.raises(FigureSkipped, match="has not finished|has finished no validation"):
        meta_graph(run)
