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

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import fmean

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from sae_lightning.causal.knowledge import Knowledge, ask_what_is_known
from sae_lightning.causal.prompts import EntityPrompt, EntityPrompts
from sae_lightning.causal.questions import ask, entity_activations, is_correct
from sae_lightning.causal.swaps import KnownPrompts, Swaps, known_prompts
from sae_lightning.checks import check_whole
from sae_lightning.evaluators.editing import EditAccuracy, Editing, SwapsOfDraw, edited_members
from sae_lightning.evaluators.edits import check_one_hook
from sae_lightning.evaluators.repeats import seed_of
from sae_lightning.evaluators.scores import Scores
from sae_lightning.evaluators.text_evaluator import TextEvaluator
from sae_lightning.members import Member
from sae_lightning.metric import Metric, Question
from sae_lightning.pocket import PocketFacts
from sae_lightning.saes.module import SAEModule
from sae_lightning.sources.tokens import check_next_token

_SEED = 0
_FLOOR = "an edit that changes nothing"
_COMMONEST = "a model that always gives the commonest value"

CHANGES_ONE_FACT = Question(
    "causal",
    "Does an edit change one fact and no other?",
    order=60,
    title="Causal edits",
    lead="Latents of one fact are replaced by those of another: does that fact change, and no other?",
)
CAUSE = Metric(
    "causal_cause",
    "An edit changes the fact it should",
    CHANGES_ONE_FACT,
    better="higher",
    floor=_FLOOR,
    computed="share of prompts about the edited attribute after which the model gives the value of the other entity; "
    "mean over attributes",
)
ISOLATION = Metric(
    "causal_isolation",
    "An edit leaves other facts alone",
    CHANGES_ONE_FACT,
    better="higher",
    floor=_FLOOR,
    computed="share of prompts about other attributes after which the model still gives the value of its own entity; "
    "mean over attributes",
)
SCORE = Metric(
    "causal_score",
    "Edits: mean of cause and isolation",
    CHANGES_ONE_FACT,
    better="higher",
    floor=_FLOOR,
    computed="(cause + isolation) / 2; mean over attributes",
    is_headline=True,
)
KNOWN = Metric(
    "causal_known",
    "Facts that the model knows",
    CHANGES_ONE_FACT,
    floor=_COMMONEST,
    computed="share of prompts that the model completes with the true value; mean over attributes, with those that are "
    "left out since it knows too little of them",
)


def score_of_attribute(attribute: str) -> Metric:
    """Describe the score of edits of one attribute."""
    return Metric(
        f"causal_score_{_slug(attribute)}",
        f"Edits of {attribute}: mean of cause and isolation",
        CHANGES_ONE_FACT,
        floor=_FLOOR,
        computed=f"(cause + isolation) / 2 of edits of {attribute}",
    )


def known_of_attribute(attribute: str) -> Metric:
    """Describe the share of facts about one attribute that the model knows."""
    return Metric(
        f"causal_known_{_slug(attribute)}",
        f"Facts about {attribute} that the model knows",
        CHANGES_ONE_FACT,
        floor=_COMMONEST,
        computed=f"share of prompts about {attribute} that the model completes with the true value",
    )


def _slug(attribute: str) -> str:
    return re.sub(r"\W+", "_", attribute)


class CausalEditing(TextEvaluator, Editing):
    """Log causal_cause, causal_isolation and causal_score, their mean: how well attributes can be edited by latents.

    The latents are chosen by a mask that is trained for each attribute and member; the reconstruction error is not
    added back, so a reconstruction that loses what the model needs costs isolation. Means over attributes, on entities
    and wordings that no mask was trained on. The floor leaves the model alone: cause 0, isolation 1, score 0.5. An SAE
    whose latents never fire puts its bias in place of the activation, and may be below that.

    References: full_swap, the whole activation, which has the largest cause that can be had and no isolation; neurons,
    pca and random_rotation, masks over the raw dimensions, over principal components of the training activations, and
    over a random orthonormal basis, none of which loses anything in reconstruction.

    An attribute of which the model knows too little is left out: fewer than 16 prompts in training or in test that it
    answers, or fewer than 4 of them with another answer than the commonest; and so is one that is left alone of its
    kind of entity. Before anything is trained a table says what the model knows, and where nothing is left the run is
    refused. causal_known is the share of prompts that it answers, causal_known_<attribute> that of one attribute,
    causal_score_<attribute> the score of its edits.

    The defaults suit a small model on a CPU. SAEBench has n_train_pairs 1750, n_test_pairs 750, learning_rate 0.001.

    Args:
        prompts: where entities, attributes and prompts come from: PocketFacts, FactFile for facts of your own, or
            RavelFiles. Default: PocketFacts.
        n_prompts: how many prompts the model is asked, for each attribute, in training and in test.
        n_train_pairs: pairs of each kind, cause and isolation, that a mask is trained on.
        n_test_pairs: pairs of each kind that it is tested on.
        n_epochs: how often training goes through its pairs.
        batch_size: pairs in a step of training, of both kinds together, 2 or more.
        learning_rate: of the mask, by Adam.
        n_repeats: draws of prompts, of pairs, and of their order in training; values are means over them.
        every_n_validations: 0 for the last validation alone, and `sae validate` and `sae test`.
    """

    declares = (CAUSE, ISOLATION, SCORE, score_of_attribute("ATTRIBUTE"), KNOWN, known_of_attribute("ATTRIBUTE"))

    metrics = (CAUSE, ISOLATION, SCORE)

    def __init__(
        self,
        prompts: EntityPrompts | None = None,
        n_prompts: int = 256,
        n_train_pairs: int = 256,
        n_test_pairs: int = 128,
        n_epochs: int = 2,
        batch_size: int = 16,
        learning_rate: float = 0.01,
        n_repeats: int = 1,
        every_n_validations: int = 0,
    ) -> None:
        super().__init__(
            n_train_pairs, n_test_pairs, n_epochs, batch_size, learning_rate, n_repeats, every_n_validations
        )
        check_whole(1, n_prompts=n_prompts)
        self.prompts = PocketFacts() if prompts is None else prompts
        self.n_prompts = n_prompts

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Ask the model what it knows, before anything is trained."""
        super().setup(trainer, pl_module, stage)
        assert isinstance(pl_module, SAEModule)
        check_next_token(self.datamodule.source, "CausalEditing")
        check_one_hook("CausalEditing", self.datamodule, pl_module)
        part = next(iter(pl_module.all_members)).part
        with torch.inference_mode(False), torch.no_grad():
            self._knowledge = self._ask(part)
            self._known = list(self._make_pairs())
        self._swaps = [SwapsOfDraw(train.swaps, test.swaps) for train, test in self._known]

    def _ask(self, part: str) -> list[Knowledge]:
        """Ask the model in each repeat, each prompt once, and say what it knows.

        Raises:
            ValueError: if it knows too little.
        """
        answered: dict[EntityPrompt, bool] = {}
        knowledge = []
        for repeat in range(self.n_repeats):
            ask_split = partial(
                ask_what_is_known, self.reader, self.prompts, self.n_prompts, seed_of(_SEED, repeat), part
            )
            knowledge.append(Knowledge(ask_split("train", answered), ask_split("test", answered)))
            knowledge[-1].refuse_if_nothing_is_left()
        rank_zero_info(f"CausalEditing asks the model for facts, and it knows:\n{knowledge[0].table()}")
        if reasons := knowledge[0].left_out():
            rank_zero_info(f"Left out of CausalEditing: {'; '.join(reasons.values())}.")
        return knowledge

    def _make_pairs(self) -> Iterator[tuple[KnownPrompts, KnownPrompts]]:
        """Yield training and test pairs of each repeat, about the attributes that the model knows enough of."""
        for repeat, knowledge in enumerate(self._knowledge):
            left_out = knowledge.left_out()
            kept, seed = [name for name in knowledge.attributes if name not in left_out], seed_of(_SEED, repeat)
            yield (
                known_prompts(self.reader, knowledge.train, kept, self.n_train_pairs, seed),
                known_prompts(self.reader, knowledge.test, kept, self.n_test_pairs, seed),
            )

    # Lightning validates in inference mode, whose tensors can take no part in a gradient.
    @torch.inference_mode(False)
    @torch.no_grad()
    def scores_by_repeat(self, trainer: Trainer, module: SAEModule, stage: str) -> list[list[Scores]]:
        """Train and test masks for every member and reference, a part of them on each rank."""
        reader, captured = self.reader, dict[EntityPrompt, Tensor]()

        def activations(known: KnownPrompts) -> Tensor:
            """Return activations at the entities of prompts, each of which is read in one draw alone."""
            new = [i for i, prompt in enumerate(known.prompts) if prompt not in captured]
            if new:
                rows = entity_activations(reader.source, [known.questions[i] for i in new], reader.batch_size)
                captured.update({known.prompts[i]: row for i, row in zip(new, rows, strict=True)})
            return torch.stack([captured[prompt] for prompt in known.prompts]).to(module.device)

        def loss(swaps: Swaps, pairs: Tensor, edited: Tensor, hook: str) -> Tensor:
            return ask(reader.source, [swaps.questions[i] for i in pairs], edited, hook)[0].mean()

        def is_pair_correct(swaps: Swaps, edited: Callable[[Tensor], Tensor], hook: str) -> Tensor:
            return is_correct(reader.source, swaps.questions, reader.batch_size, edited, hook)

        scores = []
        for repeat, (train, test) in enumerate(self._known):
            x_train, x_test = activations(train), activations(test)
            # Every member reads the same pairs, so what is below the hook is computed for the first of them alone.
            with reader.source.same_inputs():
                accuracy = self.edit_accuracy(repeat, trainer, module, x_train, x_test, loss, is_pair_correct)
            scores.append([*self.editing_scores(repeat, accuracy), *self._scores_of_attributes(repeat, accuracy)])
            scores[-1] += self._scores_of_model(repeat, list(edited_members(trainer, module)))
        return scores

    def _scores_of_attributes(self, repeat: int, accuracy: EditAccuracy) -> Iterator[Scores]:
        """Compute the score of each attribute."""
        for attribute in self._swaps[repeat].test:
            kinds = [(attribute, True), (attribute, False)]
            yield self.mean_of_shares(score_of_attribute(attribute), repeat, kinds, accuracy)

    def _scores_of_model(self, repeat: int, saes: Sequence[Member]) -> Iterator[Scores]:
        """Compute which share of the facts the model knows, which is the same for all SAEs."""
        knowledge = self._knowledge[repeat]
        shares = {name: (knowledge.share(name), knowledge.share_of_commonest(name)) for name in knowledge.attributes}
        known, commonest = (fmean(column) for column in zip(*shares.values(), strict=True))
        yield Scores(KNOWN, dict.fromkeys(saes, known), commonest)
        for name, (known, commonest) in shares.items():
            yield Scores(known_of_attribute(name), dict.fromkeys(saes, known), commonest)
