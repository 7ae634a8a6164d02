import pytest
import torch
from torch.nn.functional import cosine_similarity

from sae_lightning.evaluators import Drift
from sae_lightning.members import Member

pytestmark = pytest.mark.usefixtures("plain_or_fast")

NAMES = ["mean", "median", "q10", "min"]


def test_an_untrained_sae_is_at_the_floor_and_training_leaves_it(panel, data, trainer):
    for sae in panel.members.values():
        sae.initialise(0)
    run = trainer(Drift())
    run.validate(panel, data, verbose=False)
    for name in NAMES:
        assert run.callback_metrics[f"val/cosine_to_start_{name}/floor"] == 1
        assert run.callback_metrics[f"val/cosine_to_start_{name}/trained/0"].item() == pytest.approx(1)
    moved = panel.members[Member("trained", 0)]
    moved.W_dec.data = torch.randn(moved.W_dec.shape, generator=torch.Generator().manual_seed(5))
    run.validate(panel, data, verbose=False)
    cosines = cosine_similarity(moved.W_dec.detach().double(), moved.W_dec_start.double())
    expected = [cosines.mean(), cosines.quantile(0.5), cosines.quantile(0.1), cosines.min()]
    logged = [run.callback_metrics[f"val/cosine_to_start_{name}/trained/0"].item() for name in NAMES]
    assert logged == pytest.approx([value.item() for value in expected], abs=1e-6)
    assert run.callback_metrics["val/cosine_to_start_min/frozen_decoder/0"].item() == pytest.approx(1)
