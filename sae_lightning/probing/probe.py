"""Logistic probes on the few columns whose means differ most between positive and negative training examples.

Settings are those of SAEBench (Karvonen et al. 2025, arXiv 2503.09532): columns ranked by the absolute difference of
means, logistic regression with an L2 penalty, C = 1, at most 1000 iterations. One departure: columns are divided by
their standard deviation over the training examples, so that C means the same whatever scale an SAE's latents have.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_matrix

from sae_lightning.probing.problems import Problem

Columns: TypeAlias = Any
"""[n_examples, n_columns], a numpy array or a scipy CSR matrix."""


@dataclass(frozen=True)
class Score:
    """How probes of some problems do on one set: means over the problems for which the set has both answers.

    Args:
        accuracy: balanced: the mean of the shares of positive and of negative examples that are told right.
        auroc: area under the receiver operating characteristic.
        correct: [n_examples] weight of the answers that are right; sums to the accuracy.
        weights: [n_examples] weight of all answers; sums to 1.
    """

    accuracy: float
    auroc: float
    correct: Float[np.ndarray, " n_examples"]
    weights: Float[np.ndarray, " n_examples"]


def mean_difference(columns: Columns, problems: Sequence[Problem]) -> Float[np.ndarray, "n_columns n_problems"]:
    """Mean over positive minus mean over negative training examples; 0 where there are only either."""
    contrasts = np.zeros((columns.shape[0], len(problems)), dtype=np.float32)
    for i, problem in enumerate(problems):
        rows, positive = problem.rows["train"], problem.positive["train"]
        if positive.any() and not positive.all():
            contrasts[rows, i] = np.where(positive, 1 / positive.sum(), -1 / (~positive).sum())
    return np.asarray(columns.T @ contrasts)


def top_columns(blocks: Iterable[Columns], problems: Sequence[Problem], k: int) -> list[Float[np.ndarray, "n _"]]:
    """For each problem its k columns with the largest absolute mean difference, the largest first.

    Args:
        blocks: all columns, in parts that are held one at a time.
        problems: which examples to compare.
        k: number of columns; fewer are given where there are fewer.
    """
    n_problems = len(problems)
    best: list[np.ndarray] = [np.zeros(0)] * n_problems
    chosen: list[np.ndarray | None] = [None] * n_problems
    for block in blocks:
        sizes = np.abs(mean_difference(block, problems))
        first = np.argsort(-sizes, axis=0, kind="stable")[:k]
        by_column = block.tocsc() if isinstance(block, csr_matrix) else block
        for i in range(n_problems):
            new, known = dense(by_column[:, first[:, i]]), chosen[i]
            both = new if known is None else np.concatenate([known, new], 1)
            size = np.concatenate([best[i], sizes[first[:, i], i]])
            order = np.argsort(-size, kind="stable")[:k]
            best[i], chosen[i] = size[order], both[:, order]
    return [columns for columns in chosen if columns is not None]


def dense(columns: Columns) -> np.ndarray:
    """A numpy array of columns of either kind."""
    return columns if isinstance(columns, np.ndarray) else columns.toarray()


def probe(problems: Sequence[Problem], columns: Sequence[Float[np.ndarray, "n _"]]) -> dict[str, Score]:
    """Fits a probe to each problem and scores it on `test` and `ood`, where some problem has examples there.

    Args:
        problems: what to tell.
        columns: for each problem, what from.
    """
    from sklearn.metrics import roc_auc_score

    found: dict[str, list[tuple[Problem, np.ndarray, float]]] = {"test": [], "ood": []}
    for problem, of_problem in zip(problems, columns, strict=True):
        logits = fit(of_problem[problem.rows["train"]], problem.positive["train"], of_problem)
        for name, of_set in found.items():
            rows, positive = problem.rows[name], problem.positive[name]
            if positive.any() and not positive.all():
                of_set.append((problem, logits[rows] > 0, float(roc_auc_score(positive, logits[rows]))))
    scores = {}
    for name, of_set in found.items():
        if of_set:
            correct, weights = np.zeros((2, len(columns[0])))
            for problem, answers, _ in of_set:
                rows, positive = problem.rows[name], problem.positive[name]
                weight = np.where(positive, 0.5 / positive.sum(), 0.5 / (~positive).sum()) / len(of_set)
                weights[rows] += weight
                correct[rows] += weight * (answers == positive)
            scores[name] = Score(
                float(correct.sum()), float(np.mean([auroc for *_, auroc in of_set])), correct, weights
            )
    return scores


def fit(
    x: Float[np.ndarray, "n_train d"], positive: np.ndarray, to_judge: Float[np.ndarray, "n d"]
) -> Float[np.ndarray, " n"]:
    """Log-odds of the examples to judge; zero throughout where training examples give nothing to learn from."""
    from sklearn.linear_model import LogisticRegression

    spread = x.std(0)
    varies = spread > 0
    if not varies.any() or positive.all() or not positive.any():
        return np.zeros(len(to_judge))
    centre = x[:, varies].mean(0)
    scaled, judged = ((of[:, varies] - centre) / spread[varies] for of in (x, to_judge))
    # Control labels may be out of balance, and the score is of a balanced set.
    return (
        LogisticRegression(C=1.0, max_iter=1000, class_weight="balanced")
        .fit(scaled, positive)
        .decision_function(judged)
    )
