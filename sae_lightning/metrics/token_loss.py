"""Losses of a language model whose activations are edited, for `loss recovered`."""

from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from sae_lightning.distributed import group_of
from sae_lightning.metrics import functional


class TokenLoss(Metric):
    """Next-token cross-entropy `ce`, and `kl` to the unedited model, in nats per token.

        ce = mean_t -log p(token_{t+1} | edited)
        kl = mean_t sum_v p(v | edited) log (p(v | edited) / p(v | clean))

    `update` takes logits and clean logits [batch, seq, vocab], input_ids and the valid positions [batch, seq].
    The means are over positions t for which both t and its target t + 1 are valid: the activation at t was edited, and
    the target is no special token. (Later positions of a text see earlier edited ones through attention, as they
    should.) Ranges [0, inf), lower is better; kl is 0 for the clean model. Nan without such a position. The direction
    of KL is that of OrtSAE, arXiv 2509.22033, app. D.

    >>> import torch
    >>> metric = TokenLoss()
    >>> logits = torch.zeros(1, 3, 8)
    >>> metric.update(logits, logits, torch.tensor([[0, 1, 2]]), torch.tensor([[False, True, True]]))
    >>> values = metric.compute()
    >>> round(values["ce"].item(), 4), values["kl"].item(), values["texts"].shape
    (2.0794, 0.0, torch.Size([1, 3]))
    """

    full_state_update = False
    higher_is_better = False
    texts: list[Tensor] | Tensor

    def __init__(self) -> None:
        super().__init__(process_group=group_of())
        self.add_state("texts", [], dist_reduce_fx="cat")

    def update(
        self,
        logits: Float[Tensor, "batch seq vocab"],
        clean_logits: Float[Tensor, "batch seq vocab"],
        input_ids: Int[Tensor, "batch seq"],
        valid: Bool[Tensor, "batch seq"],
    ) -> None:
        """Add the predictions for a batch of texts."""
        assert isinstance(self.texts, list)
        self.texts.append(functional.token_losses_update(logits, clean_logits, input_ids, valid))

    def compute(self) -> dict[str, Tensor]:
        """Return both losses over all tokens so far, and `texts` [n_texts, 3]: their sums and number of tokens."""
        texts = dim_zero_cat(self.texts)
        cross_entropy, kl, n_tokens = texts.sum(0)
        return {"ce": cross_entropy / n_tokens, "kl": kl / n_tokens, "texts": texts}
