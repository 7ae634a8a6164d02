import pytest
import tiny
import torch


@pytest.fixture(scope="session")
def tiny_lm(tmp_path_factory):
    return tiny.save_tiny_lm(tmp_path_factory.mktemp("tiny_lm"))


@pytest.fixture(scope="package", autouse=True)
def _one_thread():
    """On a busy machine the tiny products of these tests wait for each other's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
