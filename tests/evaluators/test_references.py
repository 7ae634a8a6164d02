import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from sae_lightning.datamodules import SyntheticDataModule
from sae_lightning.evaluators import Reconstruction, Recovery, References, Sparsity, references
from sae_lightning.evaluators.reconstruction import FVU
from sae_lightning.evaluators.sparsity import L0
from sae_lightning.metrics import pursuit
from sae_lightning.metrics.random_dictionary import random_dictionary

REFERENCES = ["true_codes", "true_codes_per_sample", "omp", "omp_random", "pca"]
FIRING = {"firing_precision", "firing_recall", "firing_f1"}


def validate(module, datamodule, trainer, *callbacks):
    run = trainer(*callbacks)
    run.validate(module, datamodule, verbose=False)
    return {name.removeprefix("val/"): value.item() for name, value in run.callback_metrics.items()}


def held_out(datamodule, n):
    """x and the dense true code of the first n held-out samples."""
    xs, codes = zip(*(datamodule.source.sample(16, index, "validation") for index in range(-(-n // 16))), strict=True)
    return torch.cat(xs)[:n].double(), torch.cat([code.to_dense() for code in codes])[:n].double()


def explained_variance(x, x_hat):
    return 1 - ((x - x_hat) ** 2).sum().item() / ((x - x.mean(0)) ** 2).sum().item()


def firing(dense, truth):
    fires, there = dense != 0, truth != 0
    both, claimed, there = (fires & there).sum(0).double(), fires.sum(0), there.sum(0)
    scores = {"precision": both / claimed, "recall": both / there, "f1": 2 * both / (claimed + there)}
    return {f"firing_{name}": values.nanmean().item() for name, values in scores.items()}


def test_references_stand_beside_members_and_floors(panel, synthetic, trainer):
    evaluators = [Reconstruction(), Sparsity(), Recovery(), References(k=2, n_samples=50)]
    logged = validate(panel, synthetic, trainer, *evaluators)
    alone = validate(panel, synthetic, trainer, References(k=2, n_samples=50))
    columns = {
        "explained_variance": REFERENCES,
        "fvu": REFERENCES,
        "l0": REFERENCES[:4],
        **dict.fromkeys(FIRING, REFERENCES[:3]),
    }
    assert set(alone) == {f"{metric}/{name}/0" for metric, names in columns.items() for name in names}
    for metric in columns:
        assert {f"{metric}/floor", *(f"{metric}/{member}" for member in panel.members)} <= set(logged)
    assert alone.items() <= logged.items()
    for name in REFERENCES:
        assert alone[f"fvu/{name}/0"] == pytest.approx(1 - alone[f"explained_variance/{name}/0"])


def test_true_codes_keep_the_largest_coefficients(sae, synthetic, trainer):
    x, truth = held_out(synthetic, 50)
    logged = validate(sae, synthetic, trainer, References(k=1, n_samples=50))
    features = synthetic.source.features.double()
    assert (truth != 0).sum() > 50
    threshold = truth.flatten().topk(50).values.min()
    per_sample = truth.topk(1, dim=1)
    for name, kept in (
        ("true_codes", truth * (truth >= threshold)),
        ("true_codes_per_sample", torch.zeros_like(truth).scatter(1, per_sample.indices, per_sample.values)),
    ):
        expected = {"explained_variance": explained_variance(x, kept @ features), **firing(kept, truth)}
        expected["l0"] = (kept != 0).sum().item() / 50
        assert {metric: logged[f"{metric}/{name}/0"] for metric in expected} == pytest.approx(expected, abs=1e-6)
    assert logged["l0/true_codes/0"] == 1 > logged["l0/true_codes_per_sample/0"]  # some samples have none


def test_true_codes_are_all_where_there_are_no_more(sae, synthetic, trainer):
    _, truth = held_out(synthetic, 160)
    fires = (truth != 0).sum(1)
    assert fires.max() > 4 > fires.double().mean()
    logged = validate(sae, synthetic, trainer, References(k=4, n_samples=160))
    assert logged["explained_variance/true_codes/0"] == pytest.approx(1, abs=1e-9)
    assert logged["l0/true_codes/0"] == pytest.approx(fires.double().mean().item())
    assert {logged[f"{metric}/true_codes/0"] for metric in FIRING} == {1.0}
    assert logged["explained_variance/true_codes_per_sample/0"] < 1
    assert logged["firing_recall/true_codes_per_sample/0"] < 1


def greedy(x, dictionary, k):
    """Orthogonal matching pursuit by its definition."""
    dense = np.zeros((len(x), len(dictionary)))
    for row, sample in zip(dense, x, strict=True):
        chosen, residual = [], sample
        while len(chosen) < k and np.linalg.norm(residual) > 1e-5 * np.linalg.norm(sample):
            chosen.append(np.abs(dictionary @ residual).argmax())
            row[chosen], *_ = np.linalg.lstsq(dictionary[chosen].T, sample, rcond=None)
            residual = sample - row @ dictionary
    return torch.from_numpy(dense)


def test_omp_is_orthogonal_matching_pursuit(sae, synthetic, trainer, monkeypatch):
    monkeypatch.setattr(pursuit, "_OMP_BLOCK", 7)
    x, truth = held_out(synthetic, 50)
    logged = validate(sae, synthetic, trainer, References(k=3, n_samples=50))
    for name, dictionary in (
        ("omp", synthetic.source.features),
        ("omp_random", random_dictionary(10, 6)),
    ):
        dense = greedy(x.numpy(), dictionary.double().numpy(), 3)
        expected = {"explained_variance": explained_variance(x, dense @ dictionary.double())}
        expected["l0"] = (dense != 0).sum().item() / 50
        if name == "omp":
            expected |= firing(dense, truth)
        assert {metric: logged[f"{metric}/{name}/0"] for metric in expected} == pytest.approx(expected, abs=1e-6)
    assert logged["explained_variance/omp/0"] > logged["explained_variance/omp_random/0"]


@pytest.mark.parametrize("k", [1, 5])
def test_omp_finds_the_one_feature_of_a_sample_whatever_k(k):
    random = torch.Generator().manual_seed(0)
    features = normalize(torch.randn(30, 10, generator=random), dim=1)
    which = torch.randint(30, (40,), generator=random)
    coefficients = torch.rand(40, generator=random) + 0.5
    coefficients[3] = 0  # a sample without any
    x = coefficients[:, None] * features[which]
    x_hat, code = pursuit.pursue(x, features, k)
    torch.testing.assert_close(x_hat, x.double(), atol=1e-6, rtol=0)
    expected = torch.zeros(40, 30, dtype=torch.float64)
    expected[torch.arange(40), which] = coefficients.double()
    assert torch.equal(code.to_dense() != 0, expected != 0)
    torch.testing.assert_close(code.to_dense(), expected, atol=1e-6, rtol=0)


def test_pca_is_fitted_on_training_data(sae, synthetic, trainer):
    x, _ = held_out(synthetic, 50)
    training = synthetic.calibration_sample(600).double().numpy()
    mean = training.mean(0)
    axes = np.linalg.svd(training - mean, full_matrices=False)[2][:2]
    x_hat = mean + (x.numpy() - mean) @ axes.T @ axes
    before = np.random.get_state()
    logged = validate(sae, synthetic, trainer, References(k=2, n_samples=50))
    assert all(np.array_equal(*pair) for pair in zip(before, np.random.get_state(), strict=True))
    assert logged["explained_variance/pca/0"] == pytest.approx(explained_variance(x, torch.from_numpy(x_hat)), abs=1e-6)


def test_all_is_computed_once_and_logged_each_time(sae, synthetic, trainer, monkeypatch):
    calls = []
    monkeypatch.setattr(
        References,
        "_measure",
        lambda self: calls.append(1) or {"true_codes": {L0: 2.0, FVU: 0.1}, "pca": {FVU: 0.5}},
    )
    evaluator = References(k=2)
    trainer(evaluator, num_sanity_val_steps=2, limit_val_batches=0).fit(sae, synthetic)
    assert not calls
    for _ in range(2):
        run = trainer(evaluator, num_sanity_val_steps=2)
        run.fit(sae, synthetic)
        logged = {name: value.item() for name, value in run.callback_metrics.items() if name.startswith("val/")}
        assert logged == pytest.approx({"val/l0/true_codes/0": 2, "val/fvu/true_codes/0": 0.1, "val/fvu/pca/0": 0.5})
    assert len(calls) == 1


def test_every_rank_takes_the_same_samples(synthetic, monkeypatch):
    x, code = references.held_out_sample(synthetic, 50)
    expected_x, expected_code = held_out(synthetic, 50)
    assert torch.equal(x.double(), expected_x)
    assert torch.equal(code.to_dense().double(), expected_code)
    monkeypatch.setattr(SyntheticDataModule, "rank", 1)
    monkeypatch.setattr(SyntheticDataModule, "world_size", 2)
    assert torch.equal(references.held_out_sample(synthetic, 50)[0], x)


@pytest.mark.parametrize("missing", ["features", "codes"])
def test_data_without_known_codes_are_refused(panel, data, trainer, missing):
    if missing == "features":
        del data.source.features
    with pytest.raises(ValueError, match="References needs data whose true codes are known, and data=Activations has"):
        trainer(References(k=2)).fit(panel, data)


@pytest.mark.parametrize(("k", "d_in", "n_features"), [(7, 6, 10), (6, 10, 5)])
def test_more_features_than_can_be_independent_are_refused(trainer, k, d_in, n_features):
    from sae_lightning.saes import TopK

    datamodule = SyntheticDataModule(d_in=d_in, n_features=n_features, batch_size=16)
    sae = TopK(d_in, k=2, d_sae=12)
    with pytest.raises(ValueError, match=f"References: k={k}: expected at most {k - 1} for d_in={d_in}"):
        trainer(References(k=k)).fit(sae, datamodule)


def test_two_in_a_run_are_refused(sae, synthetic, trainer):
    with pytest.raises(ValueError, match="References: expected one in a run"):
        trainer(References(k=1), References(k=2)).validate(sae, synthetic)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="k=0: expected a whole number, 1 or more"):
        References(k=0)
    with pytest.raises(ValueError, match="n_samples=1: expected a whole number, 2 or more"):
        References(k=1, n_samples=1)
