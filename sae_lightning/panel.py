"""`SanityPanel`: an SAE and its baselines, trained on the same batches.

The sanity check of Korznikov et al. 2026, arXiv 2602.14111, as one run: members share the variant, the hyperparameters,
the batches and, for one seed, the initial parameters; they differ in the freeze policy alone (and in the start, where
`inits` asks for it, as the paper does).
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from lightning.pytorch import Callback
from torch import nn

from sae_lightning.freeze import FreezePolicy, FrozenDecoder, FrozenEncoder, NoFreeze, SoftFrozenDecoder
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.init import DecoderInit
from sae_lightning.saes.module import SAEModule

SAEFactory: TypeAlias = Callable[[int], SparseAutoencoder]


class SanityPanel(SAEModule):
    """Trains {policies} x {seeds} of one variant on one stream.

    Args:
        d_in: width of an activation; linked to the data.
        sae: the variant and its hyperparameters, the same for every member.
        policies: members by name; by default trained, frozen_decoder, soft_frozen_decoder and frozen_encoder.
        inits: a start of their own for members named in policies; the others take that of the sae.
        seeds: one member of each policy for every seed.
    """

    def __init__(
        self,
        d_in: int,
        sae: SAEFactory,
        policies: dict[str, FreezePolicy] | None = None,
        inits: dict[str, DecoderInit] | None = None,
        seeds: Sequence[int] = (0,),
    ) -> None:
        super().__init__()
        if policies is None:
            policies = {policy.name: policy() for policy in (NoFreeze, FrozenDecoder, SoftFrozenDecoder, FrozenEncoder)}
        inits = inits or {}
        if bad := [name for name in policies if not re.fullmatch(r"\w+", name)]:
            raise ValueError(f"policies: the name {bad[0]!r} becomes a folder and a chart; use letters, digits and _")
        if unknown := set(inits) - set(policies):
            raise ValueError(f"inits: {sorted(unknown)} not among the policies {sorted(policies)}")
        if not policies or not seeds or len(set(seeds)) != len(seeds):
            raise ValueError(
                f"policies={list(policies)}, seeds={list(seeds)}: expected one policy and one seed or more, each once"
            )
        self.policies, self.inits, self.seeds = policies, inits, list(seeds)
        self.saes = nn.ModuleDict()
        for name in policies:
            for seed in seeds:
                member = sae(d_in)
                member.seed, member.policy_name, member.init = seed, name, inits.get(name, member.init)
                member.is_initialised = False
                self.saes[f"{name}/{seed}"] = member
        first = next(iter(self.members.values()))
        self.optimizer, self.lr_scheduler = first.optimizer, first.lr_scheduler
        if all(member.n_calibration_samples == 0 for member in self.members.values()):
            self.initialise_members()

    @property
    def members(self) -> Mapping[str, SparseAutoencoder]:
        """The SAEs by name, `<policy>/<seed>`."""
        return dict(self.saes.items())  # type: ignore[arg-type]

    def initialise_members(self) -> None:
        """Starts all members, and makes sure that those of one seed and start are equal."""
        super().initialise_members()
        starts: dict[tuple[int, str], str] = {}
        for name, member in self.members.items():
            policy = name.split("/")[0]
            start = (member.seed, policy if policy in self.inits else "")
            if starts.setdefault(start, parameter_hash(member)) != parameter_hash(member):
                raise RuntimeError(
                    f"{name} does not start from the parameters of the other members with seed {member.seed}"
                )

    def configure_callbacks(self) -> Sequence[Callback]:
        """One bound policy for each member."""
        return [self.policies[name.split("/")[0]].bind(name) for name in self.members]


def parameter_hash(sae: SparseAutoencoder) -> str:
    """SHA-256 over names, shapes and bytes of the parameters."""
    digest = hashlib.sha256()
    for name, parameter in sae.named_parameters():
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        digest.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
