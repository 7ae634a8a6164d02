"""What training asks of an SAE: the loss of a batch, which latents are dead, and what holds after each step.

    loss = mse of s x_hat (+ the terms of a variant) + aux_coefficient * AuxK

Here, too, nothing knows of Lightning: a fit calls this from `module.py`, a loop of one's own through `own_loop.py`.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.profiler import record_function

from sae_lightning.code import Code
from sae_lightning.distributed import all_reduce_sum
from sae_lightning.kernels import sparse_decode, sparse_encode
from sae_lightning.saes.aux_k import aux_k_loss, with_dead_latents
from sae_lightning.saes.crosscoder import norms_by_part
from sae_lightning.saes.decoder_norm import normalise_, remove_radial_
from sae_lightning.saes.encode_decode import EncodeDecode
from sae_lightning.saes.held_l0 import settle
from sae_lightning.saes.own_loop import StepGuard


class Losses(EncodeDecode):
    """The losses of an SAE; a variant says by `reconstruction_losses` and `extra_losses` which it has of its own."""

    columns: Mapping[str, slice]
    """Columns of each part of a crosscoder by name; empty of any other SAE."""
    unit_norm_decoder: bool
    aux_coefficient: float
    dead_after_samples: int
    samples_since_fired: Tensor
    step_guard: StepGuard

    def loss_terms_for(self, target: Tensor | None, x: Tensor, step: int) -> dict[str, Tensor]:
        """Call `loss_terms`, without a target where there is none: a user's variant may know of no such thing."""
        return self.loss_terms(x, step) if target is None else self.loss_terms(x, step, target)

    def loss_terms(
        self, x: Float[Tensor, "batch d_in"], step: int, target: Float[Tensor, "batch d_out"] | None = None
    ) -> dict[str, Tensor]:
        """Return what `losses` returns, of activations that have been checked."""
        with torch.no_grad():
            inputs, _ = self._inputs(x)
            target = inputs if target is None else target.to(self.b_dec.dtype) * self.target_scale
            pre_acts = self._pre_acts(inputs)
            centred = pre_acts.x
            with record_function("sae::select"):
                chosen = self.select(pre_acts)
        b_dec = self.mesh.shared(self.b_dec) if self.apply_b_dec_to_input else None
        W_enc: Tensor = self.W_enc
        W_dec: Tensor = self.W_dec
        dead = None
        if self.aux_coefficient:
            W_enc, W_dec, dead = with_dead_latents(self.dead, W_enc, self.b_enc, W_dec, self.mesh)
        values = sparse_encode(centred, W_enc, self.b_enc, b_dec, chosen)
        code = chosen.with_values(self.activate(values, chosen))
        if self.W_skip is not None:  # latents are to reconstruct what it leaves
            target = target - self._skipped(inputs, self.W_skip)
        with record_function("sae::decode"):
            x_hat, losses = self.reconstruction_losses(code, target, W_dec)
        target = target.detach()
        losses.update(self.extra_losses(code, values, target, step))
        if "penalty" in losses:
            losses["loss"] = losses["loss"] + losses["penalty"]
        if dead is not None:
            losses["aux"] = aux_k_loss(centred, target - x_hat.detach(), dead, b_dec, self.mesh)
            losses["loss"] = losses["loss"] + self.aux_coefficient * losses["aux"]
        losses["l0"] = self._count_firings(code)
        return losses

    def reconstruction_losses(
        self, code: Code, target: Float[Tensor, "batch d_out"], W_dec: Float[Tensor, "d_sae d_out"]
    ) -> tuple[Float[Tensor, "batch d_out"], dict[str, Tensor]]:
        """Return the reconstruction of the scaled target, and its losses: `mse`, and `loss`, by default the same.

        Args:
            code: latents.
            target: [batch, d_out] the scaled target, by default the scaled input.
            W_dec: the decoder, whose gradient that of AuxK joins.
        """
        x_hat = sparse_decode(code.values, code, W_dec, self.b_dec, self.mesh)
        mse = squared_error(x_hat, target)
        return x_hat, {"loss": mse, "mse": mse}

    def weighted_by_norms(self, values: Float[Tensor, " nnz"], code: Code) -> Float[Tensor, " nnz"]:
        """Return latents as a penalty counts them: times the norms of their directions, unless these are 1.

        Those of a crosscoder count by the sum of the norms over parts.
        """
        if len(self.columns) > 1:
            return values * code.of_latents(norms_by_part(self.W_dec, self.columns).sum(0))
        if self.unit_norm_decoder:
            return values
        return values * code.of_latents(torch.linalg.vector_norm(self.W_dec, dim=1))

    def extra_losses(
        self, code: Code, values: Float[Tensor, " nnz"], target: Float[Tensor, "batch d_out"], step: int
    ) -> dict[str, Tensor]:
        """Return the loss terms of a variant: `penalty`, already weighted, is added to the loss, others are logged.

        Args:
            code: latents.
            values: [nnz] the pre-activations that they come from.
            target: [batch, d_out] what the latents are to reconstruct, scaled: of an SAE the input.
            step: number of optimizer steps so far.
        """
        return {}

    @torch.no_grad()
    def _count_firings(self, code: Code) -> Tensor:
        """Update `samples_since_fired` over the ranks of a batch, and return the mean l0 of this rank's samples."""
        # One reduction for both: the counts, and after them the number of samples.
        counts = F.pad(code.firing_counts(), (0, 1), value=code.batch_size)
        l0 = self.mesh.sum(counts[:-1].sum()) / code.batch_size
        fired, n_samples = all_reduce_sum(counts).tensor_split([code.d_sae])
        self.samples_since_fired.add_(n_samples).masked_fill_(fired > 0, 0)
        return l0

    @torch.no_grad()
    def batch_explained_variance(
        self, x: Float[Tensor, "batch d_in"], mse: Float[Tensor, ""], target: Float[Tensor, "batch d_out"] | None = None
    ) -> Float[Tensor, ""]:
        """Return 1 - mse over the variance of this batch alone; what is measured is that of held-out data.

        Args:
            x: raw activations that have been checked.
            mse: their squared error, in the scale of the loss.
            target: what a transcoder is to answer with to these.
        """
        scaled = self._inputs(x)[0] if target is None else target.to(self.b_dec.dtype) * self.target_scale
        return 1 - mse / (scaled - scaled.mean(0)).square().sum(1).mean()

    @property
    def dead_fraction(self) -> Float[Tensor, ""]:
        """Share of latents that are dead, of those of all ranks."""
        return self.mesh.sum(self.dead.sum()) / self.d_sae

    @property
    def dead(self) -> Bool[Tensor, " d_sae"]:
        """Which latents have not fired for `dead_after_samples` samples of training; those of this rank."""
        return self.samples_since_fired >= self.dead_after_samples

    @torch.no_grad()
    def project_decoder_gradient(self) -> None:
        """Remove the part of each decoder direction's gradient that would only change its norm, before a step."""
        if self.W_dec.grad is not None and self.unit_norm_decoder:
            remove_radial_(self.W_dec.grad, self.W_dec)

    @torch.no_grad()
    def constrain(self) -> None:
        """Give each decoder direction unit norm, after every optimizer step; a frozen decoder keeps its bits."""
        if self.W_dec.requires_grad and self.unit_norm_decoder:
            normalise_(self.W_dec)
        self.step_guard.is_constrained = True

    @property
    def held_l0(self) -> float | None:
        """The l0 to which thresholds are settled after the last step of a fit; None where that is not asked."""
        return None

    def raise_thresholds_(self, amount: float) -> None:
        """Let a latent be active only where its pre-activation is higher by this amount, or lower if negative.

        Raises:
            NotImplementedError: of a variant without thresholds that could be moved.
        """
        raise NotImplementedError(f"{type(self).__name__} has no thresholds to settle")

    @torch.no_grad()
    def settle(self, x: Float[Tensor, "batch d_in"]) -> None:
        """Bring l0 to where it is held, on raw activations, by moving all thresholds; nothing where none is held."""
        if self.held_l0 is None:
            return
        was_training = self.training
        self.eval()
        settle(self, x, self.held_l0)
        self.train(was_training)


def squared_error(x_hat: Float[Tensor, "batch d_out"], target: Float[Tensor, "batch d_out"]) -> Float[Tensor, ""]:
    """Return the squared error summed over dimensions and averaged over samples."""
    return F.mse_loss(x_hat, target, reduction="sum") / len(target)
