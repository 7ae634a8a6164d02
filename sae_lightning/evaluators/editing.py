"""`Editing`: attributes are edited by masks over latents, and by masks over coordinates that are no SAE's.

What `CausalEditing` and `AttributeEditing` have in common: whose coordinates are swapped, how masks are trained and
tested, and what the answers come to. They differ in what the model reads and how it is asked.

A transcoder stands in for the MLP at the positions that are edited: its latents are those of what it reads there, and
its answer stands at its target. Coordinates that are no SAE's are those of its target.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, TypeAlias, TypeVar

import torch
from jaxtyping import Float
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from sae_lightning.causal.masks import Coordinates, train_mask
from sae_lightning.causal.swaps import Swaps
from sae_lightning.checks import check_above, check_whole
from sae_lightning.distributed import world_size
from sae_lightning.evaluators.base import datamodule_of, evaluate_across_ranks, evaluated_members
from sae_lightning.evaluators.latent_scores import LatentScores
from sae_lightning.evaluators.repeats import Repeated, seed_of
from sae_lightning.evaluators.scores import Items, Scores
from sae_lightning.members import Member, by_part
from sae_lightning.metric import Metric
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.module import SAEModule

M = TypeVar("M")
T = TypeVar("T")

_SEED = 0
_LONG_SECONDS = 60
_DO_NOTHING, _FULL_SWAP = "do_nothing", "full_swap"

PairLoss: TypeAlias = Callable[[Swaps, Tensor, Tensor, str], Tensor]
"""Mean loss over some pairs: their numbers, their edited activations, the hook where these stand."""

IsCorrect: TypeAlias = Callable[[Swaps, Callable[[Tensor], Tensor], str], Tensor]
"""Whether each pair has the answer that is looked for: what gives the edited activations of pairs by number; the hook.
"""

EditAccuracy: TypeAlias = Mapping[Member, Mapping[str, Tensor]]
"""Whether each test pair has the answer that is looked for, by member or reference, then by attribute."""


class Editing(Repeated):
    """An evaluator that swaps attributes by trained masks.

    Args:
        n_train_pairs: pairs of each kind, cause and isolation, that a mask is trained on, for each attribute.
        n_test_pairs: pairs of each kind that it is tested on.
        n_epochs: how often training goes through its pairs.
        batch_size: pairs in a step of training, of both kinds together, 2 or more.
        learning_rate: of the mask, by Adam.
        n_repeats: draws of what the model is asked, of pairs, and of their order in training.
        every_n_validations: 0 for the last validation alone, and `sae validate` and `sae test`.
    """

    takes_transcoders = True
    metrics: ClassVar[tuple[Metric, Metric, Metric]]
    """Cause, isolation and their mean."""

    def __init__(
        self,
        n_train_pairs: int,
        n_test_pairs: int,
        n_epochs: int,
        batch_size: int,
        learning_rate: float,
        n_repeats: int,
        every_n_validations: int,
    ) -> None:
        super().__init__(n_repeats, every_n_validations)
        check_whole(1, n_train_pairs=n_train_pairs, n_test_pairs=n_test_pairs, n_epochs=n_epochs)
        check_whole(2, batch_size=batch_size, hint="a cause and an isolation pair")
        check_above(0, learning_rate=learning_rate, hint="for example 0.01")
        self.n_train_pairs, self.n_test_pairs = n_train_pairs, n_test_pairs
        self.n_epochs, self.batch_size, self.learning_rate = n_epochs, batch_size, learning_rate
        self._swaps: Sequence[SwapsOfDraw] = ()

    def edit_accuracy(
        self,
        repeat: int,
        trainer: Trainer,
        module: SAEModule,
        x_train: Float[Tensor, "n d_in"],
        x_test: Float[Tensor, "m d_in"],
        loss: PairLoss,
        is_correct: IsCorrect,
    ) -> EditAccuracy:
        """Train and test masks for every member and reference, a part of them on each rank.

        Args:
            repeat: number of the draw.
            trainer: of the run.
            module: whose members.
            x_train: activations that training pairs name.
            x_test: activations that test pairs name.
            loss: of training pairs.
            is_correct: of test pairs.
        """
        edits: dict[Member, _Edit] = {}
        members = edited_members(trainer, module)
        for part, members_of_part in by_part(members).items():
            hook = module.targets.get(part, part)
            for member in members_of_part:
                train, test = (module.activations_for(member, x) for x in (x_train, x_test))
                edits[member] = _Edit(partial(Coordinates.of_sae, members[member]), train, test, hook)
            train, test = (_written(module, members_of_part[0], x) for x in (x_train, x_test))
            neurons = torch.eye(train.shape[1], device=train.device)
            for name, rotation in (
                ("neurons", neurons),
                ("pca", principal_components(train)),
                ("random_rotation", random_rotation(train.shape[1], repeat).to(train)),
            ):
                edits[Member(name, 0, part)] = _Edit(partial(Coordinates.of_rotation, rotation), train, test, hook)
            for name, mask in ((_FULL_SWAP, torch.ones_like(neurons[0])), (_DO_NOTHING, torch.zeros_like(neurons[0]))):
                edits[Member(name, 0, part)] = _Edit(partial(Coordinates.of_rotation, neurons), train, test, hook, mask)
        measure = partial(self._train_and_test, repeat, loss, is_correct)
        n_measured = -(-len(edits) // world_size())
        tested = evaluate_across_ranks(edits, said_how_long(type(self).__name__, n_measured, measure))
        swapped = {member: tested[member].share_of_masks for member in members}
        self.latent_scores.append(LatentScores("edit_choices", "edits of an attribute that swap it", swapped))
        return {member: own.correct for member, own in tested.items()}

    def _train_and_test(
        self, repeat: int, loss: PairLoss, is_correct: IsCorrect, member: Member, edit: "_Edit"
    ) -> "_Tested":
        """Train a mask for each attribute, and ask for each test pair whether it has the answer that is looked for."""
        train, test = edit.coordinates(edit.train), edit.coordinates(edit.test)
        correct, masks = {}, []
        for attribute, swaps in self._swaps[repeat].train.items():
            mask = edit.mask
            if mask is None:

                def mean_loss(pairs: Tensor, edited: Tensor, swaps: Swaps = swaps) -> Tensor:
                    return loss(swaps, pairs, edited, edit.hook)

                batches = swaps.batches(self.n_epochs, self.batch_size, seed_of(_SEED, repeat))
                mask = train_mask(train, swaps, mean_loss, batches, self.learning_rate).float()
            masks.append(mask)
            test_swaps = self._swaps[repeat].test[attribute]
            correct[attribute] = is_correct(test_swaps, partial(_swapped, test, test_swaps, mask), edit.hook)
        fires = train.code.firing_counts() > 0
        return _Tested(correct, torch.stack(masks).mean(0).where(fires, torch.nan).cpu())

    def editing_scores(self, repeat: int, accuracy: EditAccuracy) -> Iterator[Scores]:
        """Compute cause, isolation and score: means over attributes of shares of pairs."""
        test = self._swaps[repeat].test
        cause, isolation = [(attribute, True) for attribute in test], [(attribute, False) for attribute in test]
        for metric, kinds in zip(self.metrics, (cause, isolation, cause + isolation), strict=True):
            yield self.mean_of_shares(metric, repeat, kinds, accuracy)

    def mean_of_shares(
        self, metric: Metric, repeat: int, kinds: Sequence[tuple[str, bool]], accuracy: EditAccuracy
    ) -> Scores:
        """Return the mean over kinds of pairs of the share of correct pairs; the floor is the edit that does nothing.

        Args:
            metric: which.
            repeat: number of the draw.
            kinds: an attribute, and whether its cause pairs or its isolation pairs.
            accuracy: whether each test pair is correct.
        """
        test = self._swaps[repeat].test
        places = {(name, True): slice(None, test[name].n_cause) for name, _ in kinds}
        places |= {(name, False): slice(test[name].n_cause, None) for name, _ in kinds}
        groups = {
            member: [correct[kind[0]][places[kind]].double() for kind in kinds] for member, correct in accuracy.items()
        }
        values = {member: float(torch.stack([each.mean() for each in own]).mean()) for member, own in groups.items()}
        floors = {member.part: values.pop(member) for member in groups if member.policy == _DO_NOTHING}
        names = [(kind, name) for kind in kinds for name in test[kind[0]].names[places[kind]]]
        items = Items(
            {member: torch.cat([correct / len(correct) for correct in groups[member]]) for member in values},
            {
                member: torch.cat([torch.full_like(correct, 1 / len(correct)) for correct in groups[member]])
                for member in values
            },
            names=dict.fromkeys(values, names) if names else None,
        )
        return Scores(metric, values, floors, items)


@dataclass(frozen=True)
class SwapsOfDraw:
    """Pairs of one draw, by attribute.

    Args:
        train: that masks are trained on.
        test: other pairs, that they are tested on.
    """

    train: Mapping[str, Swaps]
    test: Mapping[str, Swaps]


@dataclass(frozen=True)
class _Edit:
    """What is edited: in which coordinates, activations of the training and of the test pairs, where, by which mask.

    The mask is trained where there is none.
    """

    coordinates: Callable[[Tensor], Coordinates]
    train: Tensor
    test: Tensor
    hook: str
    mask: Tensor | None = None


def edited_members(trainer: Trainer, module: SAEModule) -> dict[Member, SparseAutoencoder]:
    """Return the members whose latents are edited: nulls of several hooks together have no hook to be edited alone."""
    datamodule = datamodule_of(trainer)
    joint = datamodule.null_parts if datamodule is not None and datamodule.hook_widths else ()
    return {member: sae for member, sae in evaluated_members(trainer, module).items() if member.part not in joint}


def said_how_long(name: str, n: int, measure: Callable[[Member, M], T]) -> Callable[[Member, M], T]:
    """Return the same function, which says after its first call how long all calls will take where that is minutes.

    Args:
        name: of the evaluator.
        n: number of calls.
        measure: of a member.
    """
    is_first = True

    def measured(member: Member, value: M) -> T:
        nonlocal is_first
        begin, result = time.monotonic(), measure(member, value)
        seconds = time.monotonic() - begin
        if is_first and seconds * n > _LONG_SECONDS:
            rank_zero_info(
                f"{name}: {seconds:.0f} s for {member}, the first of {n} SAEs and references: at most "
                f"{seconds * n / 60:.0f} minutes for all."
            )
        is_first = False
        return result

    return measured


@dataclass(frozen=True)
class _Tested:
    """What came of the edits in some coordinates.

    Args:
        correct: whether each test pair has the answer that is looked for, by attribute.
        share_of_masks: [d] share of the attributes whose mask names a coordinate; nan for one that is 0 on all
            training activations, which no mask could learn to name.
    """

    correct: Mapping[str, Tensor]
    share_of_masks: Tensor


def _written(module: SAEModule, member: Member, x: Tensor) -> Tensor:
    """Return the activations where a member writes."""
    target = module.target_for(member, x)
    return module.activations_for(member, x) if target is None else target


def _swapped(coordinates: Coordinates, swaps: Swaps, mask: Tensor, pairs: Tensor) -> Tensor:
    return coordinates.swapped(swaps.base[pairs], swaps.source[pairs], mask)


def principal_components(x: Float[Tensor, "n d_in"]) -> Float[Tensor, "d_in d_in"]:
    """Return orthonormal rows along which the samples vary, all d_in of them."""
    return torch.linalg.eigh(x.T.double().cov()).eigenvectors.T.to(x)


def random_rotation(d_in: int, repeat: int = 0) -> Float[Tensor, "d_in d_in"]:
    """Return orthonormal rows, the same each time."""
    return torch.linalg.qr(torch.randn(d_in, d_in, generator=torch.Generator().manual_seed(seed_of(_SEED, repeat)))).Q
