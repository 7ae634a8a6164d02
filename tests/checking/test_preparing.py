"""What is asked of a check is made to fit what there is, before anything is measured."""

import numpy as np
import pytest
import torch

from sae_lightning.checking.budget import Budget
from sae_lightning.checking.data_request import DataRequest
from sae_lightning.checking.preparing import CheckRequest, fitted_to_rows, settings_of, yaml_of
from sae_lightning.saes import TopK

WIDTH = 8


def request(**data):
    return CheckRequest(DataRequest(**data), Budget("nulls"), "sae check w", {"w": "published"}, {})


@pytest.fixture
def sae(tmp_path):
    sae = TopK(WIDTH, d_sae=16, k=2)
    sae.initialise(0, torch.randn(100, WIDTH))
    return sae.eval()


@pytest.mark.parametrize(
    ("n_rows", "n_tokens", "control_samples"), [(1000, 480, 500), (40, 20, 20), (60_000, 16_384, 30_000)]
)
def test_no_more_rows_are_asked_for_than_a_file_has(tmp_path, sae, n_rows, n_tokens, control_samples):
    """Held-out rows in 32 batches of one size, where there are as many."""
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(n_rows, WIDTH)).astype(np.float32))
    fitted = fitted_to_rows(request(activations=str(tmp_path / "rows.npy")), {"w": sae})
    assert (fitted.data.n_tokens, fitted.control_samples) == (n_tokens, control_samples)


def test_text_has_as_many_as_are_asked_for(sae):
    asked = request(model="m", hook="h", text=[__file__])
    assert fitted_to_rows(asked, {"w": sae}) is asked


def test_a_configuration_says_what_is_told_of_an_sae_in_a_file_of_its_own(tmp_path, sae, monkeypatch):
    """What stands in a configuration can be read without being told anything."""
    monkeypatch.chdir(tmp_path)
    asked = request(model="m", hook="h", text=[__file__])
    as_it_is = settings_of(asked, {"w": sae})["model"]["init_args"]["references"]
    assert as_it_is == {"published": "w"}
    told = CheckRequest(asked.data, asked.budget, asked.command, asked.names, {}, assumed={"k": 2})
    settings = settings_of(told, {"w": sae})
    [place] = settings["model"]["init_args"]["references"].values()
    assert torch.equal(TopK.load(place).W_dec, sae.W_dec)
    assert yaml_of(settings).startswith("# Run: sae validate --config FILE")
