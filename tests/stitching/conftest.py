import pytest
import torch


@pytest.fixture(scope="package", autouse=True)
def _one_thread():
    """On a busy machine the tiny products of these tests wait for each other's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
