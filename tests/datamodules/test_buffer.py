import copy

import pytest
import torch

from sae_lightning.datamodules.buffer import ShuffleBuffer


def rows(begin, end):
    return torch.arange(begin, end).float()[:, None].repeat(1, 3)


def values(batch):
    return batch[:, 0].long().tolist()


def test_every_row_is_served_once_and_never_more_than_capacity_is_held():
    buffer = ShuffleBuffer(50, 3)
    served, added = [], 0
    for _ in range(40):
        while buffer.free >= 10:
            buffer.add(rows(added, added + 10))
            added += 10
        assert buffer.filled <= buffer.capacity == len(buffer.storage)
        served += values(buffer.take(7))
    served += values(buffer.take(buffer.filled))
    assert sorted(served) == list(range(added))


def test_storage_is_one_and_the_same():
    buffer = ShuffleBuffer(20, 3)
    address = buffer.storage.data_ptr()
    for _ in range(5):
        buffer.add(rows(0, buffer.free))
        buffer.take(11)
    assert buffer.storage.data_ptr() == address


def test_rows_are_mixed():
    buffer = ShuffleBuffer(1000, 3)
    buffer.add(rows(0, 500))
    buffer.add(rows(500, 1000))
    batch = torch.tensor(values(buffer.take(200)))
    assert 70 < (batch < 500).sum() < 130
    assert (batch.diff().abs() == 1).sum() < 10


def test_each_row_is_as_likely_as_another():
    counts = torch.zeros(6)
    for seed in range(3000):
        buffer = ShuffleBuffer(6, 3, seed=seed)
        buffer.add(rows(0, 4))
        buffer.add(rows(4, 6))
        counts[values(buffer.take(2))] += 1
    assert (counts / 1000 - 1).abs().max() < 5 * (2 / 3 / 1000) ** 0.5


def test_state_is_exact():
    def go_on(buffer, n):
        served = []
        for i in range(n):
            buffer.add(rows(100 * i, 100 * i + buffer.free))
            served.append(buffer.take(5))
        return torch.cat(served)

    whole = ShuffleBuffer(12, 3, seed=1)
    whole.add(rows(-12, 0))
    go_on(whole, 3)
    state = copy.deepcopy(whole.state_dict())
    expected = go_on(whole, 4)
    resumed = ShuffleBuffer(12, 3, seed=2)
    resumed.load_state_dict(state)
    assert torch.equal(go_on(resumed, 4), expected)


def test_state_takes_no_memory_of_its_own():
    buffer = ShuffleBuffer(12, 3)
    buffer.add(rows(0, 10))
    assert buffer.state_dict()["storage"].data_ptr() == buffer.storage.data_ptr()


def test_dtype():
    buffer = ShuffleBuffer(4, 3, torch.bfloat16)
    buffer.add(rows(0, 4) + 0.001)
    assert buffer.storage.dtype == torch.bfloat16
    assert buffer.take(4).dtype == torch.float32


def test_a_number_too_large_for_the_stored_format_is_refused():
    """It would be infinite in the buffer, and a batch of it would spoil every weight."""
    buffer = ShuffleBuffer(4, 3, torch.float16)
    with pytest.raises(ValueError, match="buffer_dtype=float16: an activation of 70000 does not fit.*bfloat16"):
        buffer.add(torch.full((1, 3), -70000.0))
    assert buffer.filled == 0
    buffer.add(torch.full((1, 3), 65504.0))
    ShuffleBuffer(4, 3, torch.bfloat16).add(torch.full((1, 3), 70000.0))


def test_errors():
    buffer = ShuffleBuffer(4, 3)
    with pytest.raises(ValueError, match="5 rows do not fit into 4 free slots"):
        buffer.add(rows(0, 5))
    with pytest.raises(ValueError, match="1 rows were asked for and 0 are held"):
        buffer.take(1)
    big = ShuffleBuffer(9, 3)
    big.add(rows(0, 9))
    with pytest.raises(ValueError, match="buffer has room for 9 .*buffer_samples=4"):
        buffer.load_state_dict(big.state_dict())
