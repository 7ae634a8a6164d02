"""A datamodule of a configuration: what the section does not say follows from whether a run has left it."""

import pytest
import tiny

from sae_lightning.datamodules.from_settings import make_datamodule


@pytest.mark.parametrize(("is_of_run", "ratio"), [(True, None), (False, 10.0)])
def test_a_run_that_is_older_than_an_option_has_done_without_it(tmp_path, is_of_run, ratio):
    sizes = {"context_length": 16, "batch_size": 64, "buffer_samples": 200, "llm_batch_size": 4}
    data = tiny.save_lm_data(tmp_path, 50, **sizes)
    assert make_datamodule(data, is_of_run=is_of_run).massive.max_norm_ratio == ratio
