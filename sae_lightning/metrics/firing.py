"""Agreement of firings: whether latents fire when the true features that they represent fire.

    precision = both / latent fires,    recall = both / feature fires,    f1 = 2 both / (latent fires + feature fires)

with counts over samples, for each latent and one true feature assigned to it (its best match, as a rule). Directions
alone (`best_cosine`) do not show it: a correct direction may fire at the wrong time. SynthSAEBench 2026,
arXiv 2602.14687.
"""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torchmetrics import Metric

from sae_lightning.code import Code
from sae_lightning.distributed import group_of


class FiringMatch(Metric):
    """Each latent as a detector of its feature: `precision`, `recall` and `f1` [d_sae], over all samples.

    `update` takes the `Code` of the latents [batch, d_sae] and the true code [batch, n_features], which may be on
    another device; `compute` returns a dict of float64, each in [0, 1], higher is better. An undefined score is nan:
    the precision of a latent that never fires, the recall where the feature never fires, f1 where neither does. A
    latent that never fires has recall and f1 0 otherwise.

    Args:
        n_features: number of true features.
        match: [d_sae] int64, the feature of each latent.
        settings: of `torchmetrics.Metric`; `sync_on_compute=False` where every rank has seen the same samples.

    >>> metric = FiringMatch(n_features=2, match=torch.tensor([0, 1, 1]))
    >>> code = Code.from_dense(torch.tensor([[0.5, 0.1, 0.0], [0.5, 0.0, 0.0]]))
    >>> metric.update(code, Code.from_dense(torch.tensor([[1.0, 1.0], [0.0, 1.0]])))
    >>> {name: value.tolist() for name, value in metric.compute().items()}
    {'precision': [0.5, 1.0, nan], 'recall': [1.0, 0.5, 0.0], 'f1': [0.6666666666666666, 0.6666666666666666, 0.0]}
    """

    full_state_update = False
    match: Tensor
    latent_counts: Tensor
    feature_counts: Tensor
    both_counts: Tensor

    def __init__(self, n_features: int, match: Int64[Tensor, " d_sae"], **settings: Any) -> None:
        super().__init__(process_group=group_of(), **settings)
        if match.min() < 0 or match.max() >= n_features:
            raise ValueError(
                f"match has values from {match.min()} to {match.max()}: expected features, 0 to {n_features - 1}"
            )
        self.register_buffer("match", match, persistent=False)
        for name, size in (("latent_counts", len(match)), ("feature_counts", n_features), ("both_counts", len(match))):
            self.add_state(name, torch.zeros(size, dtype=torch.int64, device=match.device), dist_reduce_fx="sum")

    def update(self, code: Code, true_code: Code) -> None:
        """Add the latents of samples, and the true code of the same samples.

        Raises:
            ValueError: if the codes have different numbers of samples.
        """
        if code.batch_size != true_code.batch_size:
            raise ValueError(
                f"code has {code.batch_size} samples and true_code {true_code.batch_size}: expected the same samples"
            )
        true_code = true_code.where(true_code.values != 0)
        device = self.match.device
        feature_fires = torch.zeros(code.batch_size, len(self.feature_counts), dtype=torch.bool, device=device)
        feature_fires[true_code.rows.to(device), true_code.indices.to(device)] = True
        both = feature_fires[code.rows, self.match[code.indices]] & (code.values != 0)
        self.latent_counts = self.latent_counts + code.firing_counts()
        self.feature_counts = self.feature_counts + true_code.firing_counts().to(device)
        self.both_counts = self.both_counts + code.sum_by_latent(both.long())

    def compute(self) -> dict[str, Float[Tensor, " d_sae"]]:
        """Return the scores of every latent over all samples so far."""
        both, latent, feature = self.both_counts.double(), self.latent_counts, self.feature_counts[self.match]
        return {"precision": both / latent, "recall": both / feature, "f1": 2 * both / (latent + feature)}
