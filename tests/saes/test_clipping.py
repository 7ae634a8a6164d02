"""`trainer.gradient_clip_val` and its algorithm, member by member."""

import pytest
import torch
from training import D_IN, fit

from sae_lightning.freeze import NoFreeze
from sae_lightning.panel import SanityPanel
from sae_lightning.saes import TopK

LIMIT = 1e-3


def clipped(folder, **kwargs):
    """Return the gradients of every member that the optimizer gets, step by step."""
    seen = []

    class Watched(torch.optim.SGD):
        def step(self, closure=None):
            loss = super().step(closure)
            members = panel.members.values()
            seen.extend([p.grad.clone() for p in sae.parameters() if p.grad is not None] for sae in members)
            return loss

    def make(d_in):
        return TopK(d_in, d_sae=64, k=4, optimizer=lambda parameters: Watched(parameters, lr=1e-3))

    panel = SanityPanel(D_IN, make, {"a": NoFreeze(), "b": NoFreeze()}, seeds=[0, 1])
    fit(panel, folder, n=3, **kwargs)
    assert len(seen) == 12
    return seen


def test_by_value_no_entry_is_larger(tmp_path):
    for gradients in clipped(tmp_path, gradient_clip_val=LIMIT, gradient_clip_algorithm="value"):
        assert max(grad.abs().max() for grad in gradients) == pytest.approx(LIMIT)


def test_by_norm_each_member_has_the_limit_as_its_norm(tmp_path):
    for gradients in clipped(tmp_path, gradient_clip_val=LIMIT):
        assert torch.stack([grad.norm() for grad in gradients]).norm().item() == pytest.approx(LIMIT, rel=1e-3)


def test_without_a_limit_nothing_is_clipped(tmp_path):
    for gradients in clipped(tmp_path):
        assert torch.stack([grad.norm() for grad in gradients]).norm() > 10 * LIMIT
