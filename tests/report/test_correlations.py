"""Latents that fire together, against numpy."""

import numpy as np
import pytest
import torch

from sae_lightning.report.correlations import strongest_correlations


def test_correlations_are_those_of_the_dense_activations():
    generator = torch.Generator().manual_seed(0)
    dense = torch.rand(200, 6, generator=generator) * (torch.rand(200, 6, generator=generator) < 0.2)
    dense[:, 1] = 2 * dense[:, 0] + (dense[:, 0] > 0) * dense[:, 2]
    dense[:, 5] = 0  # it never fires
    rows, columns = dense.nonzero(as_tuple=True)
    found = strongest_correlations(rows, columns, dense[rows, columns], tuple(dense.shape), 3)
    expected = np.corrcoef(dense[:, :5].double().numpy().T)
    np.fill_diagonal(expected, -1)
    for column in range(5):
        order = [other for other in np.argsort(-expected[column]) if expected[column, other] > 0][:3]
        assert [other for other, _ in found[column]] == order
        assert [value for _, value in found[column]] == pytest.approx(expected[column, order])
    assert found[0][0][0] == 1
    assert found[5] == []
