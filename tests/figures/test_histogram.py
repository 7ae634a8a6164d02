import numpy as np

from sae_lightning.figures.histogram import shares


def test_a_rounded_cosine_is_in_the_histogram():
    assert shares(np.array([-0.1, 0.1, 1.0000002, 1.0]), np.array([0.0, 0.5, 0.8, 1.0])).tolist() == [0.5, 0, 0.5]
