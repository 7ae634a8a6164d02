import pytest
from saes.started import D_SAE, started
from training import VARIANTS

from sae_lightning.saes import SparseAutoencoder, Stitched, TopK


@pytest.fixture(params=[*VARIANTS, Stitched], ids=lambda variant: variant.__name__)
def sae(request) -> SparseAutoencoder:
    if request.param is not Stitched:
        return started(request.param).eval()
    return Stitched(started(TopK, k=4), started(TopK, k=8), range(D_SAE), [1, 2])
