"""How well a language model predicts tokens while its activations are edited, for `loss recovered`."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchmetrics import Metric

from sae_lightning.metrics import functional


class TokenLoss(Metric):
    """Next-token cross-entropy `ce`, and `kl` to the unedited model, in nats a token.

        ce = mean_t -log p(token_{t+1} | edited)        kl = mean_t sum_v p(v | edited) log (p(v | edited) / p(v |
        clean))

    `update` takes logits and clean logits [batch, seq, vocab], input_ids and the positions that count [batch, seq].
    Averaged over positions t for which both t and its target t + 1 count: the activation at t was edited, and the
    target is no special token. (Later positions of a text see earlier edited ones through attention, as they should.)
    Ranges [0, inf), lower is better; kl is 0 for the clean model. Nan without such a position. Direction of KL as in
    OrtSAE, arXiv 2509.22033, app. D.

    >>> metric = TokenLoss()
    >>> logits = torch.zeros(1, 3, 8)
    >>> metric.update(logits, logits, torch.tensor([[0, 1, 2]]), torch.tensor([[False, True, True]]))
    >>> {name: round(value.item(), 4) for name, value in metric.compute().items()}
    {'ce': 2.0794, 'kl': 0.0}
    """

    full_state_update = False
    higher_is_better = False
    cross_entropy: Tensor
    kl: Tensor
    n_tokens: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("cross_entropy", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("kl", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("n_tokens", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self,
        logits: Float[Tensor, "batch seq vocab"],
        clean_logits: Float[Tensor, "batch seq vocab"],
        input_ids: Int[Tensor, "batch seq"],
        counts: Bool[Tensor, "batch seq"],
    ) -> None:
        """Adds the predictions for a batch of texts."""
        cross_entropy, kl, n_tokens = functional.token_losses_update(logits, clean_logits, input_ids, counts)
        self.cross_entropy = self.cross_entropy + cross_entropy
        self.kl = self.kl + kl
        self.n_tokens = self.n_tokens + n_tokens

    def compute(self) -> dict[str, Float[Tensor, ""]]:
        """Both losses over all tokens so far."""
        return {"ce": self.cross_entropy / self.n_tokens, "kl": self.kl / self.n_tokens}
