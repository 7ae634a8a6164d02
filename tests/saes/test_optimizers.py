import copy

import pytest
import torch

from sae_lightning.saes.optimizers import speed_up


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD], ids=lambda make: make.__name__)
@pytest.mark.parametrize("arguments", [{}, {"fused": True}, {"fused": False}], ids=str)
def test_the_steps_are_those_of_the_optimizer(make, arguments):
    parameters = [torch.nn.Parameter(torch.randn(7, 5).T), torch.nn.Parameter(torch.randn(5))]
    others = copy.deepcopy(parameters)
    assert not others[0].is_contiguous()
    fast, plain = speed_up(make(parameters, lr=0.1, **arguments)), make(others, lr=0.1, **arguments)
    for _ in range(3):
        for left, right in zip(parameters, others, strict=True):
            left.grad = torch.randn_like(left)
            right.grad = left.grad.clone()
        fast.step()
        plain.step()
    for left, right in zip(parameters, others, strict=True):
        torch.testing.assert_close(left, right)
        for name, state in fast.state[left].items():
            assert state.shape == plain.state[right][name].shape, "a checkpoint must fit either"


def test_fused_unless_the_user_chose():
    parameters = [torch.nn.Parameter(torch.randn(3))]
    assert speed_up(torch.optim.Adam(parameters)).param_groups[0]["fused"]
    assert not speed_up(torch.optim.Adam(parameters, fused=False)).param_groups[0]["fused"]
    assert not speed_up(torch.optim.Adam(parameters, foreach=True)).param_groups[0]["fused"]
    assert "fused" not in speed_up(torch.optim.LBFGS(parameters)).param_groups[0]
