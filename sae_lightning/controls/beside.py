"""What stands beside the SAEs that are trained: references, which are read from files, and the controls of each."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from sae_lightning.checks import check_whole
from sae_lightning.controls.base import Control, measured_l0
from sae_lightning.distributed import Ranks, all_gather_int, all_reduce_sum
from sae_lightning.members import TRAINED, Member
from sae_lightning.moving_line import LINE
from sae_lightning.provenance import describe
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.data import ActivationData
from sae_lightning.saes.fingerprint import fingerprint
from sae_lightning.saes.module import SAEModule
from sae_lightning.saes.transcoder import refuse_crosscoders
from sae_lightning.trainer import any_datamodule_of

LEAST_DRAWS = 2
"""Of a random control: one would not say how much draws differ."""
_DIGITS_OF_A_SEED = 8
_HELD_OUT = 16_384
"""Held-out activations on which the l0 of a reference is measured, of each rank."""


@runtime_checkable
class RefusingData(Protocol):
    """A datamodule that knows which SAEs are of its activations."""

    def refuse_sae_of_others(self, sae: SparseAutoencoder, name: str, part: str = "", target: str = "") -> None:
        """Refuse an SAE that was trained on other activations than these."""
        ...


def check_draws(draws: int, controls: Mapping[str, Control]) -> None:
    """Refuse fewer draws than the controls need.

    Args:
        draws: of each control that is random.
        controls: by name.

    Raises:
        ValueError: if it is none, or one of a random control.
    """
    check_whole(1, draws=draws)
    if draws < LEAST_DRAWS and (random := [name for name, control in controls.items() if control.is_random]):
        raise ValueError(
            f"draws={draws}: nothing would say how much draws of {random[0]} differ; expected {LEAST_DRAWS} or more, "
            "such as 3"
        )


class ReferencesAndControls:
    """SAEs that are measured and not trained.

    Args:
        references: where each is read from, by name, or by PART/NAME where the activations have several parts that are
            no nulls. A reference reads null versions of the activations, too; a transcoder those where it is named
            again, such as gaussian_mlp_in/NAME.
        controls: what each is compared with, on the activations themselves; a transcoder where it is named first.
        draws: of each control that is random.
        n_samples: activations that controls are made from.
        parts: columns of the activations that each part has.
        targets: of transcoders, the part at which each answers by that which it reads; empty for SAEs.

    Attributes:
        saes: those of this rank by member; controls have no start before `start`.
        all_saes: those of all ranks; the others have tensors without data.
        fingerprints: of references.
        where: by policy, of references.
        controls_for: by policy, of controls.
        sizes: see `SAEModule.sizes`; empty without controls.

    Raises:
        ValueError: if a reference cannot be read, is of another width or kind, or is there twice; if names are none; if
            there is no such control of it.
    """

    def __init__(
        self,
        references: Mapping[str, str],
        controls: Mapping[str, Control],
        draws: int,
        n_samples: int,
        parts: Mapping[str, slice],
        targets: Mapping[str, str] | None = None,
    ) -> None:
        check_draws(draws, controls)
        check_whole(2, control_samples=n_samples)
        if controls and not references:
            raise ValueError(
                f"controls={list(controls)} without references: say of which SAEs, references: {{NAME: PATH}}"
            )
        self.n_samples = n_samples
        self.saes: dict[Member, SparseAutoencoder] = {}
        self.fingerprints: dict[Member, str] = {}
        self.where: dict[str, str] = {}
        self.controls_for: dict[str, str] = {}
        self.sizes: dict[str, tuple[str, str]] = {}
        self._controls: dict[Member, tuple[Control, Member]] = {}
        self._targets = dict(targets or {})
        known: dict[tuple[str, str], str] = {}
        loaded: dict[str, SparseAutoencoder] = {}  # a transcoder is named again for each null
        for key, where in references.items():
            part, _, name = key.rpartition("/")
            check_name("references", name)
            sae = loaded[where] = loaded[where] if where in loaded else SparseAutoencoder.load(where)
            what = f"references.{key}={where}"
            refuse_crosscoders([sae], what)
            _check_kind(sae, what, self._targets)
            own_fingerprint = fingerprint(sae.state_dict())
            same = known.setdefault((part, own_fingerprint), key)
            if same != key:
                raise ValueError(f"references: {same} and {key} are one SAE, by content: name it once")
            for own_part in _parts_read("references", key, part, self._targets or parts):
                target = self._targets.get(own_part)
                _check_width(sae, what, own_part, parts[own_part], None if target is None else parts[target])
                self.saes[Member(name, 0, own_part)] = sae
                self.fingerprints[Member(name, 0, own_part)] = own_fingerprint
            self.where[name] = where
        firsts = {member.policy: member for member in reversed(self.saes)}
        for member, sae in list(self.saes.items()):
            if member == firsts[member.policy] if self._targets else member.part in _real_parts(parts):
                self._add_controls(member, sae, controls, draws)
        self.all_saes = dict(self.saes)

    def reference_of(self, member: Member) -> str:
        """Return the policy of the reference that a control belongs to; of a reference its own."""
        return self._controls[member][1].policy if member in self._controls else member.policy

    def keep(self, references: Collection[str]) -> None:
        """Drop the tensors of all references but some, which live on this rank, and those of their controls."""
        self.saes = {one: sae for one, sae in self.all_saes.items() if self.reference_of(one) in references}
        for member, sae in self.all_saes.items():
            if member not in self.saes:
                sae.to("meta")

    def _add_controls(
        self, reference: Member, sae: SparseAutoencoder, controls: Mapping[str, Control], draws: int
    ) -> None:
        for name, control in controls.items():
            check_name("controls", name)
            policy = name if len(self.where) == 1 else f"{reference.policy}_{name}"
            if policy in self.where:
                raise ValueError(f"controls: {policy} is a reference, too: give it another name")
            control.check_kind(sae)
            for draw in range(draws if control.is_random else 1):
                own = control.new(sae)
                own.policy_name, own.seed, own.is_initialised = policy, draw, False
                own.provenance = {"control": describe(control) | {"of": self.where[reference.policy], "draw": draw}}
                member = Member(policy, draw, reference.part)
                self.saes[member], self._controls[member] = own, (control, reference)
            self.controls_for[policy] = control.controls_for
            self.sizes[reference.policy] = (reference.policy, TRAINED)
            self.sizes[policy] = (reference.policy, name)

    def start(self, module: SAEModule) -> None:
        """Move everything to the device of a module, and make what is not yet made of the training data.

        Each reference has draws of its own, by its weights: an unlucky one must not decide about all SAEs of a shape.

        Raises:
            ValueError: if a reference is of other activations than the data.
        """
        data = any_datamodule_of(module.trainer)
        self._refuse_others(data)
        for sae in self.saes.values():
            sae.to(module.trainer.strategy.root_device).eval()
        waiting = {
            member: own
            for member, own in self._controls.items()
            if member in self.saes and not self.saes[member].is_initialised
        }
        if not any(all_gather_int(len(waiting), ranks=Ranks.ALL)):  # all ranks draw the sample together
            return
        samples = module.draw_calibration_sample(self.n_samples)
        l0s: dict[Member, float] = {}
        seeds: dict[Member, int] = {}
        for number, (member, (control, reference)) in enumerate(waiting.items()):
            LINE.show("making controls", number, len(waiting), str(member))
            sae = self.saes[reference]
            x = module.activations_for(reference, samples).to(sae.W_dec.device)
            target = module.target_for(reference, samples)
            if reference not in l0s:
                l0s[reference] = self._l0_of(module, reference, x)
                seeds[reference] = int(fingerprint(sae.state_dict())[:_DIGITS_OF_A_SEED], 16)
            own = self.saes[member]
            y = () if target is None else (target.to(sae.W_dec.device),)
            control.start(own, sae, x, l0s[reference], seeds[reference] + member.seed, *y)
            own.seed = member.seed

    def _l0_of(self, module: SAEModule, reference: Member, samples: Tensor) -> float:
        """Return the l0 of a reference on held-out data: on another text than the samples are of it may be another.

        Raises:
            ValueError: if it is 0, at which nothing can be compared.
        """
        sae, data = self.saes[reference], any_datamodule_of(module.trainer)
        held_out = data.val_dataloader() if isinstance(data, LightningDataModule) else [samples]
        parts: list[Tensor] = []
        for batch in held_out:
            parts.append(module.activations_for(reference, batch) if batch is not samples else batch)
            if sum(map(len, parts)) >= _HELD_OUT:
                break
        x = torch.cat(parts).float()
        n_active = measured_l0(sae, x) * len(x)
        counts = all_reduce_sum(torch.tensor([n_active, len(x)], dtype=torch.float64, device=sae.W_dec.device))
        if not counts[0]:
            raise ValueError(
                f"{self.where[reference.policy]}: no latent fires on any of {int(counts[1]):,} activations: it is of "
                "another model or hook, or was read wrong, which sae inspect tells"
            )
        return float(counts[0] / counts[1])

    def _refuse_others(self, data: Any) -> None:  # noqa: ANN401
        nulls = data.null_parts if isinstance(data, ActivationData) else ()
        for member, sae in self.saes.items():
            if isinstance(data, RefusingData) and member not in self._controls and member.part not in nulls:
                target = self._targets.get(member.part, "")
                data.refuse_sae_of_others(sae, self.where[member.policy], member.part, *([target] if target else []))


def check_name(what: str, name: str) -> None:
    """Refuse a name that cannot be a folder and a curve of a chart.

    Raises:
        ValueError: says what was expected.
    """
    if not re.fullmatch(r"\w+", name):
        raise ValueError(f"{what}: the name {name!r} becomes a folder and a chart; use letters, digits and _")


def _parts_read(what: str, key: str, part: str, parts: Collection[str]) -> Iterator[str]:
    """Return the parts that a reference reads: the one it names, or the activations and all null versions of them."""
    if part in parts:
        yield from [part] if part else parts
    elif part:
        raise ValueError(f"{what}: {key} reads {part}, and the data have {', '.join(parts)}")
    else:
        example = f"{next(iter(parts))}/{key}"
        raise ValueError(f"{what}: {key} reads one hook, and the data have {', '.join(parts)}: say which, {example}")


def _real_parts(parts: Mapping[str, slice]) -> list[str]:
    """Return the parts that are no nulls: where the activations themselves are one, the others are nulls of them."""
    return [""] if "" in parts else list(parts)


def _check_kind(sae: SparseAutoencoder, what: str, targets: Mapping[str, str]) -> None:
    """Refuse an SAE where members are transcoders, and a transcoder where nothing says at which hook it answers."""
    if targets and not sae.is_transcoder:
        raise ValueError(
            f"{what} is an SAE, which gives back what it reads, and with targets members are transcoders: leave out "
            "model.targets, or name a transcoder"
        )
    if sae.is_transcoder and not targets:
        raise ValueError(
            f"{what} is a transcoder: name the hook that it reads and the one at which it answers under data.hook, "
            "and say which is which, such as model.targets: {mlp_in: mlp_out}"
        )


def _check_width(sae: SparseAutoencoder, what: str, part: str, columns: slice, target: slice | None = None) -> None:
    widths = {f"d_in={sae.d_in}": (sae.d_in, columns, f" ({part})" if part else "")}
    if target is not None:
        widths[f"d_out={sae.d_out}"] = (sae.d_out, target, " at the target")
    for said, (own, here, at) in widths.items():
        if own != (width := here.stop - here.start):
            raise ValueError(
                f"{what} has {said}, and the activations{at} have {width}: give the model and hook that it was trained "
                "on"
            )
