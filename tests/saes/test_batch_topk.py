import pytest
import torch

from sae_lightning.saes import BatchTopK

pytestmark = pytest.mark.usefixtures("plain_or_fast")


def test_threshold_is_unset_until_the_first_batch():
    sae = BatchTopK(4, d_sae=16, k=2)
    assert sae.threshold.isnan()
    with pytest.raises(ValueError, match="no threshold yet"):
        sae.eval()(torch.randn(3, 4))


def test_threshold_starts_at_the_first_smallest_latent_and_then_follows():
    sae = BatchTopK(4, d_sae=16, k=2, threshold_rate=0.25)
    smallest = []
    for _ in range(2):
        x = torch.randn(32, 4)
        smallest.append(sae.pre_acts(x).dense().flatten().topk(64).values.min())
        sae.losses(x, 0)
    torch.testing.assert_close(sae.threshold, 0.75 * smallest[0] + 0.25 * smallest[1])


def test_evaluation_does_not_depend_on_the_batch():
    sae = BatchTopK(4, d_sae=16, k=2)
    x = torch.randn(32, 4)
    sae.losses(x, 0)
    sae.eval()
    sae.threshold.mul_(0.999)  # off the value of the smallest, which rounds differently in other batches
    whole = sae.encode(x).to_dense()
    one_by_one = torch.cat([sae.encode(row[None]).to_dense() for row in x])
    assert torch.equal(whole != 0, one_by_one != 0)


def test_a_latent_at_the_threshold_is_not_active():
    sae = BatchTopK(4, d_sae=16, k=2).eval()
    with torch.no_grad():
        sae.W_enc.copy_(torch.randint(-4, 5, (4, 16)))  # whole numbers, which no product rounds
    x = torch.randint(-4, 5, (32, 4)).float()
    largest = sae.pre_acts(x).dense().max()
    sae.threshold.copy_(largest)
    assert sae.encode(x).nnz == 0
    sae.threshold.copy_(largest - 1)
    assert (sae.encode(x).values == largest).all()
    assert sae.encode(x).nnz > 0


def test_a_batch_without_positive_entries_leaves_the_threshold():
    sae = BatchTopK(4, d_sae=16, k=2)
    with torch.no_grad():
        sae.b_enc.fill_(-100.0)
    sae.losses(torch.randn(8, 4), 0)
    assert sae.threshold.isnan()


@pytest.mark.parametrize(
    ("arguments", "message"), [({"k": 17}, "k=17"), ({"k": 2, "threshold_rate": 0.0}, "threshold_rate=0.0")]
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        BatchTopK(4, d_sae=16, **arguments)
