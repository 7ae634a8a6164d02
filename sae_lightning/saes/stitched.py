"""A stitched SAE: latents of a small SAE, and beside them latents of a large SAE of the same activations.

    latents = (kept latents of the small SAE, inserted latents of the large SAE)
    x_hat   = latents W_dec + b_dec of the small SAE                  (Leask et al. 2025, arXiv 2502.04878)

Each latent is active exactly where it is in its own SAE. In TopK that depends on all latents of that SAE, also on those
that are left out; so both SAEs are held whole, whatever their variants.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sae_lightning.code import Code
from sae_lightning.kernels import PreActs
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.bias_init import Zero
from sae_lightning.saes.gated import Gated
from sae_lightning.saes.transcoder import refuse_several_hooks

_NOT_TRAINED = "a Stitched SAE is put together by `sae stitch --save` and not trained: take another variant"


class Stitched(SparseAutoencoder):
    """Latents of two SAEs; made by `sae stitch --save`, and not trained.

    Args:
        small: an SAE, whose `b_dec` this one has.
        large: an SAE of activations of the same width.
        kept: latents of the small SAE, each once.
        inserted: latents of the large SAE, each once; they follow the kept ones.

    Raises:
        ValueError: if the SAEs differ in d_in, or one normalises each activation.
    """

    def __init__(
        self, small: SparseAutoencoder, large: SparseAutoencoder, kept: Sequence[int], inserted: Sequence[int]
    ) -> None:
        if small.d_in != large.d_in:
            raise ValueError(
                f"small has d_in={small.d_in} and large d_in={large.d_in}: expected SAEs of the same activations"
            )
        refuse_several_hooks([small, large], "a Stitched SAE")
        refuse_input_norm(small, "small")
        refuse_input_norm(large, "large")
        super().__init__(
            small.d_in,
            d_sae=len(kept) + len(inserted),
            b_dec_init=Zero(),
            apply_b_dec_to_input=False,
            unit_norm_decoder=small.unit_norm_decoder and large.unit_norm_decoder,
            seed=small.seed,
        )
        self.policy_name, self.kept, self.inserted = "stitched", list(kept), list(inserted)
        self.small, self.large = _in_raw_units(small), _in_raw_units(large)
        self._join()
        self.to(small.W_dec.device).eval()

    @torch.no_grad()
    def _join(self) -> None:
        """Copy the directions and biases of the chosen latents from both SAEs."""
        parts = [(self.small, self.kept), (self.large, self.inserted)]
        self.W_enc.copy_(torch.cat([sae.W_enc[:, chosen] for sae, chosen in parts], 1))
        self.b_enc.copy_(torch.cat([_without_b_dec(sae)[chosen] for sae, chosen in parts]))
        for name in ("W_dec", "W_dec_start"):
            getattr(self, name).copy_(torch.cat([getattr(sae, name)[chosen] for sae, chosen in parts]))
        self.b_dec.copy_(self.small.b_dec)
        dead = torch.cat([sae.dead[chosen] for sae, chosen in parts])
        self.samples_since_fired.copy_(dead * self.dead_after_samples)

    def select(self, pre_acts: PreActs) -> Code:
        """Return the latents of both SAEs for the same activations, those that are left out removed."""
        rows, indices, values, first = [], [], [], 0
        for sae, chosen in ((self.small, self.kept), (self.large, self.inserted)):
            code = sae.encode(pre_acts.x)
            place = torch.full((sae.d_sae,), -1, device=pre_acts.device)  # of each latent of this SAE; -1: left out
            place[chosen] = first + torch.arange(len(chosen), device=pre_acts.device)
            code = code.where(place[code.indices] >= 0)
            rows.append(code.rows)
            indices.append(place[code.indices])
            values.append(code.values)
            first += len(chosen)
        in_order = torch.cat(rows).argsort(stable=True)
        return Code.from_entries(
            torch.cat(values)[in_order],
            torch.cat(rows)[in_order],
            torch.cat(indices)[in_order],
            pre_acts.batch_size,
            self.d_sae,
        )

    def encode(self, x: Tensor, gradient: bool = False) -> Code:
        """Return the latents of raw activations, see `SparseAutoencoder.encode`.

        Raises:
            ValueError: with a gradient, if the latents of one SAE are not its pre-activations.
        """
        for name, sae in self.parts.items():
            if gradient and isinstance(sae, Gated):
                raise ValueError(
                    f"{name} is a Gated SAE, whose gradients a stitched one does not have: use it by itself"
                )
        return super().encode(x, gradient)

    def setup(self, stage: str) -> None:
        """Refuse to be trained, before any data are read.

        Raises:
            ValueError: in `sae fit`.
        """
        if stage == "fit":
            raise ValueError(_NOT_TRAINED)
        super().setup(stage)

    def losses(self, x: Tensor, step: int, target: Tensor | None = None) -> dict[str, Tensor]:
        """Refuse to be trained: two SAEs that have been trained decide which latents are active.

        Raises:
            ValueError: always.
        """
        raise ValueError(_NOT_TRAINED)

    def settings(self) -> dict[str, Any]:
        """Return class and settings of both SAEs, and which of their latents this one has."""
        parts = {name: {"class": type(sae).__name__, "settings": sae.settings()} for name, sae in self.parts.items()}
        return {**parts, "kept": self.kept, "inserted": self.inserted}

    @property
    def parts(self) -> dict[str, SparseAutoencoder]:
        """Both SAEs, by the names of the arguments."""
        return {"small": self.small, "large": self.large}


def refuse_input_norm(sae: SparseAutoencoder, name: str) -> None:
    """Refuse an SAE that normalises each activation, whose latents do not add up with those of another.

    Raises:
        ValueError: if it has an `input_norm`.
    """
    if sae.input_norm is not None:
        raise ValueError(
            f"{name} has input_norm={sae.input_norm}: its latents add to an activation in units that differ from one "
            "activation to the next, so they cannot stand beside those of another SAE; expected SAEs without it"
        )


def _without_b_dec(sae: SparseAutoencoder) -> Tensor:
    """Return the encoder bias of the same SAE without subtracting `b_dec` from the activations."""
    return sae.b_enc - sae.b_dec @ sae.W_enc if sae.apply_b_dec_to_input else sae.b_enc


@torch.no_grad()
def _in_raw_units(sae: SparseAutoencoder) -> SparseAutoencoder:
    """Return a copy with the scale folded in, as `save` does."""
    sae = copy.deepcopy(sae).eval()
    for name in sae.in_scaled_units:
        getattr(sae, name).div_(sae.input_scale)
    sae.input_scale.fill_(1.0)
    return sae
