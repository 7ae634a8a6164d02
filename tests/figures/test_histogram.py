import numpy as np

from sae_lightning.figures.histogram import shares
from sae_lightning.figures.sparsity import edges_from


def test_a_rounded_cosine_is_in_the_histogram():
    assert shares(np.array([-0.1, 0.1, 1.0000002, 1.0]), np.array([0.0, 0.5, 0.8, 1.0])).tolist() == [0.5, 0, 0.5]


def test_no_bin_of_frequencies_lies_between_one_firing_and_two():
    """Bins at round powers of ten have such gaps, which look like latents that nobody has."""
    for n in (1000, 8192, 32_819, 100_000):
        counts = np.arange(1, n + 1)
        edges = edges_from(np.log10(1 / n))
        assert edges[0] <= np.log10(1 / n)
        assert 0 <= edges[-1] < 0.25
        assert (np.histogram(np.log10(counts / n), edges)[0] > 0).all()
    assert edges_from(-9.0)[0] == -6
