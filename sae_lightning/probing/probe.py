"""Logistic probes on the few columns whose means differ most between positive and negative training examples.

Settings are those of SAEBench (Karvonen et al. 2025, arXiv 2503.09532): columns ranked by the absolute difference of
means, logistic regression with an L2 penalty, C = 1, at most 1000 iterations. One departure: columns are divided by
their standard deviation over the training examples, so that C means the same whatever scale an SAE's latents have.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float
from scipy.sparse import csr_matrix

from sae_lightning.probing.problems import Problem

Columns: TypeAlias = Any
"""[n_examples, n_columns], a numpy array or a scipy CSR matrix."""


@dataclass(frozen=True)
class Score:
    """How probes of some problems do on one set: means over the problems for which the set has both answers.

    Args:
        accuracy: balanced: the mean of the shares of positive and of negative examples that are classified correctly.
        auroc: area under the receiver operating characteristic.
        correct: [n_examples] weight of the correct answers; sums to the accuracy.
        weights: [n_examples] weight of all answers; sums to 1.
        by_problem: [n_problems] balanced accuracy on each; nan where the set has one answer alone.
    """

    accuracy: float
    auroc: float
    correct: Float[np.ndarray, " n_examples"]
    weights: Float[np.ndarray, " n_examples"]
    by_problem: Float[np.ndarray, " n_problems"]


def mean_difference(columns: Columns, problems: Sequence[Problem]) -> Float[np.ndarray, "n_columns n_problems"]:
    """Return the mean over positive minus that over negative training examples; 0 where one of them is missing."""
    contrasts = np.zeros((columns.shape[0], len(problems)), dtype=np.float32)
    for i, problem in enumerate(problems):
        rows, positive = problem.rows["train"], problem.positive["train"]
        if positive.any() and not positive.all():
            contrasts[rows, i] = np.where(positive, 1 / positive.sum(), -1 / (~positive).sum())
    return np.asarray(columns.T @ contrasts)


def top_columns(blocks: Iterable[Columns], problems: Sequence[Problem], k: int) -> list[Float[np.ndarray, "n _"]]:
    """Return for each problem its k columns with the largest absolute mean difference, the largest first.

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
            # The best so far compete with the best of this block.
            new, kept = dense(by_column[:, first[:, i]]), chosen[i]
            both = new if kept is None else np.concatenate([kept, new], 1)
            size = np.concatenate([best[i], sizes[first[:, i], i]])
            order = np.argsort(-size, kind="stable")[:k]
            best[i], chosen[i] = size[order], both[:, order]
    return [columns for columns in chosen if columns is not None]


def dense(columns: Columns) -> np.ndarray:
    """Return a numpy array of columns of either kind."""
    return columns if isinstance(columns, np.ndarray) else columns.toarray()


def probe(problems: Sequence[Problem], columns: Sequence[Float[np.ndarray, "n _"]]) -> dict[str, Score]:
    """Fit a probe to each problem and score it on `test` and `ood`, where some problem has examples there.

    Args:
        problems: what the probes classify.
        columns: for each problem, what its probe reads.
    """
    from sklearn.metrics import roc_auc_score

    results: dict[str, list[tuple[int, np.ndarray, float]]] = {"test": [], "ood": []}
    for number, (problem, x) in enumerate(zip(problems, columns, strict=True)):
        # Control labels may be out of balance, and the score is of a balanced set: `fit` weighs classes.
        logits = LinearProbe.fit(x[problem.rows["train"]], problem.positive["train"]).logits(x)
        for name, results_of_set in results.items():
            rows, positive = problem.rows[name], problem.positive[name]
            if positive.any() and not positive.all():
                results_of_set.append((number, logits[rows] > 0, float(roc_auc_score(positive, logits[rows]))))
    scores = {}
    for name, results_of_set in results.items():
        if results_of_set:
            correct, weights = np.zeros((2, len(columns[0])))
            by_problem = np.full(len(problems), np.nan)
            for number, answers, _ in results_of_set:
                rows, positive = problems[number].rows[name], problems[number].positive[name]
                weight = np.where(positive, 0.5 / positive.sum(), 0.5 / (~positive).sum()) / len(results_of_set)
                weights[rows] += weight
                correct[rows] += weight * (answers == positive)
                by_problem[number] = (weight * (answers == positive)).sum() * len(results_of_set)
            auroc = float(np.mean([auroc for *_, auroc in results_of_set]))
            scores[name] = Score(float(correct.sum()), auroc, correct, weights, by_problem)
    return scores


@dataclass(frozen=True)
class LinearProbe:
    """A logistic probe that was fitted to some columns.

    Args:
        varies: [d] which columns vary over the training examples; the others are not read.
        centre: mean of those that vary.
        std: their standard deviation.
        model: logistic regression on (x - centre) / std; None where there was nothing to learn from.
    """

    varies: Bool[np.ndarray, " d"]
    centre: Float[np.ndarray, " n_varying"]
    std: Float[np.ndarray, " n_varying"]
    model: Any

    @classmethod
    def fit(cls, x: Float[np.ndarray, "n_train d"], positive: Bool[np.ndarray, " n_train"]) -> "LinearProbe":
        """Fit a probe; classes weigh the same however many examples they have.

        Raises:
            ValueError: if its weights are not finite.
        """
        from sklearn.linear_model import LogisticRegression

        std = x.std(0)
        varies = std > 0
        centre, model = x[:, varies].mean(0), None
        if varies.any() and positive.any() and not positive.all():
            scaled = (x[:, varies] - centre) / std[varies]
            # OpenBLAS raises floating-point flags in products whose result is finite, and numpy warns of each.
            with np.errstate(all="ignore"):
                model = LogisticRegression(C=1.0, max_iter=1000, class_weight="balanced").fit(scaled, positive)
            if not np.isfinite(model.coef_).all():
                raise ValueError("a probe got weights that are not finite: its columns hold numbers too large to fit")
        return cls(varies, centre, std[varies], model)

    def logits(self, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """Return log-odds; all zero where training examples gave nothing to learn from."""
        if self.model is None:
            return np.zeros(len(x))
        return self.model.decision_function((x[:, self.varies] - self.centre) / self.std)

    @property
    def direction(self) -> Float[np.ndarray, " d"]:
        """The direction along which log-odds grow, in the units of the columns, of length 1; zeros without a model."""
        weights = np.zeros(len(self.varies))
        if self.model is not None:
            weights[self.varies] = self.model.coef_[0] / self.std
        return weights / (np.linalg.norm(weights) or 1)
