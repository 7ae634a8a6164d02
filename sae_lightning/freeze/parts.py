"""Baselines of crosscoders, about what their parts have to do with each other.

Published work has no random baselines of crosscoders; these are ours. Beside FrozenDecoder, for all parts or one:

- `TiedAtRandom` asks whether it matters which directions belong to one latent. Its decoder has the directions that the
  trained crosscoder learned, in every part, and a random permutation decides which of one part is tied to which of
  another. If latents of the parts had nothing to do with each other, as good a code would fit them.
- `SeparateParts` asks whether sharing a code is worth anything. Each latent reads and writes one part alone: as many
  SAEs as there are parts, which have the latents and the active latents of the crosscoder between them. With BatchTopK
  they also share its budget, so that k need not be divided by hand.
"""

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from sae_lightning.distributed import Ranks, world_size
from sae_lightning.freeze.policy import FreezePolicy, check_unit_norm
from sae_lightning.members import TRAINED, Member
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.decoder_norm import normalise_
from sae_lightning.saes.module import SAEModule


class TiedAtRandom(FreezePolicy):
    """Decoder directions are those of the trained crosscoder of the same seed, tied across parts at random.

    After each step latent i takes the direction of latent i in the first part and in every other part that of a latent
    that a permutation names; the row then gets unit norm. The permutations are drawn once, from the seed; checkpoints
    keep them, and the file of the SAE has them in its provenance. The encoder starts tied in the same way, and is
    trained for this decoder from the first step on, as biases and thresholds are.

    Args:
        follows: policy of the panel whose decoder it takes.
    """

    name = "tied_at_random"

    def __init__(self, follows: str = TRAINED) -> None:
        super().__init__()
        self.follows = follows
        self._partners: Tensor | None = None
        """[n_parts - 1, d_sae]: in each part but the first the latent whose direction a latent has."""

    def hold(self, sae: SparseAutoencoder) -> None:
        """Refuse a lone SAE, beside which no other is trained.

        Raises:
            ValueError: always.
        """
        raise ValueError("TiedAtRandom takes the decoder of another member of a panel: train a SanityPanel")

    def freeze(self, sae: SparseAutoencoder) -> None:
        """Take the gradient from `W_dec`."""
        _check_parts(self, sae)
        if self.member is None:
            self.hold(sae)
        sae.W_dec.requires_grad_(False)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the member that it follows is there, with all its latents.

        Raises:
            ValueError: if it is not.
        """
        super().setup(trainer, pl_module, stage)
        assert isinstance(pl_module, SAEModule)
        split = world_size(Ranks.OTHER_MEMBERS) > 1 or pl_module.n_latent_ranks > 1
        if split or self._followed not in pl_module.all_trained_members:
            raise ValueError(
                f"TiedAtRandom follows {self._followed}, whose whole decoder has to be on the same device: name that "
                "policy in model.policies, and use no trainer.strategy that deals out members or latents"
            )
        sae = self._sae(pl_module)
        generator = torch.Generator().manual_seed(self._followed.seed)
        drawn = [torch.randperm(sae.d_sae, generator=generator) for _ in range(len(sae.columns) - 1)]
        self._partners = torch.stack(drawn)  # those of a checkpoint, which is read after this, take their place

    def state_dict(self) -> dict[str, Any]:
        """Return the permutations."""
        return {} if self._partners is None else {"partners": self._partners}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the permutations of a checkpoint; an older one has none, and they follow from the seed."""
        self._partners = state_dict["partners"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the file of the SAE say which directions it ties together."""
        sae = self._sae(pl_module)
        _, *others = sae.columns
        sae.drawn_by_policy = {part: own.tolist() for part, own in zip(others, self._drawn(), strict=True)}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tie the start: the decoder, and the encoder where nothing is trained yet."""
        sae = self._sae(pl_module)
        if trainer.global_step == 0:
            with torch.no_grad():
                sae.W_enc.copy_(self._tied(sae, sae.W_enc.T).T)
        self.on_train_batch_end(trainer, pl_module)

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: object) -> None:
        """Follow the member after each step."""
        assert isinstance(pl_module, SAEModule)
        sae = self._sae(pl_module)
        sae.W_dec.copy_(self._tied(sae, pl_module.trained_members[self._followed].W_dec))
        normalise_(sae.W_dec)

    @property
    def _followed(self) -> Member:
        assert self.member is not None
        return Member(self.follows, self.member.seed, self.member.part)

    def _drawn(self) -> Tensor:
        assert self._partners is not None
        return self._partners

    def _tied(self, sae: SparseAutoencoder, rows: Tensor) -> Tensor:
        """Return rows [d_sae, d_in] whose columns of every part but the first are those of another row."""
        _, *others = sae.columns.values()
        tied = rows.clone()
        for own, partners in zip(others, self._drawn().to(rows.device), strict=True):
            tied[:, own] = rows[partners, own]
        return tied


class SeparateParts(FreezePolicy):
    """Latent i reads and writes part i modulo n alone: an SAE of an equal share of the latents for each of n parts."""

    name = "separate_parts"

    def freeze(self, sae: SparseAutoencoder) -> None:
        """Freeze nothing: what is zero is made so again after each step."""
        _check_parts(self, sae)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Separate the start."""
        if trainer.global_step == 0:  # of a resumed fit all is separate, and norms keep their bits
            self.on_train_batch_end(trainer, pl_module)

    @torch.no_grad()
    def project(self, sae: SparseAutoencoder) -> None:
        """Set to zero what a latent has in other parts than its own, and give decoder directions unit norm."""
        number = sae.mesh.numbers_of(sae.mesh.rank).to(sae.W_dec.device) % len(sae.columns)
        for part, own in enumerate(sae.columns.values()):
            sae.W_dec[number != part, own] = 0
            sae.W_enc.T[number != part, own] = 0
        normalise_(sae.W_dec)


def _check_parts(policy: FreezePolicy, sae: SparseAutoencoder) -> None:
    if len(sae.columns) < 2:
        raise ValueError(
            f"{type(policy).__name__} is about what parts have to do with each other: expected a crosscoder of several "
            "hooks, with crosscoder=true"
        )
    check_unit_norm(f"{type(policy).__name__} gives decoder directions unit norm", sae)
