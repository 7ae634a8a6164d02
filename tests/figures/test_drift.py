from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.torch import load_file, save_file

from sae_lightning.figures.chart import FigureSkipped
from sae_lightning.figures.drift import cosine_charts
from sae_lightning.members import Member
from sae_lightning.runs import Run


def test_cosines_to_the_start_of_decoder_and_encoder(variable: Path):
    run = Run(variable)
    path = run.saes[Member("trained", 0)] / "sae.safetensors"
    tensors = load_file(path)
    turned = tensors["W_dec_start"].roll(1, dims=1)
    cosines = (turned * tensors["W_dec_start"]).sum(1).double().numpy()
    save_file({**tensors, "W_dec": turned, "W_enc": (-tensors["W_dec_start"].T).contiguous()}, path)
    decoder, encoder = cosine_charts(run, "")
    assert decoder.x_includes == (0.0, 1.0)
    for chart, expected in ((decoder, cosines), (encoder, np.full(24, -1.0))):
        shown = {own.name: own for own in chart.series}
        assert list(shown) == ["trained", "frozen_decoder", "oracle"]
        trained = shown["trained"]
        both = np.concatenate([expected, np.ones(24)])  # two seeds, of which the second hardly moved
        np.testing.assert_allclose(np.dot(trained.x, trained.y), both.mean(), atol=0.011)
        assert shown["frozen_decoder"].y[-1] == 1.0  # all in the last bin


def test_what_is_not_known_is_not_drawn(variable: Path):
    settings = yaml.safe_load((variable / "config.yaml").read_text())
    settings["model"]["init_args"]["sae"]["init_args"]["tied_init"] = False
    (variable / "config.yaml").write_text(yaml.safe_dump(settings))
    assert [chart.title for chart in cosine_charts(Run(variable), "")] == ["Decoder"]
    with pytest.raises(FigureSkipped, match="no SAE in"):
        cosine_charts(Run(variable), "gaussian")
