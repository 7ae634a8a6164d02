"""What a transcoder is compared with that has no latents at all: linear maps from source to target."""

from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sae_lightning.controls.base import Control, assign
from sae_lightning.controls.cost import Cost
from sae_lightning.metrics.linear_map import LinearMap, fit_linear_maps
from sae_lightning.saes import CovarianceMatched, ReLU, SparseAutoencoder
from sae_lightning.saes.bias_init import Zero


class WithoutLatents(Control):
    """A linear map and a constant, as a transcoder with a skip path whose one latent never fires."""

    is_random: ClassVar[bool] = False
    of_saes = False
    of_transcoders = True
    has_latents: ClassVar[bool] = False

    def new(self, sae: SparseAutoencoder) -> SparseAutoencoder:
        """Return a transcoder of one latent with a skip path."""
        own = ReLU(
            sae.d_in,
            d_sae=1,
            d_out=sae.d_out,
            skip=True,
            unit_norm_decoder=False,
            init=CovarianceMatched(),
            b_dec_init=Zero(),
        )
        return own.requires_grad_(False).eval()

    @abstractmethod
    def linear_map(self, sae: SparseAutoencoder, x: Tensor, y: Tensor, l0: float) -> LinearMap:
        """Return the map [d_in, d_out] with its constant."""

    def _fill(
        self,
        own: SparseAutoencoder,
        sae: SparseAutoencoder,
        x: Tensor,
        y: Tensor,
        l0: float,
        generator: torch.Generator,
    ) -> None:
        linear = self.linear_map(sae, x, y, l0)
        nothing = {name: torch.zeros_like(getattr(own, name)) for name in ("W_enc", "b_enc", "W_dec")}
        assign(own, W_skip=linear.weights, b_dec=linear.intercept, **nothing)

    def cost(self, sae: SparseAutoencoder, n_samples: int, n_held_out: int, l0: float) -> Cost:
        """Return the cost of the normal equations, their eigenvectors and the products."""
        products = 2.0 * (n_samples + n_held_out) * sae.d_in * (sae.d_in + sae.d_out)
        return Cost(2 * products + 20.0 * sae.d_in**3, memory=16.0 * n_samples * (sae.d_in + sae.d_out))


class BestLinearMap(WithoutLatents):
    """The best linear map from source to target, by ridge regression.

    Args:
        rank: full, which is what a skip path alone can reach; or l0, of as many directions as the transcoder has active
            latents.
    """

    def __init__(self, rank: Literal["full", "l0"] = "full") -> None:
        if rank not in ("full", "l0"):
            raise ValueError(f"rank={rank!r}: expected full or l0")
        self.rank: Literal["full", "l0"] = rank
        of_rank = "" if rank == "full" else " of as many directions as latents are active"
        self.controls_for = f"what a linear map{of_rank} makes of the source"

    def linear_map(self, sae: SparseAutoencoder, x: Tensor, y: Tensor, l0: float) -> LinearMap:
        """Fit the map."""
        [linear] = fit_linear_maps(x, y, (None if self.rank == "full" else max(1, round(l0)),))
        return linear


class SkipPathAlone(WithoutLatents):
    """The transcoder's own skip path with the constant that suits it best, without its latents."""

    controls_for = "what its own skip path makes of the source"

    def check_kind(self, sae: SparseAutoencoder) -> None:
        """Check that there is a skip path.

        Raises:
            ValueError: if there is none.
        """
        super().check_kind(sae)
        if sae.W_skip is None:
            raise ValueError("SkipPathAlone is a control of transcoders with a skip path, and this has none")

    def linear_map(self, sae: SparseAutoencoder, x: Tensor, y: Tensor, l0: float) -> LinearMap:
        """Return the skip path in the units of the activations, and the mean of what it leaves."""
        assert sae.W_skip is not None
        weights = (sae.W_skip.detach() * sae.input_scale / sae.target_scale).to(x)
        return LinearMap(weights, (y - x @ weights).mean(0))
