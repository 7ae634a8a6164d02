"""Transcoders: which columns of a batch they read, and which they answer with.

A transcoder (Dunefsky et al. 2024, arXiv 2406.11944) reads one place of a model and answers at another. It is an SAE in
all else, see `base.py`. Data with several hooks have the activations of these side by side; a lone transcoder names the
two that it is of, and one without names reads the first `d_in` columns and answers with the `d_out` after them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from torch import Tensor

from sae_lightning.checks import check_whole
from sae_lightning.members import Member
from sae_lightning.saes.data import columns_by_part

if TYPE_CHECKING:
    from sae_lightning.saes.base import SparseAutoencoder


@dataclass(frozen=True)
class Ends:
    """The columns of a batch that a lone transcoder is of.

    Args:
        source: those that it reads.
        target: those that it answers with.
        width: number of columns of the batch.
    """

    source: slice
    target: slice
    width: int

    @property
    def d_in(self) -> int:
        """Width of the source."""
        return int(self.source.stop - self.source.start)

    @property
    def d_out(self) -> int:
        """Width of the target."""
        return int(self.target.stop - self.target.start)


def ends_of(
    d_in: int, d_out: int | None, source: str | None, target: str | None, widths: Mapping[str, int] | None
) -> Ends | None:
    """Return the columns of a transcoder; None for an SAE.

    Args:
        d_in: width of the source, or, where hooks are named, of all that the data have.
        d_out: width of the target, where hooks are not named.
        source: name of the hook that is read.
        target: name of the hook at which it answers.
        widths: of the hooks by name.

    Raises:
        ValueError: if there are no such hooks, or only one side is given.
    """
    if source is None and target is None:
        if d_out is None:
            return None
        check_whole(1, d_in=d_in, d_out=d_out)
        return Ends(slice(0, d_in), slice(d_in, d_in + d_out), d_in + d_out)
    if source is None or target is None or d_out is not None:
        raise ValueError(
            f"source={source}, target={target}, d_out={d_out}: expected both names of hooks and no d_out, which their "
            "widths say; or d_in and d_out alone"
        )
    check_targets({source: target}, widths or {}, "source and target")
    columns = columns_by_part(widths or {})
    return Ends(columns[source], columns[target], sum((widths or {}).values()))


def check_targets(targets: Mapping[str, str], widths: Mapping[str, int], option: str) -> None:
    """Check that hooks that are read and answered at are two of the data.

    Args:
        targets: the hook of the answer by that which is read.
        widths: of the hooks by name.
        option: what the user gave, for the message.

    Raises:
        ValueError: if one is missing, or both are the same.
    """
    for source, target in targets.items():
        if missing := [name for name in (source, target) if name not in widths]:
            has = f"the hooks {', '.join(widths)}" if widths else "one hook"
            raise ValueError(
                f"{option}: {source} -> {target}, and the data have {has}, without {missing[0]}: name both under "
                "data.hook, such as hook: {mlp_in: model.layers.2.post_attention_layernorm, mlp_out: "
                "model.layers.2.mlp}"
            )
        if source == target:
            raise ValueError(f"{option}: {source} answers at itself, as an SAE does: leave it out")


def part_read_by(member: Member, sae: "SparseAutoencoder", targets: Mapping[str, str]) -> str:
    """Return the part of the activations that a member reads: that of its name, but for controls shown the target.

    Among transcoders an SAE is one of the target, see `controls.base.Control.reads_target`.

    Args:
        member: of a module.
        sae: the member itself.
        targets: of the module, the hook at which transcoders answer by that which they read.
    """
    return member.part if sae.is_transcoder else targets.get(member.part, member.part)


def refuse_options(d_out: int | None, skip: bool, input_norm: str | None) -> None:
    """Refuse options that an SAE, or a transcoder, does not have.

    Raises:
        ValueError: for a skip path of an SAE, or an `input_norm` of a transcoder.
    """
    if skip and d_out is None:
        raise ValueError(
            "skip=True: the skip path of an SAE could give back what it reads; it is for a transcoder, which has "
            "d_out, or source and target"
        )
    if d_out is not None and input_norm is not None:
        raise ValueError(
            f"input_norm={input_norm}: what a transcoder answers with has norms of its own, to which those of what it "
            "reads do not lead back; expected null"
        )


def refuse_wrong_target(sae: "SparseAutoencoder", target: Tensor | None, call: str) -> NoReturn:
    """Refuse activations of the other side that are missing, or given to an SAE.

    Args:
        sae: which was called.
        target: what was given.
        call: how it is called, for the message.

    Raises:
        ValueError: always.
    """
    given = "no activations" if target is None else f"activations {list(target.shape)}"
    wanted = f"[..., d_out={sae.d_out}] of a transcoder" if sae.is_transcoder else "none of an SAE"
    raise ValueError(f"{given} of the target: expected {wanted}, as in {call}")


def refuse_transcoders(saes: Iterable["SparseAutoencoder"], what: str) -> None:
    """Refuse transcoders where it is not known yet what a question means for them.

    Args:
        saes: what is asked about.
        what: the question, as the user named it.

    Raises:
        ValueError: if one is a transcoder.
    """
    if any(sae.is_transcoder for sae in saes):
        raise ValueError(
            f"{what} takes what an SAE answers for what it read, and a transcoder answers at another place of the "
            "model: leave it out, or give an SAE"
        )


def refuse_crosscoders(saes: Iterable["SparseAutoencoder"], what: str) -> None:
    """Refuse crosscoders where it is not known yet what a question means for them, see `refuse_transcoders`."""
    if any(sae.crosscoder for sae in saes):
        raise ValueError(
            f"{what} takes an SAE of one place of a model, and a crosscoder reads and answers at several: leave it "
            "out, or give an SAE"
        )


def refuse_several_hooks(saes: Iterable["SparseAutoencoder"], what: str) -> None:
    """Refuse transcoders and crosscoders."""
    saes = list(saes)
    refuse_transcoders(saes, what)
    refuse_crosscoders(saes, what)
