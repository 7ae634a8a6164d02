"""Controls: what an SAE is compared with where nothing is trained by gradient, at its own l0."""

from sae_lightning.controls.base import Control, measured_l0
from sae_lightning.controls.cost import Cost
from sae_lightning.controls.linear import BestLinearMap, SkipPathAlone
from sae_lightning.controls.orthonormal import PrincipalComponents, RawDimensions
from sae_lightning.controls.permuted_decoder import PermutedDecoder
from sae_lightning.controls.random_decoder import RandomDecoder
from sae_lightning.controls.random_encoder import RandomEncoder
from sae_lightning.controls.rotated_decoder import RotatedDecoder


def default_controls() -> dict[str, Control]:
    """Return one control of an SAE of each kind by its name, in the order in which they are shown."""
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


def transcoder_controls() -> dict[str, Control]:
    """Return one control of a transcoder of each kind by its name, in the order in which they are shown.

    `skip_path_alone` is of transcoders with a skip path.
    """
    return {
        "best_linear_map": BestLinearMap("full"),
        "linear_map_of_rank_l0": BestLinearMap("l0"),
        "skip_path_alone": SkipPathAlone(),
        "random_encoder": RandomEncoder("isotropic"),
        "random_encoder_covariance": RandomEncoder("covariance"),
        "own_encoder_covariance": RandomEncoder("own_directions"),
        "random_decoder_regressed": RandomDecoder("covariance", "regressed"),
        "own_rows_regressed": RandomDecoder("own_rows", "regressed"),
        "permuted_decoder": PermutedDecoder(),
        "rotated_decoder": RotatedDecoder(),
        "target_pursuit": RandomDecoder("covariance", "target_pursuit"),
    }


__all__ = [
    "BestLinearMap",
    "Control",
    "Cost",
    "PermutedDecoder",
    "PrincipalComponents",
    "RandomDecoder",
    "RandomEncoder",
    "RawDimensions",
    "RotatedDecoder",
    "SkipPathAlone",
    "default_controls",
    "measured_l0",
    "transcoder_controls",
]
