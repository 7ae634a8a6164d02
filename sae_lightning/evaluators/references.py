"""What is reachable on synthetic data: the truth itself, sparse coding with the true dictionary, and without it.

An explained variance of 0.7 means little before one knows what k entries can explain at best, and what k entries of a
dictionary without any true feature explain.
"""

from collections.abc import Iterator
from itertools import islice

import torch
from jaxtyping import Float
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from sae_lightning.checks import check_whole
from sae_lightning.code import Code
from sae_lightning.datamodules.base import ActivationDataModule
from sae_lightning.evaluators.base import Evaluator
from sae_lightning.evaluators.reconstruction import EXPLAINED_VARIANCE, FVU
from sae_lightning.evaluators.recovery import FIRING_F1, FIRING_PRECISION, FIRING_RECALL, data_with_truth, mean_firing
from sae_lightning.evaluators.scores import Scores
from sae_lightning.evaluators.sparsity import L0
from sae_lightning.members import Member
from sae_lightning.metric import Metric
from sae_lightning.metrics import FiringMatch
from sae_lightning.metrics.functional import explained_variance_compute, moments_update, squared_error_update
from sae_lightning.metrics.pursuit import keep_largest_per_sample, pursue
from sae_lightning.metrics.random_dictionary import random_dictionary
from sae_lightning.saes.module import SAEModule
from sae_lightning.sources import NullSource, SyntheticSource
from sae_lightning.trainer import callbacks_of

_PCA_SAMPLES_PER_DIMENSION = 100


class References(Evaluator):
    """Log what methods that are no SAE score on the same data, as `<metric>/<reference>/0` beside the members.

    - true_codes: the true codes, of which only the k * n_samples largest coefficients are kept, as BatchTopK does.
    - true_codes_per_sample: the same with the k largest of each sample, as TopK does.
    - omp: orthogonal matching pursuit (Pati, Rezaiifar, Krishnaprasad 1993) with the true features, k to a sample.
    - omp_random: the same with a random isotropic dictionary of equal size: what sparse coding explains by chance.
    - pca: the k first principal components, of training data, about their mean.

    Metrics: explained_variance and fvu of all, l0 of all but pca, and firing_precision, firing_recall, firing_f1 (as
    `Recovery` defines them) of the three that use the true features. Unlike latents the coefficients of omp may be
    negative. Nothing here depends on training: all is computed once, in about 15 s for 3200 features with k = 20, and
    every rank computes the same.

    Args:
        k: entries to a sample, from 1 to the smaller of d_in and the number of features; as a rule that of the SAE.
        n_samples: how many of the first held-out samples. Where features are rare the firing_ means depend on it.
        every_n_validations: 1 or more; the last validation always counts.
    """

    declares = (EXPLAINED_VARIANCE, FVU, L0, FIRING_PRECISION, FIRING_RECALL, FIRING_F1)

    def __init__(self, k: int, n_samples: int = 4096, every_n_validations: int = 1) -> None:
        super().__init__(every_n_validations)
        check_whole(1, k=k, hint="as a rule the k of the SAE")
        check_whole(2, n_samples=n_samples, hint="since one sample has no variance to explain")
        self.k, self.n_samples = k, n_samples
        self._values: dict[str, dict[Metric, float]] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the data have known codes, and that k features can be independent."""
        super().setup(trainer, pl_module, stage)
        self._datamodule, self._features = data_with_truth(self, trainer, "codes")
        if sum(isinstance(callback, References) for callback in callbacks_of(trainer)) > 1:
            raise ValueError("References: expected one in a run, since those of two would have the same names")
        if self._datamodule.hook_widths:
            raise ValueError("References are of activations with one part: leave out data.d_answer, or References")
        n_features, d_in = self._features.shape
        if self.k > min(n_features, d_in):
            raise ValueError(
                f"References: k={self.k}: expected at most {min(n_features, d_in)} for d_in={d_in} and {n_features} "
                "features; more directions are never independent, and explain everything"
            )

    def scores(self, trainer: Trainer, module: SAEModule, stage: str) -> Iterator[Scores]:
        """Compute everything the first time."""
        if not self._values:
            self._values = self._measure()
        for metric in self._values["true_codes"]:  # which has them all
            values = {Member(name, 0): values[metric] for name, values in self._values.items() if metric in values}
            yield Scores(metric, values, floor=None)

    def _measure(self) -> dict[str, dict[Metric, float]]:
        """Measure every reference."""
        from sklearn.decomposition import PCA

        source, features = self._datamodule.source, self._features
        assert isinstance(source, SyntheticSource | NullSource)
        x, truth = held_out_sample(self._datamodule, self.n_samples)
        largest = keep_largest(truth, self.k * self.n_samples)
        largest_per_sample = keep_largest_per_sample(truth, self.k)
        x_hat_omp, omp = pursue(x, features, self.k)
        x_hat_random, omp_random = pursue(x, random_dictionary(*features.shape), self.k)
        pca = PCA(self.k, svd_solver="covariance_eigh")  # draws nothing from the global random state
        d_in = features.shape[1]  # beside which there may be nulls
        pca.fit(self._datamodule.calibration_sample(_PCA_SAMPLES_PER_DIMENSION * d_in)[:, :d_in].double().numpy())
        x_hat_pca = torch.from_numpy(pca.inverse_transform(pca.transform(x.double().numpy())))
        return {
            "true_codes": fit(x, source.decode(largest)) | sparsity(largest) | detection(largest, truth),
            "true_codes_per_sample": fit(x, source.decode(largest_per_sample))
            | sparsity(largest_per_sample)
            | detection(largest_per_sample, truth),
            "omp": fit(x, x_hat_omp) | sparsity(omp) | detection(omp, truth),
            "omp_random": fit(x, x_hat_random) | sparsity(omp_random),
            "pca": fit(x, x_hat_pca),
        }


# Codes
# -----------------------------------------------------------------------------------------------------------------


def held_out_sample(datamodule: ActivationDataModule, n: int) -> tuple[Float[Tensor, "n d_in"], Code]:
    """Return the first n held-out samples and their true code, the same on every rank."""
    held_out = datamodule.held_out()
    assert held_out is not None
    xs, codes = zip(*islice(held_out, -(-n // datamodule.batch_size)), strict=True)
    code = Code.join(codes)
    end = int(code.offsets[n])
    return torch.cat(xs)[:n], Code(code.values[:end], code.indices[:end], code.offsets[: n + 1], code.d_sae)


def keep_largest(code: Code, n: int) -> Code:
    """Keep the n largest entries of all; all entries where there are fewer."""
    keep = torch.zeros(code.nnz, dtype=torch.bool)
    keep[code.values.topk(min(n, code.nnz)).indices] = True
    return code.where(keep)


# Metrics of a reference
# -----------------------------------------------------------------------------------------------------------------


def fit(x: Tensor, x_hat: Tensor) -> dict[Metric, float]:
    """Measure how well the samples are reconstructed."""
    explained = explained_variance(x, x_hat)
    return {EXPLAINED_VARIANCE: explained, FVU: 1 - explained}


def explained_variance(x: Float[Tensor, "n d_in"], x_hat: Float[Tensor, "n d_in"]) -> float:
    """Return the explained variance as `Reconstruction` has it, with nothing to reduce over ranks."""
    return float(explained_variance_compute(squared_error_update(x, x_hat), moments_update(x)))


def sparsity(code: Code) -> dict[Metric, float]:
    """Measure the mean number of entries."""
    return {L0: float(code.l0().double().mean())}


def detection(code: Code, truth: Code) -> dict[Metric, float]:
    """Measure how well the entries are those of the truth, feature by feature."""
    firing = FiringMatch(truth.d_sae, torch.arange(truth.d_sae), sync_on_compute=False)
    firing.update(code, truth)
    return {metric: float(value) for metric, value in mean_firing(firing).items()}
