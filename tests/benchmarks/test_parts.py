"""Alternatives that the machine cannot run are left out, and the others compute the same."""

import pytest
import torch

from benchmarks import parts


def test_products_that_the_machine_cannot_pack_are_left_out(monkeypatch, capsys):
    monkeypatch.setattr(parts, "can_pack", lambda dtype: False)
    products = parts.products(20, 32)
    assert "addmm" in products
    assert not [name for name in products if "(ours" in name]
    assert "oneDNN does not pack torch.bfloat16 weights on this machine" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (torch.float32, "oneDNN, encoder in its layout (ours)"),
        (torch.bfloat16, "the same in bfloat16 (ours, as a screen)"),
    ],
)
def test_products_agree(dtype, name):
    if not parts.can_pack(dtype):
        pytest.skip(f"oneDNN does not pack {dtype} weights on this machine")
    products = parts.products(20, 32)
    expected = products["addmm"][0]()
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(products[name][0]().float(), expected, rtol=tolerance, atol=tolerance)
