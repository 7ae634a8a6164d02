"""How the batches of a step come from those of readers; over ranks see strategies/test_members.py."""

import pytest
import torch

from sae_lightning.datamodules.readers import JoinedReaders
from sae_lightning.datamodules.stream import Stream


class Ones(Stream):
    """Batches of ones on the CPU."""

    def __next__(self):
        return torch.ones(2, 3)

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_batches_for_a_gpu_lie_in_pinned_memory(device, monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    readers = JoinedReaders({0: Ones(), 1: Ones()}, 2, (2, 3), 1, device=device)
    assert torch.equal(next(readers), torch.ones(4, 3))
    assert len(pinned) == (2 if device == "cuda" else 0)


@pytest.mark.cuda
def test_batches_are_pinned():
    assert next(JoinedReaders({0: Ones()}, 1, (2, 3), 1, device="cuda")).is_pinned()
