"""Controls: what an SAE is compared with where nothing is trained by gradient, at its own l0."""

from sae_lightning.controls.base import Control, measured_l0
from sae_lightning.controls.cost import Cost
from sae_lightning.controls.orthonormal import PrincipalComponents, RawDimensions
from sae_lightning.controls.permuted_decoder import PermutedDecoder
from sae_lightning.controls.random_decoder import RandomDecoder
from sae_lightning.controls.random_encoder import RandomEncoder


def default_controls() -> dict[str, Control]:
    """Return one control of each kind by its name, in the order in which they are shown."""
    return {
        "random_encoder": RandomEncoder("isotropic"),
        "random_encoder_covariance": RandomEncoder("covariance"),
        "random_decoder_pursuit": RandomDecoder("covariance", "pursuit"),
        "random_decoder_tied": RandomDecoder("covariance", "tied"),
        "own_rows_pursuit": RandomDecoder("own_rows", "pursuit"),
        "own_rows_tied": RandomDecoder("own_rows", "tied"),
        "permuted_decoder": PermutedDecoder(),
        "principal_components": PrincipalComponents(),
        "raw_dimensions": RawDimensions(),
    }


__all__ = [
    "Control",
    "Cost",
    "PermutedDecoder",
    "PrincipalComponents",
    "RandomDecoder",
    "RandomEncoder",
    "RawDimensions",
    "default_controls",
    "measured_l0",
]
