import pytest
import torch
import torch.nn.functional as F

from sae_lightning.metrics import TokenLoss
from sae_lightning.metrics.functional import recovered_compute


def example(batch=3, seq=6, vocab=11, seed=0):
    random = torch.Generator().manual_seed(seed)
    logits, clean = torch.randn(2, batch, seq, vocab, generator=random)
    input_ids = torch.randint(vocab, (batch, seq), generator=random)
    counts = torch.rand(batch, seq, generator=random) > 0.3
    return logits, clean, input_ids, counts


def test_losses_equal_torchs_over_positions_that_count_with_their_target():
    logits, clean, input_ids, counts = example()
    losses, divergences = [], []
    for b in range(3):
        for t in range(5):
            if counts[b, t] and counts[b, t + 1]:
                losses.append(F.cross_entropy(logits[b, t], input_ids[b, t + 1]))
                divergences.append(F.kl_div(clean[b, t].log_softmax(0), logits[b, t].softmax(0), reduction="sum"))
    metric = TokenLoss()
    metric.update(logits, clean, input_ids, counts)
    values = metric.compute()
    assert values["ce"].item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-6)
    assert values["kl"].item() == pytest.approx(torch.stack(divergences).mean().item(), rel=1e-6)


def test_the_clean_model_has_no_divergence_and_uniform_logits_cost_log_vocab():
    _, _, input_ids, counts = example()
    metric = TokenLoss()
    metric.update(torch.zeros(3, 6, 11), torch.zeros(3, 6, 11), input_ids, counts)
    assert metric.compute()["kl"] == 0
    assert metric.compute()["ce"].item() == pytest.approx(torch.tensor(11.0).log().item(), rel=1e-6)


def test_losses_do_not_depend_on_batching_or_ranks():
    whole, parts = TokenLoss(), [TokenLoss(), TokenLoss()]
    whole.update(*example())
    for metric, part in zip(parts, zip(*(t.split([1, 2]) for t in example()), strict=True), strict=True):
        metric.update(*part)
    parts[0].merge_state(parts[1])
    for name in ("ce", "kl"):
        assert parts[0].compute()[name].item() == pytest.approx(whole.compute()[name].item(), rel=1e-12)


def test_no_position_that_counts_gives_nan():
    logits, clean, input_ids, counts = example()
    metric = TokenLoss()
    metric.update(logits, clean, input_ids, torch.zeros_like(counts))
    assert metric.compute()["ce"].isnan()


def test_recovered_is_one_for_the_clean_loss_zero_for_the_ablation_and_not_clamped():
    clean, ablated = torch.tensor(2.0), torch.tensor(6.0)
    assert recovered_compute(clean, ablated, clean, 0.05) == 1
    assert recovered_compute(ablated, ablated, clean, 0.05) == 0
    assert recovered_compute(torch.tensor(8.0), ablated, clean, 0.05) == -0.5


@pytest.mark.parametrize("ablated", [2.04, 1.0, torch.nan])
def test_recovered_is_withheld_below_the_gap(ablated):
    assert recovered_compute(torch.tensor(2.0), torch.tensor(ablated), torch.tensor(2.0), 0.05).isnan()
