import numpy as np
import pytest
from scipy.sparse import csr_matrix

from sae_lightning.probing.k_sparse import f1_score, main_columns

N = 300
CLASSES = np.array(["a", "b", "c"] * 100)
IS_TEST = np.arange(N) % 10 < 3


def noise(n_columns=20):
    random = np.random.default_rng(0)
    return (random.random((N, n_columns)) < 0.1) * random.random((N, n_columns))


def main_of(features, name="a", max_k=10):
    (found,) = main_columns(csr_matrix(features), CLASSES, IS_TEST, [name], max_k)
    return found


def test_f1():
    answers = np.array([True, True, True, False, False])
    assert f1_score(answers, np.array([True, False, False, True, False])) == pytest.approx(0.4)
    assert f1_score(answers, np.array([False, False, False, True, True])) == 0
    assert f1_score(answers & False, answers & False) == 0
    assert f1_score(answers, answers) == 1


def test_one_column_that_is_the_class():
    features = noise()
    features[:, 7] = CLASSES == "a"
    found = main_of(features)
    assert (found.columns.tolist(), found.f1) == ([7], 1.0)


def test_a_class_that_is_split_into_two_columns():
    features = noise()
    features[:, 7] = (CLASSES == "a") & (np.arange(N) % 2 == 0)
    features[:, 11] = 5.0 * ((CLASSES == "a") & (np.arange(N) % 2 == 1))
    found = main_of(features)
    assert (sorted(found.columns.tolist()), found.f1) == ([7, 11], 1.0)
    assert len(main_of(features, max_k=1).columns) == 1


def test_a_column_that_is_smaller_for_the_class_is_no_main_column():
    features = np.zeros((N, 3))
    features[:, 1] = CLASSES != "a"
    found = main_of(features)
    assert (found.columns.tolist(), found.f1) == ([], 0.0)
    assert main_of(features * 0).columns.tolist() == []


def test_scale_does_not_matter():
    features = noise()
    features[:, 7] = 1e-3 * (CLASSES == "a")
    features[:, 11] = 1e3 * (np.random.default_rng(1).random(N) < 0.5)
    assert main_of(features).columns.tolist() == [7]
