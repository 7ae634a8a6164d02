import pytest
import torch

from sae_lightning.saes import SparseAutoencoder, TopK
from sae_lightning.saes.fingerprint import _CHUNK, fingerprint
from sae_lightning.saes.saving import fingerprint_of_saved, tensors_to_save


def test_an_sae_has_the_fingerprint_of_its_export(tmp_path):
    sae = TopK(d_in=4, k=2, d_sae=8, scale_input=True)
    sae.initialise(3, 5 * torch.randn(4096, 4, generator=torch.Generator().manual_seed(0)))
    assert float(sae.input_scale) != 1
    sae.save(tmp_path)
    own = fingerprint(tensors_to_save(sae))
    assert own == fingerprint_of_saved(tmp_path) == fingerprint(tensors_to_save(SparseAutoencoder.load(tmp_path)))
    with torch.no_grad():
        sae.b_enc[5] += 1e-7
    assert fingerprint(tensors_to_save(sae)) != own


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_one_element_anywhere_changes_it(dtype: torch.dtype):
    tensor = torch.zeros(2, _CHUNK // 2 + 5).to(dtype)
    before = fingerprint({"W": tensor})
    assert before == fingerprint({"W": tensor.clone()})
    for place in (0, 7, _CHUNK - 1, _CHUNK, tensor.numel() - 1):
        tensor.view(-1)[place] = 1
        assert fingerprint({"W": tensor}) != before
        tensor.view(-1)[place] = 0
    assert fingerprint({"W": tensor}) == before


def test_names_places_shapes_and_dtypes_count():
    rows = torch.arange(6.0).view(2, 3)
    others = [
        {"V": rows},
        {"W": rows.flip(0)},
        {"W": rows.view(3, 2)},
        {"W": rows.double()},
        {"W": rows, "b": torch.zeros(0)},
    ]
    prints = {fingerprint(tensors) for tensors in ({"W": rows}, *others)}
    assert len(prints) == 6
    assert fingerprint({"W": rows.T}) == fingerprint({"W": rows.T.contiguous()})
    assert fingerprint({"s": torch.tensor(1.0)}) != fingerprint({"s": torch.tensor(2.0)}), "of no dimension"
