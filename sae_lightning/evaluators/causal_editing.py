"""Does an SAE hold an attribute of an entity, and nothing else, in latents of its own?

The disentanglement score of RAVEL (Huang, Wu, Potts, Geva, Geiger 2024, arXiv 2402.17700) with the masks of SAEBench
(Karvonen et al. 2025, arXiv 2503.09532). Of one attribute at a time, such as the country of a city: the latents that a
trained mask names go from the activation of another city into that of the city that the model reads about, at the last
token of its name.

    cause = share of prompts about the attribute where the model then gives the value of the other city
    isolation = share of prompts about the other attributes where it goes on giving the value of its own
    score = (cause + isolation) / 2

Departures: the two cities of a pair differ in both attributes; the model must know the values of both; an answer counts
as given when each of its tokens is the most likely one; loss and answers are of all tokens of the answer and not of the
first; entities and prompts are drawn and not chosen by how well the model knows them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from sae_lightning.causal.masks import Coordinates, train_mask
from sae_lightning.causal.pocket_facts import PocketFacts
from sae_lightning.causal.prompts import EntityPrompts
from sae_lightning.causal.questions import are_right, ask, entity_activations
from sae_lightning.causal.swaps import Swaps, find_known
from sae_lightning.evaluators.base import Items, Scores, share_members
from sae_lightning.evaluators.reading import TextEvaluator, TextReader, members_by_part, reference
from sae_lightning.saes.module import SAEModule, curve, part_of

_SEED = 0
_DO_NOTHING, _FULL_SWAP = "do_nothing", "full_swap"


class CausalEditing(TextEvaluator):
    """Logs causal_cause, causal_isolation and causal_score, their mean: how well attributes can be edited by latents.

    The latents are chosen by a mask that is trained for each attribute and member; the reconstruction error is not
    added back, so a reconstruction that loses what the model needs costs isolation. Means over attributes, on entities
    and wordings that no mask was trained on. The floor leaves the model alone: cause 0, isolation 1, score 0.5. An SAE
    whose latents never fire puts its bias in place of the activation, and may be below that.

    References: full_swap, the whole activation, which has the largest cause that can be had and no isolation; neurons,
    pca and random_rotation, masks over the raw dimensions, over principal components of the training activations, and
    over a random orthonormal basis, none of which loses anything in reconstruction.

    The defaults suit a small model on a CPU. SAEBench has n_train_pairs 1750, n_test_pairs 750, learning_rate 0.001.

    Args:
        prompts: where entities, attributes and prompts come from; PocketFacts by default.
        n_prompts: how many prompts the model is asked, for each attribute, in training and in test.
        n_train_pairs: pairs of each kind, cause and isolation, that a mask is trained on.
        n_test_pairs: pairs of each kind that it is tested on.
        n_epochs: how often training goes through its pairs.
        batch_size: pairs in a step of training, of both kinds together, 2 or more.
        learning_rate: of the mask, by Adam.
        every_n_validations: 0 for the last validation alone, and `sae validate` and `sae test`.
    """

    def __init__(
        self,
        prompts: EntityPrompts | None = None,
        n_prompts: int = 256,
        n_train_pairs: int = 256,
        n_test_pairs: int = 128,
        n_epochs: int = 2,
        batch_size: int = 16,
        learning_rate: float = 0.01,
        every_n_validations: int = 0,
    ) -> None:
        super().__init__(every_n_validations)
        counts = {"n_prompts": n_prompts, "n_train_pairs": n_train_pairs, "n_test_pairs": n_test_pairs}
        for name, value in {**counts, "n_epochs": n_epochs}.items():
            if value < 1:
                raise ValueError(f"{name}={value}: expected 1 or more")
        if batch_size < 2:
            raise ValueError(f"batch_size={batch_size}: expected 2 or more, a cause and an isolation pair")
        if learning_rate <= 0:
            raise ValueError(f"learning_rate={learning_rate}: expected more than 0, for example 0.01")
        self.prompts = PocketFacts() if prompts is None else prompts
        self.n_prompts, self.n_train_pairs, self.n_test_pairs = n_prompts, n_train_pairs, n_test_pairs
        self.n_epochs, self.batch_size, self.learning_rate = n_epochs, batch_size, learning_rate

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Asks the model what it knows, before anything is trained."""
        super().setup(trainer, pl_module, stage)
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        parts = [part_of(member) for member in pl_module.members]  # type: ignore[union-attr]
        widths = getattr(datamodule, "widths", None)
        if widths and not widths.keys() >= set(parts):
            raise ValueError(
                f"CausalEditing edits activations at one hook, and this SAE reads {', '.join(widths)} side "
                "by side: take a SanityPanel, which has SAEs for each, or one hook, or leave out CausalEditing"
            )
        with torch.inference_mode(False), torch.no_grad():
            find = partial(find_known, TextReader(datamodule), self.prompts, self.n_prompts, _SEED, parts[0])
            self._train, self._test = find("train", self.n_train_pairs), find("test", self.n_test_pairs)

    # Lightning validates in inference mode, whose tensors can take no part in a gradient.
    @torch.inference_mode(False)
    @torch.no_grad()
    def scores(self, trainer: Trainer, module: SAEModule, stage: str) -> dict[str, Scores]:
        """Trains and tests masks for every member and reference, a part of them on each rank."""
        reader = TextReader(trainer.datamodule)  # type: ignore[attr-defined]
        x_train, x_test = (
            entity_activations(reader.source, known.questions, reader.batch_size).to(module.device)
            for known in (self._train, self._test)
        )
        edits: dict[str, _Edit] = {}
        members = self.asked(trainer, module)
        for part, of_part in members_by_part(members).items():
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
        right = share_members(edits, partial(self._measure, reader))
        return self._scores(right)

    def _measure(self, reader: TextReader, name: str, edit: "_Edit") -> dict[str, Tensor]:
        """Whether each test pair is answered as it should be, by attribute."""
        source, hook = reader.source, part_of(name)
        train, test = edit.coordinates(edit.train), edit.coordinates(edit.test)
        right = {}
        for attribute, swaps in self._train.swaps.items():
            mask = edit.mask
            if mask is None:

                def loss(pairs: Tensor, edited: Tensor, swaps: Swaps = swaps) -> Tensor:
                    return ask(source, [swaps.questions[i] for i in pairs], edited, hook)[0].mean()

                batches = swaps.batches(self.n_epochs, self.batch_size, _SEED)
                mask = train_mask(train, swaps, loss, batches, self.learning_rate).float()
            of_test = self._test.swaps[attribute]
            swapped = partial(_swapped, test, of_test, mask)
            right[attribute] = are_right(source, of_test.questions, reader.batch_size, swapped, hook)
        return right

    def _scores(self, right: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Scores]:
        """Means over attributes of shares of pairs."""
        n_cause = {attribute: swaps.n_cause for attribute, swaps in self._test.swaps.items()}
        kinds = {
            "cause": {name: [of[a][:n] for a, n in n_cause.items()] for name, of in right.items()},
            "isolation": {name: [of[a][n:] for a, n in n_cause.items()] for name, of in right.items()},
        }
        kinds["score"] = {name: kinds["cause"][name] + kinds["isolation"][name] for name in right}
        scores = {}
        for kind, shares in kinds.items():
            values = {
                name: float(torch.stack([of.double().mean() for of in parts]).mean()) for name, parts in shares.items()
            }
            floors = {part_of(name): values.pop(name) for name in right if curve(name) == f"{_DO_NOTHING}/0"}
            items = Items(
                {name: torch.cat([of.double() / len(of) for of in shares[name]]) for name in values},
                {
                    name: torch.cat([torch.full((len(of),), 1 / len(of)).double() for of in shares[name]])
                    for name in values
                },
            )
            scores[f"causal_{kind}"] = Scores(values, floors, "higher", items)
        return scores


@dataclass(frozen=True)
class _Edit:
    """What is edited: in which coordinates, the activations of the training and of the test prompts, by which mask."""

    coordinates: Callable[[Tensor], Coordinates]
    train: Tensor
    test: Tensor
    mask: Tensor | None = None


def _swapped(coordinates: Coordinates, swaps: Swaps, mask: Tensor, pairs: Tensor) -> Tensor:
    return coordinates.swapped(swaps.base[pairs], swaps.source[pairs], mask)


def principal_components(x: Float[Tensor, "n d_in"]) -> Float[Tensor, "d_in d_in"]:
    """Orthonormal rows along which the samples vary, all d_in of them."""
    return torch.linalg.eigh(x.T.double().cov()).eigenvectors.T.to(x)


def random_rotation(d_in: int) -> Float[Tensor, "d_in d_in"]:
    """Orthonormal rows, the same each time."""
    return torch.linalg.qr(torch.randn(d_in, d_in, generator=torch.Generator().manual_seed(_SEED))).Q
