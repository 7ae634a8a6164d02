"""Which few columns tell a class: k-sparse probes with as many columns as make a difference.

Columns are ranked by how much larger they are for the class, in units of their standard deviation, and a logistic probe
reads the first k of them. The main columns of a class are the first k before another one adds no more than 0.03 to the
F1 score on held-out examples, as in SAEBench (Karvonen et al. 2025, arXiv 2503.09532); more than one is feature
splitting (Chanin et al. 2024, arXiv 2409.14507). One departure: there the weights of a probe on all columns with an L1
penalty rank them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy.sparse import csr_matrix

from sae_lightning.probing.probe import LinearProbe

F1_JUMP = 0.03


@dataclass(frozen=True)
class MainColumns:
    """The main columns of a class.

    Args:
        columns: the most telling first; none where no column is larger for the class than for others.
        f1: of the probe on them, on held-out examples; 0 without any.
    """

    columns: Int64[np.ndarray, " k"]
    f1: float


def f1_score(answers: Bool[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> float:
    """Return the harmonic mean of precision and recall; 0 where no answer is correct.

    >>> f1_score(np.array([True, True, False]), np.array([True, False, False]))
    0.6666666666666666
    """
    n_correct = int((answers & positive).sum())
    return 2 * n_correct / int(answers.sum() + positive.sum()) if n_correct else 0.0


def main_columns(
    features: csr_matrix,
    classes: np.ndarray,
    is_test: Bool[np.ndarray, " n_examples"],
    names: Sequence[str],
    max_k: int,
) -> list[MainColumns]:
    """Return the main columns of each of some classes, each against all other examples.

    Args:
        features: [n_examples, n_columns].
        classes: [n_examples] name of the class of each example.
        is_test: [n_examples] whether an example is held out.
        names: of the classes that are asked for.
        max_k: columns of a class at most.
    """
    separations = _separations(features[~is_test], classes[~is_test], names)
    by_column = features.tocsc()
    results = []
    for name, separation in zip(names, separations.T, strict=True):
        ranked = np.argsort(-separation, kind="stable")[:max_k]
        ranked = ranked[separation[ranked] > 0]
        columns, positive = by_column[:, ranked].toarray(), classes == name
        best = MainColumns(ranked[:0], 0.0)
        for k in range(1, len(ranked) + 1):
            probe = LinearProbe.fit(columns[~is_test, :k], positive[~is_test])
            f1 = f1_score(probe.logits(columns[is_test, :k]) > 0, positive[is_test])
            if k > 1 and f1 <= best.f1 + F1_JUMP:
                break
            best = MainColumns(ranked[:k], f1)
        results.append(best)
    return results


def _separations(
    features: csr_matrix, classes: np.ndarray, names: Sequence[str]
) -> Float[np.ndarray, "n_columns n_classes"]:
    """Return (mean over the class - mean over others) / standard deviation; 0 for columns that do not vary."""
    is_class = classes[:, None] == np.array(names)
    contrasts = np.where(is_class, 1 / is_class.sum(0), -1 / (~is_class).sum(0))
    wide = features.astype(np.float64)
    mean = np.asarray(wide.mean(0))[0]
    std = np.sqrt(np.maximum(np.asarray(wide.multiply(wide).mean(0))[0] - mean**2, 0))
    differences = np.asarray(wide.T @ contrasts)
    return np.divide(
        differences, std[:, None], out=np.zeros_like(differences), where=std[:, None] > 1e-6 * abs(mean)[:, None]
    )
