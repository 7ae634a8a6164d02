"""`SAEFamily`: one variant at several sizes, trained on the same batches.

What stitching (Leask et al. 2025, arXiv 2502.04878) compares, as one run: sizes share the variant, the hyperparameters
and the batches, and each starts from a draw of its own. Beside a size stand freeze policies, which share its start.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from sae_lightning.checks import check_whole
from sae_lightning.freeze import FreezePolicy, NoFreeze
from sae_lightning.members import TRAINED
from sae_lightning.panel import SanityPanel
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.init import DecoderInit

_LARGEST_SIZE = 1_000_003


@runtime_checkable
class SizedSAEFactory(Protocol):
    """Makes an SAE of a size."""

    def __call__(self, d_in: int, /, *, expansion_factor: float) -> SparseAutoencoder:
        """Make an SAE with round(d_in * expansion_factor) latents."""
        ...


class SAEFamily(SanityPanel):
    """Train {sizes} x {seeds} of one variant on one stream: members x1/0, x8/0, x8_frozen_decoder/0.

    Args:
        d_in: width of an activation; linked to the data.
        sae: the variant and its hyperparameters, the same for every member; without a size.
        expansion_factors: sizes, in latents per dimension of the activation, each 1 or more.
        policies: freeze policies beside the trained SAE, by names of yours; none by default. The verdict compares each
            with the trained SAE of its size.
        policy_factors: the sizes that have them; all by default.
        inits: a start of their own for policies named here. Of the others a FrozenDecoder starts CovarianceMatched, as
            in a SanityPanel, and the rest as the trained SAE of their size.
        seeds: one member of each kind for every seed.
        widths: widths of the parts that members read, by name, where the data have several hooks; linked to the data.
        learning_rates: a learning rate of its own for policies named here, at every size, and for `trained`, what each
            size is beside them; the others have that of the sae's optimizer.
        references: SAEs that are measured beside every size and not trained, see SanityPanel.
        targets: makes members transcoders, see SanityPanel.
        crosscoder: makes members crosscoders, see SanityPanel.
    """

    def __init__(
        self,
        d_in: int,
        sae: SizedSAEFactory,
        expansion_factors: Sequence[int] = (1, 2, 4, 8),
        policies: dict[str, FreezePolicy] | None = None,
        policy_factors: Sequence[int] | None = None,
        inits: dict[str, DecoderInit] | None = None,
        seeds: Sequence[int] = (0,),
        widths: dict[str, int] | None = None,
        learning_rates: dict[str, float] | None = None,
        references: dict[str, str] | None = None,
        targets: dict[str, str] | None = None,
        crosscoder: bool = False,
    ) -> None:
        factors, policies, inits = list(expansion_factors), policies or {}, inits or {}
        for factor in factors:
            check_whole(1, expansion_factors=factor)
        for factor in policy_factors or ():
            check_whole(1, policy_factors=factor)
        if not factors or len(set(factors)) != len(factors):
            raise ValueError(f"expansion_factors={factors}: expected one size or more, each once, such as [1, 2, 4, 8]")
        if unknown := set(policy_factors or ()) - set(factors):
            raise ValueError(f"policy_factors: {sorted(unknown)} not among expansion_factors={factors}")
        if TRAINED in policies:
            raise ValueError(f"policies: {TRAINED} is what each size is beside them: give this one another name")
        if nameless := set(inits) - set(policies):
            raise ValueError(f"inits: {sorted(nameless)} not among the policies {sorted(policies)}")
        own_rates = learning_rates or {}
        if nameless := set(own_rates) - {TRAINED, *policies}:
            raise ValueError(f"learning_rates: {sorted(nameless)} not among {sorted({TRAINED, *policies})}")
        kinds: dict[str, FreezePolicy] = {}
        starts: dict[str, DecoderInit] = {}
        self.factors: dict[str, int] = {}
        sizes: dict[str, tuple[str, str]] = {}
        for factor in factors:
            size = f"x{factor}"
            kinds[size], self.factors[size], sizes[size] = NoFreeze(), factor, (size, TRAINED)
            for name, policy in policies.items():
                if policy_factors is None or factor in policy_factors:
                    member = f"{size}_{name}"
                    kinds[member], self.factors[member], sizes[member] = policy, factor, (size, name)
                    if name in inits:
                        starts[member] = inits[name]
        rates = {kind: own_rates[name] for kind, (_, name) in sizes.items() if name in own_rates}
        of_hooks: dict[str, Any] = {"widths": widths, "targets": targets, "crosscoder": crosscoder}
        super().__init__(d_in, sae, kinds, starts, seeds, learning_rates=rates, references=references, **of_hooks)  # type: ignore[arg-type]
        self.sizes = sizes

    def new_sae(  # type: ignore[override]
        self, sae: SizedSAEFactory, policy: str, d_in: int, **kind: Any
    ) -> SparseAutoencoder:
        """Make an SAE of the size that the policy belongs to."""
        return sae(d_in, expansion_factor=float(self.factors[policy]), **kind)

    def initialise_members(self, samples: Tensor | None = None) -> None:
        """Start all members: those of one seed and size are equal, and sizes have no direction in common."""
        for sae in self.trained_members.values():  # with one seed a larger draw would begin with the smaller one
            sae.seed = sae.seed * _LARGEST_SIZE + sae.d_sae
        super().initialise_members(samples)
        for member, sae in self.trained_members.items():
            sae.seed = member.seed
