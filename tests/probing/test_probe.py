import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from sae_lightning.probing.probe import LinearProbe, mean_difference, probe, top_columns
from sae_lightning.probing.problems import Problem, balanced_rows, control, one_vs_rest

N = 240


@pytest.fixture
def problem():
    """The first 120 rows train, the next 80 test, the last 40 are out of distribution; labels alternate."""
    rows = {"train": np.arange(120), "test": np.arange(120, 200), "ood": np.arange(200, N)}
    return Problem(rows, {name: of % 2 == 0 for name, of in rows.items()})


@pytest.fixture
def noise():
    return np.random.default_rng(0).standard_normal((N, 30)).astype(np.float32)


def test_a_column_that_is_the_label_is_found_and_answers_everything(problem, noise):
    noise[:, 17] = np.arange(N) % 2 == 0
    noise[:, 17] *= 5
    (columns,) = top_columns([noise], [problem], 2)
    assert columns.shape == (N, 2)
    assert np.array_equal(columns[:, 0], noise[:, 17])
    scores = probe([problem], [columns[:, :1]])
    for name in ("test", "ood"):
        assert scores[name].accuracy == pytest.approx(1)
        assert scores[name].auroc == 1


def test_dead_columns_score_one_half(problem):
    scores = probe([problem], top_columns([csr_matrix((N, 30), dtype=np.float32)], [problem], 5))
    assert {name: (score.accuracy, score.auroc) for name, score in scores.items()} == {
        "test": (pytest.approx(0.5), 0.5),
        "ood": (pytest.approx(0.5), 0.5),
    }


def test_ranking_is_that_of_brute_force_whatever_the_form(problem, noise):
    sparse = np.where(noise > 1, noise, 0)
    positive = problem.positive["train"]
    differences = [sparse[:120][positive, j].mean() - sparse[:120][~positive, j].mean() for j in range(30)]
    assert mean_difference(csr_matrix(sparse), [problem])[:, 0] == pytest.approx(differences, abs=1e-6)
    order = np.argsort(-np.abs(differences))[:4]
    expected = sparse[:, order]
    for blocks in ([csr_matrix(sparse)], [sparse], [sparse[:, :3], sparse[:, 3:20], sparse[:, 20:]]):
        assert np.array_equal(top_columns(blocks, [problem], 4)[0], expected)
    assert top_columns([sparse[:, :2]], [problem], 4)[0].shape == (N, 2)


def test_a_column_that_speaks_against_the_class_is_chosen_too(problem, noise):
    noise[:, 3] = -8 * (np.arange(N) % 2 == 0)
    assert np.array_equal(top_columns([noise], [problem], 1)[0][:, 0], noise[:, 3])


def test_scores_are_those_of_scikit_learn_on_standardised_columns(problem, noise):
    noise[:, :2] += (np.arange(N) % 2)[:, None] * 0.8
    x = (noise - noise[:120].mean(0)) / noise[:120].std(0)
    reference = LogisticRegression(max_iter=1000).fit(x[:120], problem.positive["train"])
    logits = reference.decision_function(x[120:200])
    for scale in (1, 1e-3):
        score = probe([problem], [noise * scale])["test"]
        assert score.accuracy == pytest.approx(((logits > 0) == problem.positive["test"]).mean())
        assert score.auroc == pytest.approx(roc_auc_score(problem.positive["test"], logits), abs=1e-3)
        assert score.correct.sum() == pytest.approx(score.accuracy)
        assert score.weights.sum() == pytest.approx(1)
        assert not score.weights[:120].any()


def test_accuracy_is_balanced():
    """A constant answer is worth one half where most examples are positive."""
    rows = {"train": np.arange(4), "test": np.arange(4, 14), "ood": np.arange(0)}
    positive = {"train": np.arange(4) < 2, "test": np.arange(10) < 8, "ood": np.zeros(0, dtype=bool)}
    scores = probe([Problem(rows, positive)], [np.ones((14, 1))])
    assert list(scores) == ["test"]
    assert scores["test"].accuracy == pytest.approx(0.5)


def test_problems_are_balanced_with_equal_numbers_of_the_other_classes():
    labels = np.array(["a"] * 6 + ["b"] * 10 + ["c"] * 2)
    rows = balanced_rows(labels, np.arange(18), "a")
    assert sorted(labels[rows]) == ["a"] * 6 + ["b"] * 4 + ["c"] * 2
    assert (labels[balanced_rows(labels, np.arange(18), "b")] == "b").sum() == 8
    problems = one_vs_rest(["a", "b", "a", "b", "c"], ["train", "train", "test", "test", "train"])
    assert list(problems) == ["a", "b"]  # nothing tests c
    assert problems["a"].rows["ood"].size == 0


def test_control_labels_hang_on_the_unit_and_noise_columns_score_one_half_on_new_units(problem, noise):
    generator = np.random.default_rng(0)
    units = [f"unit {i % 20}" for i in range(N)]
    coins = control(problem, units, generator)
    by_unit = {}
    for name, rows in coins.rows.items():
        for row, positive in zip(rows, coins.positive[name], strict=True):
            assert by_unit.setdefault(units[row], positive) == positive
    assert sum(by_unit.values()) == 10
    fresh = [control(problem, [str(i) for i in range(N)], generator) for _ in range(60)]
    scores = probe(fresh, [columns[:, :1] for columns in top_columns([noise], fresh, 1)])
    assert scores["test"].accuracy == pytest.approx(0.5, abs=0.03)


def test_units_that_come_back_lift_the_control_above_one_half(problem):
    """Columns that name the word: the best of them answers the random label of its word, in test as well."""
    words = np.random.default_rng(1).integers(0, 6, N)
    coins = [control(problem, [str(word) for word in words], np.random.default_rng(i)) for i in range(10)]
    one_hot = np.eye(6, dtype=np.float32)[words]
    assert probe(coins, top_columns([one_hot], coins, 5))["test"].accuracy > 0.8


def test_labels_out_of_balance_are_weighed():
    """Of six positive examples to one negative a probe that counted them alike would always say yes."""
    random = np.random.default_rng(3)
    rows = {"train": np.arange(700), "test": np.arange(700, 1100), "ood": np.arange(0)}
    positive = {"train": np.arange(700) % 7 > 0, "test": np.arange(400) % 2 == 0, "ood": np.zeros(0, dtype=bool)}
    x = random.standard_normal((1100, 1))
    x[:, 0] += np.concatenate([positive["train"], positive["test"]])
    assert probe([Problem(rows, positive)], [x])["test"].accuracy == pytest.approx(0.69, abs=0.04)


def test_flags_of_a_product_are_silent_and_weights_that_are_not_finite_are_refused(noise, monkeypatch, recwarn):
    positive, bad, fit = np.arange(N) % 2 == 0, [np.inf], LogisticRegression.fit

    def flagged(self, x, y):
        np.array(bad) - np.array(bad)  # invalid value
        return fit(self, x, y)

    monkeypatch.setattr(LogisticRegression, "fit", flagged)
    assert np.isfinite(LinearProbe.fit(noise, positive).direction).all()
    assert not recwarn.list
    monkeypatch.setattr(
        LogisticRegression, "fit", lambda self, x, y: setattr(self, "coef_", np.full((1, 30), np.nan)) or self
    )
    with pytest.raises(ValueError, match="weights that are not finite"):
        LinearProbe.fit(noise, positive)
