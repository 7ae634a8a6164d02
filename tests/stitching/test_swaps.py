import torch

from sae_lightning.stitching.swaps import components


def chain():
    """Large 1 is near small 0 and 1, large 2 is small 1, large 0 small 2; small 3 and large 3 have nobody."""
    axes = torch.eye(6)
    small = torch.stack([axes[0], axes[1], axes[2], axes[3]])
    large = torch.stack([2 * axes[2], axes[0] + axes[1], axes[1], axes[5]])
    return small, large


def test_components_go_through_shared_latents():
    of_small, of_large = components(*chain(), 0.7)
    assert of_small.tolist() == [0, 0, 1, -1]
    assert of_large.tolist() == [1, 0, 0, -1]


def test_they_do_not_depend_on_the_order_of_the_latents():
    generator = torch.Generator().manual_seed(0)
    small, large = torch.randn(30, 5, generator=generator), torch.randn(50, 5, generator=generator)

    def together(of_small, of_large):
        labels = torch.cat([of_small, of_large])
        return (labels[:, None] == labels) & (labels >= 0)[:, None]

    expected = together(*components(small, large, 0.85))
    assert 30 < int(expected.sum()) < expected.numel() // 4
    orders = torch.randperm(30, generator=generator), torch.randperm(50, generator=generator)
    found = together(*components(small[orders[0]], large[orders[1]], 0.85))
    order = torch.cat([orders[0], 30 + orders[1]])
    assert torch.equal(found, expected[order][:, order])


def test_nothing_is_above_a_cosine_of_one():
    small, large = chain()
    for labels in components(small, torch.cat([large, torch.randn(20, 6), small]), 1.0):
        assert (labels == -1).all()
