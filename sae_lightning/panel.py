"""`SanityPanel`: an SAE and its baselines, trained on the same batches.

The sanity check of Korznikov et al. 2026, arXiv 2602.14111, as one run: members share the variant, the hyperparameters,
the batches and, for one seed, the initial parameters; they differ in the freeze policy alone, and the Frozen Decoder in
its start too, which has the covariance of the activations.

Where the data have several hooks, members may be transcoders (`saes/transcoder.py`), which read one and answer at
another. Frozen directions are then random in the space that they are of: decoder rows have the covariance of the
target, encoder rows that of the source.

Or they may be crosscoders (`saes/crosscoder.py`), which have one code for all hooks. Frozen directions then have the
covariance of all parts together, each scaled by itself.

Beside them may stand references, SAEs or transcoders that are measured and not trained, such as published ones, and
controls of each: SAEs with random or plain parts at the same l0, for which nothing is trained by gradient.
"""

import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from itertools import product
from typing import Any, TypeAlias

import torch
from lightning.pytorch import Callback
from torch import Tensor, nn

from sae_lightning.checks import check_above, check_kind, check_seed
from sae_lightning.controls import Control
from sae_lightning.controls.beside import ReferencesAndControls
from sae_lightning.freeze import FreezePolicy, FrozenDecoder, FrozenEncoder, NoFreeze, SoftFrozenDecoder
from sae_lightning.members import REMAKE, Member
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.data import columns_by_part
from sae_lightning.saes.init import DecoderInit
from sae_lightning.saes.module import SAEModule
from sae_lightning.saes.transcoder import check_targets, part_read_by

DEFAULT_POLICIES: tuple[type[FreezePolicy], ...] = (NoFreeze, FrozenDecoder, SoftFrozenDecoder, FrozenEncoder)
SAEFactory: TypeAlias = Callable[[int], SparseAutoencoder]
"""Makes an SAE of a width; for transcoders it is called with `d_out` beside it, for crosscoders with `crosscoder` and
`widths`."""
_waits_for_place: ContextVar[bool] = ContextVar("waits_for_place", default=False)


@contextmanager
def built_in_place(wait: bool = True) -> Iterator[None]:
    """Let a panel that is made in this block wait for `SanityPanel.place` before it takes memory for its members."""
    before = _waits_for_place.set(wait)
    try:
        yield
    finally:
        _waits_for_place.reset(before)


class SanityPanel(SAEModule):
    """Train {policies} x {seeds} of one variant on one stream, and that for every part of its activations.

    Args:
        d_in: width of an activation; linked to the data.
        sae: the variant and its hyperparameters, the same for every member.
        policies: members by name; by default trained, frozen_decoder, soft_frozen_decoder and frozen_encoder.
        inits: a start of their own for members named in policies. Of the others a FrozenDecoder starts
            CovarianceMatched, as in the paper, of transcoders a FrozenEncoder too, and the rest as the sae.
        seeds: one member of each policy for every seed.
        widths: widths of the parts that members read, by name, where the data have several hooks; linked to the data.
        learning_rates: a learning rate of its own for policies named here; the others have that of the sae's optimizer.
        references: SAEs that are measured and not trained, of any variant and format, by name: a folder, a file,
            hf://owner/name or RELEASE/ID; where the data have several hooks by HOOK/NAME. With targets transcoders, by
            the hook that they read.
        controls: what each reference is compared with, by name; where there are several references they are called
            REFERENCE_NAME.
        draws: of each control that is random, 1 or more.
        control_samples: activations of the training data from which controls are made, 2 or more.
        targets: makes members transcoders: the hook at which they answer by the hook that they read, such as {mlp_in:
            mlp_out}. Hooks that are in neither place are not used.
        crosscoder: makes each member a crosscoder of all hooks, see SparseAutoencoder.

    Raises:
        ValueError: if there is nothing to measure, or names, seeds or rates do not fit together.
    """

    sae_option = "model.sae"

    def __init__(
        self,
        d_in: int,
        sae: SAEFactory | None = None,
        policies: dict[str, FreezePolicy] | None = None,
        inits: dict[str, DecoderInit] | None = None,
        seeds: Sequence[int] = (0,),
        widths: dict[str, int] | None = None,
        learning_rates: dict[str, float] | None = None,
        references: dict[str, str] | None = None,
        controls: dict[str, Control] | None = None,
        draws: int = 3,
        control_samples: int = 65_536,
        targets: dict[str, str] | None = None,
        crosscoder: bool = False,
    ) -> None:
        super().__init__()
        self.targets = dict(targets or {})
        check_targets(self.targets, widths or {}, "targets")
        self.crosscoder = crosscoder
        if crosscoder and targets:
            raise ValueError(f"crosscoder=true and targets={targets}: members are crosscoders or transcoders")
        if isinstance(sae, SparseAutoencoder):
            raise ValueError(
                f"sae is one {type(sae).__name__} that is made already: expected what makes one for each member, such "
                "as lambda d_in: TopK(d_in, k=32, d_sae=4096)"
            )
        check_kind(Sequence, "a list of whole numbers, such as [0, 1, 2]", seeds=seeds)
        if policies is None:
            policies = {policy.name: policy() for policy in DEFAULT_POLICIES}
        check_kind(Mapping, "policies by name, such as {'trained': NoFreeze()}", policies=policies)
        given = {f"policies[{name!r}]": policy for name, policy in policies.items()}
        check_kind(FreezePolicy, "a policy, such as FrozenDecoder()", **given)
        inits = {**default_inits(policies, bool(targets) or crosscoder), **(inits or {})}
        if bad := [name for name in policies if not re.fullmatch(r"\w+", name)]:
            raise ValueError(f"policies: the name {bad[0]!r} becomes a folder and a chart; use letters, digits and _")
        if unknown := set(inits) - set(policies):
            raise ValueError(f"inits: {sorted(unknown)} not among the policies {sorted(policies)}")
        if unknown := set(learning_rates or ()) - set(policies):
            raise ValueError(f"learning_rates: {sorted(unknown)} not among the policies {sorted(policies)}")
        for policy, rate in (learning_rates or {}).items():
            check_above(0, "such as 1e-3", **{f"learning_rates.{policy}": rate})
        for seed in seeds:
            check_seed(seeds=seed)
        if not (policies or references) or not seeds or len(set(seeds)) != len(seeds):
            raise ValueError(
                f"policies={list(policies)}, seeds={list(seeds)}: expected one policy and one seed or more, each once"
            )
        if policies and sae is None:
            raise ValueError(
                f"policies={list(policies)} and no sae: give the variant to train, or policies: {{}} to measure "
                "references alone"
            )
        self.policies, self.inits, self.seeds = policies, inits, list(seeds)
        self.learning_rates = dict(learning_rates or {})
        self._factory = sae
        self.widths = dict(widths or {})
        self.parts = columns_by_part({"": d_in} if crosscoder else widths or {"": d_in})
        read = self.targets or self.parts
        members = [Member(policy, seed, part) for part in read for policy, seed in product(policies, seeds)]
        with torch.device("meta") if _waits_for_place.get() else nullcontext():
            self._all = {member: self._new_member(member) for member in members}
        self.saes = nn.ModuleDict({str(member): sae for member, sae in self._all.items() if not sae.W_dec.is_meta})
        if crosscoder and (references or controls):
            raise ValueError("references and controls are SAEs, and members are crosscoders: leave them out")
        self._beside = ReferencesAndControls(
            references or {}, controls or {}, draws, control_samples, self.parts, self.targets
        )
        self.references, self.controls_for = self._beside.where, self._beside.controls_for
        self.reference_fingerprints = self._beside.fingerprints
        if taken := sorted({*policies} & {*self.references, *self.controls_for}):
            raise ValueError(f"references and controls: {taken[0]} is a policy, too: give it another name")
        if self.controls_for:
            trained = {policy: (REMAKE, policy) for policy in policies}
            self.sizes = {**trained, **self._beside.sizes}
        for first in self._all.values():
            self.optimizer, self.lr_scheduler = first.optimizer, first.lr_scheduler
            break
        self.initialise_members()

    def new_sae(self, sae: SAEFactory, policy: str, d_in: int, **kind: Any) -> SparseAutoencoder:  # noqa: ANN401
        """Make an SAE for the policy of this name: they are all made alike.

        Args:
            sae: the variant.
            policy: not used here.
            d_in: width of what it reads.
            kind: `d_out`, width of the answer of a transcoder; `crosscoder` and `widths` of a crosscoder; empty for an
                SAE.
        """
        return sae(d_in, **kind)

    def _new_member(self, member: Member) -> SparseAutoencoder:
        """Make an SAE that has no start yet."""
        assert self._factory is not None
        widths = {part: columns.stop - columns.start for part, columns in self.parts.items()}
        kind: dict[str, Any] = {"d_out": widths[self.targets[member.part]]} if self.targets else {}
        if self.crosscoder:
            kind = {"crosscoder": True, "widths": self.widths}
        own = self.new_sae(self._factory, member.policy, widths[member.part], **kind)
        if own.is_transcoder and not self.targets:
            raise ValueError("sae: a transcoder in a panel without targets: say what it reads and where it answers")
        if own.crosscoder and not self.crosscoder:
            raise ValueError("sae: a crosscoder in a panel without crosscoder=true, which is an option of the panel")
        own.seed, own.policy_name, own.init = member.seed, member.policy, self.inits.get(member.policy, own.init)
        own.is_initialised = False
        return own

    def place(self, here: Collection[Member]) -> None:
        """Build the members that live on this rank, and drop the tensors of all others.

        Args:
            here: members of this rank; a reference brings its controls.
        """
        for member, sae in self._all.items():
            if member not in here:
                sae.to("meta")
            elif sae.W_dec.is_meta:
                self._all[member] = self._new_member(member)
        self.saes = nn.ModuleDict({str(member): sae for member, sae in self._all.items() if member in here})
        self._beside.keep({member.policy for member in here if member.policy in self.references})
        self.initialise_members()

    def reference_of(self, member: Member) -> str:
        """Return the name of the reference that a control belongs to; of a reference its own."""
        return self._beside.reference_of(member)

    @property
    def members(self) -> Mapping[Member, SparseAutoencoder]:
        """The SAEs of this rank: those that are trained, references and controls."""
        return {**self.trained_members, **self._beside.saes}

    @property
    def trained_members(self) -> Mapping[Member, SparseAutoencoder]:
        """The SAEs of the policies on this rank."""
        return {member: sae for member, sae in self._all.items() if str(member) in self.saes}

    @property
    def all_members(self) -> Mapping[Member, SparseAutoencoder]:
        """The SAEs of the run in their order, those on other ranks without data."""
        return {**self._all, **self._beside.all_saes}

    @property
    def all_trained_members(self) -> Mapping[Member, SparseAutoencoder]:
        """The SAEs of all policies, those on other ranks without data."""
        return self._all

    def all_tensors(self) -> Mapping[str, Tensor]:
        """Return the state of all members, without data where they live on other ranks."""
        return {
            f"saes.{member}.{name}": own for member, sae in self._all.items() for name, own in sae.state_dict().items()
        }

    def setup(self, stage: str) -> None:
        """Initialise what is trained, and make the controls of references from the training data.

        Raises:
            ValueError: if there is nothing to train, or a reference is of other activations.
        """
        if stage == "fit" and not self._all:
            raise ValueError("policies: {} trains nothing: measure the references with sae validate, or name policies")
        super().setup(stage)
        self._beside.start(self)

    def activations_for(self, member: Member, activations: Tensor) -> Tensor:
        """Return what one member reads of activations [..., d_in]."""
        if len(self.parts) == 1:
            return activations
        part = part_read_by(member, self.all_members[member], self.targets) if self.targets else member.part
        return activations[..., self.parts[part]]

    def target_for(self, member: Member, activations: Tensor) -> Tensor | None:
        """Return what a transcoder is to answer with to activations [..., d_in]; None of an SAE."""
        return activations[..., self.parts[self.targets[member.part]]] if self.targets else None

    @property
    def width(self) -> int:
        """Width of the activations of a batch, of all parts together."""
        return max(columns.stop for columns in self.parts.values())

    def initialise_members(self, samples: Tensor | None = None) -> None:
        """Start all members, and make sure that those of one seed and start are equal."""
        super().initialise_members(samples)
        starts: dict[Member, str] = {}
        for member, sae in self.trained_members.items():
            if not sae.is_initialised:
                continue
            start = Member(member.policy if member.policy in self.inits else "", sae.seed, member.part)
            own = parameter_hash(sae)
            if starts.setdefault(start, own) != own:
                raise RuntimeError(
                    f"{member} does not start from the parameters of the other members with seed {member.seed}"
                )

    def configure_callbacks(self) -> Sequence[Callback]:
        """Return one bound policy for each member."""
        return [self.policies[member.policy].bind(member) for member in self._all]


def default_inits(policies: Mapping[str, FreezePolicy], are_ours: bool = False) -> dict[str, DecoderInit]:
    """Return the starts that the paper gives its baselines, for those policies that have one of their own.

    Args:
        policies: by name.
        are_ours: whether they are baselines of transcoders or crosscoders, see `FreezePolicy.default_init`.
    """
    inits = {name: policy.default_init(are_ours) for name, policy in policies.items()}
    return {name: init for name, init in inits.items() if init is not None}


def parameter_hash(sae: SparseAutoencoder) -> str:
    """Return the SHA-256 of names, shapes and bytes of the parameters."""
    digest = hashlib.sha256()
    for name, parameter in sae.named_parameters():
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        digest.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
