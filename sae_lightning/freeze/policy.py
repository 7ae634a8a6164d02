"""`FreezePolicy`: what part of an SAE stays at, or near, its random start. One callback family for every variant.

A policy acts at two moments: before the optimizer is built it takes the gradient from what is frozen (no work is spent
there), and after each optimizer step it may project. The baselines are those of Korznikov et al. 2026, arXiv
2602.14111, who leave open what happens beside the frozen matrix. Here, for every policy:

- biases and thresholds are trained, and the skip path of a transcoder is, so that every baseline has the linear map
  that it can learn and what is compared is what the latents add;
- rows of `W_dec` have unit norm from the start, so freezing them needs no norm constraint; a trained or softly frozen
  row is normalised after each step first, and projected last;
- the start that a soft freeze refers to is the buffer `W_dec_start` of the SAE, of a transcoder's encoder
  `W_enc_start`, which every checkpoint holds.

A transcoder has directions in two spaces. What is frozen is random in its own: a decoder has the covariance of what is
answered, an encoder that of what is read. Of an encoder that the paper draws isotropic this departs: where few
dimensions have most of the variance isotropic directions read little of it, and a baseline is to be as good as chance
can make it. A crosscoder has one space, that of its scaled parts side by side, and frozen directions have the
covariance there: in each part that of the part, and between parts what a linear map knows of one from the other.
"""

import copy
from typing import Any, ClassVar

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from sae_lightning.members import TRAINED, Member
from sae_lightning.provenance import describe
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.init import CovarianceMatched, DecoderInit
from sae_lightning.saes.module import SAEModule


class FreezePolicy(Callback):
    """A policy, bound to one member of a training module; unbound it belongs to a lone SAE."""

    name: ClassVar[str]
    """Name of the member in metrics and tables."""

    def __init__(self) -> None:
        self.member: Member | None = None

    def bind(self, member: Member) -> "FreezePolicy":
        """Return a copy for one member of a panel."""
        bound = copy.copy(self)
        bound.member = member
        return bound

    def hold(self, sae: SparseAutoencoder) -> None:
        """Bind the policy to an SAE that is trained in a loop of one's own, before its optimizer is made.

        `SparseAutoencoder.step` then projects after each step; in a fit the policy is a callback instead.

        Args:
            sae: a lone one.
        """
        sae.policy_name, sae.freeze_policy = self.name, describe(self)
        self.freeze(sae)
        sae.after_constraint = self.project

    def default_init(self, of_several_hooks: bool = False) -> DecoderInit | None:
        """Return the start that the paper gives this baseline in a panel; None for that of the trained SAE.

        Args:
            of_several_hooks: whether it is a baseline of transcoders or crosscoders, which the paper leaves open.
        """
        return None

    def freeze(self, sae: SparseAutoencoder) -> None:
        """Take the gradient from what is frozen."""

    def project(self, sae: SparseAutoencoder) -> None:
        """Move the SAE back to where the policy allows it to be."""

    @property
    def state_key(self) -> str:
        """Key of its state in a checkpoint, distinct for each member."""
        return f"{type(self).__name__}[{self.member}]"

    def _sae(self, pl_module: LightningModule) -> SparseAutoencoder:
        if not isinstance(pl_module, SAEModule):
            raise ValueError(f"{type(self).__name__}: expected an SAE or a SanityPanel, got {type(pl_module).__name__}")
        if self.member is not None:
            return pl_module.all_members[self.member]
        if not isinstance(pl_module, SparseAutoencoder):
            raise ValueError(
                f"{type(self).__name__} is for a lone SAE; a {type(pl_module).__name__} has policies of its own"
            )
        return pl_module

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Name and freeze the SAE; Lightning builds the optimizer after this."""
        sae = self._sae(pl_module)
        if self.member is None:
            sae.policy_name = self.name
        sae.freeze_policy, sae.after_constraint = describe(self), None
        self.freeze(sae)

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:  # noqa: ANN401
        """Project after each optimizer step, where the SAE lives."""
        sae = self._sae(pl_module)
        if not sae.W_dec.is_meta:
            self.project(sae)


def check_unit_norm(what: str, sae: SparseAutoencoder) -> None:
    """Check that decoder directions are kept at unit norm.

    Args:
        what: what a policy does with unit vectors, for the message.
        sae: which the policy is given.

    Raises:
        ValueError: if they are not.
    """
    if not sae.unit_norm_decoder:
        raise ValueError(
            f"{what}, and this SAE has unit_norm_decoder=false: train it with unit_norm_decoder=true, or take another "
            "policy"
        )


class NoFreeze(FreezePolicy):
    """Everything is trained."""

    name = TRAINED


class FrozenDecoder(FreezePolicy):
    """`W_dec` stays at its start; encoder, biases and thresholds are trained.

    In a panel that start is covariance-matched unless `inits` says otherwise; a lone SAE has the start of its `init`.

    Args:
        part: of a crosscoder, the one part whose decoder is frozen; its share of each row's norm is that of the start,
            too, and the rest of the row is trained at the norm that is left. Default: none, the whole decoder.
    """

    name = "frozen_decoder"

    def __init__(self, part: str | None = None) -> None:
        super().__init__()
        self.part = part

    def default_init(self, of_several_hooks: bool = False) -> DecoderInit | None:
        """Return the covariance-matched start."""
        return CovarianceMatched()

    def freeze(self, sae: SparseAutoencoder) -> None:
        """Take the gradient from `W_dec`; where one part is frozen `project` does it.

        Raises:
            ValueError: if there is no such part, or directions have no unit norm.
        """
        if self.part is None:
            sae.W_dec.requires_grad_(False)
        elif self.part not in sae.columns or len(sae.columns) == 1:
            raise ValueError(
                f"FrozenDecoder.part={self.part}: expected one of several parts of a crosscoder, "
                f"{', '.join(sae.columns) or 'and this is none'}"
            )
        else:
            check_unit_norm(f"FrozenDecoder.part={self.part} shares out the norm of unit vectors", sae)

    @torch.no_grad()
    def project(self, sae: SparseAutoencoder) -> None:
        """Give one part of each row its start again, and the rest of the row the norm that is left."""
        if self.part is None:
            return
        own = sae.columns[self.part]
        sae.W_dec[:, own] = 0
        kept = sae.W_dec_start[:, own]
        left = (1 - kept.square().sum(1, keepdim=True)).clamp_min(0).sqrt()
        sae.W_dec.mul_(left / torch.linalg.vector_norm(sae.W_dec, dim=1, keepdim=True).clamp_min(1e-12))
        sae.W_dec[:, own] = kept


class FrozenEncoder(FreezePolicy):
    """`W_enc` stays at its start; decoder, biases and thresholds are trained.

    In a panel of transcoders or crosscoders that start has the covariance of what is read unless `inits` says
    otherwise.
    """

    name = "frozen_encoder"

    def default_init(self, of_several_hooks: bool = False) -> DecoderInit | None:
        """Return the covariance-matched start of a transcoder or crosscoder."""
        return CovarianceMatched() if of_several_hooks else None

    def freeze(self, sae: SparseAutoencoder) -> None:
        """Take the gradient from `W_enc`."""
        sae.W_enc.requires_grad_(False)


class Untrained(FreezePolicy):
    """`W_enc` and `W_dec` stay at their start: biases and thresholds alone are trained, which settles l0."""

    name = "untrained"

    def freeze(self, sae: SparseAutoencoder) -> None:
        """Take the gradient from both."""
        sae.W_enc.requires_grad_(False)
        sae.W_dec.requires_grad_(False)
