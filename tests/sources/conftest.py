import pytest
import tiny


@pytest.fixture(scope="session")
def tiny_lm(tmp_path_factory):
    return tiny.save_tiny_lm(tmp_path_factory.mktemp("tiny_lm"))
