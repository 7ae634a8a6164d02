"""`Editing`: attributes are edited by masks over latents, and by masks over coordinates that are no SAE's.

What `CausalEditing` and `AttributeEditing` have in common: whose coordinates are swapped, how masks are trained and
tested, and what the answers come to. They differ in what the model reads and how it is asked.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, TypeAlias

import torch
from jaxtyping import Float
from lightning.pytorch import Trainer
from torch import Tensor

from sae_lightning.causal.masks import Coordinates, train_mask
from sae_lightning.causal.swaps import Swaps
from sae_lightning.evaluators.base import Evaluator, Items, Scores, share_members
from sae_lightning.members import by_part
from sae_lightning.saes.module import SAEModule, curve, part_of

_SEED = 0
_DO_NOTHING, _FULL_SWAP = "do_nothing", "full_swap"

Loss: TypeAlias = Callable[[Swaps, Tensor, Tensor, str], Tensor]
"""Mean loss over some pairs: their numbers, their edited activations, the part of the activations."""

AreRight: TypeAlias = Callable[[Swaps, Callable[[Tensor], Tensor], str], Tensor]
"""Whether each pair is answered as it should be: given numbers of pairs, what stands at the hook; and the part."""

Right: TypeAlias = Mapping[str, Mapping[str, Tensor]]
"""Whether each test pair is answered as it should be, by member or reference, then by attribute."""


class Editing(Evaluator):
    """An evaluator that swaps attributes by trained masks.

    Args:
        n_train_pairs: pairs of each kind, cause and isolation, that a mask is trained on, for each attribute.
        n_test_pairs: pairs of each kind that it is tested on.
        n_epochs: how often training goes through its pairs.
        batch_size: pairs in a step of training, of both kinds together, 2 or more.
        learning_rate: of the mask, by Adam.
        every_n_validations: 0 for the last validation alone, and `sae validate` and `sae test`.
    """

    prefix: ClassVar[str]
    """With which the names of the metrics begin."""

    def __init__(
        self,
        n_train_pairs: int,
        n_test_pairs: int,
        n_epochs: int,
        batch_size: int,
        learning_rate: float,
        every_n_validations: int,
    ) -> None:
        super().__init__(every_n_validations)
        for name, value in (("n_train_pairs", n_train_pairs), ("n_test_pairs", n_test_pairs), ("n_epochs", n_epochs)):
            if value < 1:
                raise ValueError(f"{name}={value}: expected 1 or more")
        if batch_size < 2:
            raise ValueError(f"batch_size={batch_size}: expected 2 or more, a cause and an isolation pair")
        if learning_rate <= 0:
            raise ValueError(f"learning_rate={learning_rate}: expected more than 0, for example 0.01")
        self.n_train_pairs, self.n_test_pairs = n_train_pairs, n_test_pairs
        self.n_epochs, self.batch_size, self.learning_rate = n_epochs, batch_size, learning_rate
        self._train: Mapping[str, Swaps] = {}
        self._test: Mapping[str, Swaps] = {}

    def right(
        self, trainer: Trainer, module: SAEModule, x_train: Tensor, x_test: Tensor, loss: Loss, are_right: AreRight
    ) -> Right:
        """Trains and tests masks for every member and reference, a part of them on each rank.

        Args:
            trainer: of the run.
            module: whose members.
            x_train: [n, d_in] activations that training pairs name.
            x_test: [m, d_in] activations that test pairs name.
            loss: of training pairs.
            are_right: of test pairs.
        """
        edits: dict[str, _Edit] = {}
        members = self.asked(trainer, module)
        for part, of_part in by_part(members).items():
            train, test = (module.read_by(of_part[0], x) for x in (x_train, x_test))
            for member in of_part:
                edits[member] = _Edit(partial(Coordinates.of_sae, members[member]), train, test)
            neurons = torch.eye(train.shape[1], device=train.device)
            for name, rotation in (
                ("neurons", neurons),
                ("pca", principal_components(train)),
                ("random_rotation", random_rotation(train.shape[1]).to(train)),
            ):
                edits[reference(part, name)] = _Edit(partial(Coordinates.of_rotation, rotation), train, test)
            for name, mask in ((_FULL_SWAP, torch.ones_like(neurons[0])), (_DO_NOTHING, torch.zeros_like(neurons[0]))):
                edits[reference(part, name)] = _Edit(partial(Coordinates.of_rotation, neurons), train, test, mask)
        return share_members(edits, partial(self._measure, loss, are_right))

    def _measure(self, loss: Loss, are_right: AreRight, name: str, edit: "_Edit") -> dict[str, Tensor]:
        part = part_of(name)
        train, test = edit.coordinates(edit.train), edit.coordinates(edit.test)
        right = {}
        for attribute, swaps in self._train.items():
            mask = edit.mask
            if mask is None:

                def mean_loss(pairs: Tensor, edited: Tensor, swaps: Swaps = swaps) -> Tensor:
                    return loss(swaps, pairs, edited, part)

                batches = swaps.batches(self.n_epochs, self.batch_size, _SEED)
                mask = train_mask(train, swaps, mean_loss, batches, self.learning_rate).float()
            of_test = self._test[attribute]
            right[attribute] = are_right(of_test, partial(_swapped, test, of_test, mask), part)
        return right

    def editing_scores(self, right: Right) -> dict[str, Scores]:
        """Cause, isolation and score: means over attributes of shares of pairs."""
        n_cause = {attribute: swaps.n_cause for attribute, swaps in self._test.items()}
        kinds = {
            "cause": {name: [of[a][:n] for a, n in n_cause.items()] for name, of in right.items()},
            "isolation": {name: [of[a][n:] for a, n in n_cause.items()] for name, of in right.items()},
        }
        kinds["score"] = {name: kinds["cause"][name] + kinds["isolation"][name] for name in right}
        return {f"{self.prefix}_{kind}": mean_of_shares(shares) for kind, shares in kinds.items()}


@dataclass(frozen=True)
class _Edit:
    """What is edited: in which coordinates, the activations of the training and of the test pairs, by which mask."""

    coordinates: Callable[[Tensor], Coordinates]
    train: Tensor
    test: Tensor
    mask: Tensor | None = None


def mean_of_shares(shares: Mapping[str, list[Tensor]]) -> Scores:
    """The mean over attributes, or kinds, of the share of pairs that are right, and the floor, which does nothing."""
    values = {name: float(torch.stack([of.double().mean() for of in parts]).mean()) for name, parts in shares.items()}
    floors = {part_of(name): values.pop(name) for name in shares if curve(name) == f"{_DO_NOTHING}/0"}
    items = Items(
        {name: torch.cat([of.double() / len(of) for of in shares[name]]) for name in values},
        {name: torch.cat([torch.full((len(of),), 1 / len(of)).double() for of in shares[name]]) for name in values},
    )
    return Scores(values, floors, "higher", items)


def _swapped(coordinates: Coordinates, swaps: Swaps, mask: Tensor, pairs: Tensor) -> Tensor:
    return coordinates.swapped(swaps.base[pairs], swaps.source[pairs], mask)


def principal_components(x: Float[Tensor, "n d_in"]) -> Float[Tensor, "d_in d_in"]:
    """Orthonormal rows along which the samples vary, all d_in of them."""
    return torch.linalg.eigh(x.T.double().cov()).eigenvectors.T.to(x)


def random_rotation(d_in: int) -> Float[Tensor, "d_in d_in"]:
    """Orthonormal rows, the same each time."""
    return torch.linalg.qr(torch.randn(d_in, d_in, generator=torch.Generator().manual_seed(_SEED))).Q
