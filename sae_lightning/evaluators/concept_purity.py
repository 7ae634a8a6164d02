"""Do the images on which a latent fires most strongly have something in common?

Korznikov et al. 2026, arXiv 2602.14111 (appendix G), look at images of latents of CLIP that fire on less than 0.1 %
of activations, trained and random, without a score. Here the same images are counted; see `interpretation.concepts`
for the formulas.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from sae_lightning.checks import check_whole
from sae_lightning.distributed import all_gather_object, rank, world_size
from sae_lightning.evaluators.image_evaluator import ImageEvaluator
from sae_lightning.evaluators.repeats import Repeated, seed_of
from sae_lightning.evaluators.scores import Items, Scores
from sae_lightning.images import Embedding, ImageReader, PixelEmbedding
from sae_lightning.interpretation.concepts import Concepts, matching_weights, similarity_above_pool
from sae_lightning.interpretation.latents_on_images import LatentsOnImages
from sae_lightning.members import Member, by_part
from sae_lightning.metric import Metric, Question
from sae_lightning.metrics.random_dictionary import isotropic_directions, random_dictionary
from sae_lightning.saes.module import SAEModule

# Not a seed that somebody gives to data or SAEs.
_SEED = 0xD1_4E45

_NONE_SCORED = "no sampled latent fires on n_top images or, at equal frequency, the SAEs share no range of it"

IN_COMMON = Question("concepts", "Have the images of a latent something in common?", order=80)
_FLOOR = "random sets of images of the same pool"
PURITY = Metric(
    "concept_purity",
    "Purity of the images on which a latent fires most",
    IN_COMMON,
    better="higher",
    floor=_FLOOR,
    computed="of the n_top images on which a latent fires most strongly, the share with the most common value of an "
    "attribute, corrected for chance as (share - chance) / (1 - chance), for the attribute for which that is largest; "
    "mean over the sampled latents that fire on n_top images or more",
    is_headline=True,
)
PURITY_MATCHED = Metric(
    "concept_purity_matched",
    "The same, at equal firing frequency",
    IN_COMMON,
    better="higher",
    floor=_FLOOR,
    computed="purity, weighted so that the latents of all SAEs have one distribution of firing frequency",
)
ENTROPY = Metric(
    "class_entropy",
    "Entropy of their best attribute",
    IN_COMMON,
    better="lower",
    floor=_FLOOR,
    computed="entropy of the values of the attribute with the largest purity among the same images, over the largest "
    "entropy that they could have; mean over the same latents",
)
SIMILARITY = Metric(
    "top_similarity",
    "Similarity of these images in pixels, above random pairs",
    IN_COMMON,
    better="higher",
    floor="random pairs of images of the same pool",
    computed="mean cosine of two of the same images in an embedding that the SAE does not know, minus that of two "
    "images of the pool; mean over the same latents",
)
ELIGIBLE = Metric(
    "concept_eligible_fraction",
    "Latents that could be sampled",
    IN_COMMON,
    computed="share of all latents that fire, and on no more than max_frequency of the activations",
)
SCORED = Metric(
    "concept_scored_fraction",
    "Sampled latents with enough images",
    IN_COMMON,
    computed="share of the sampled latents that fire on n_top images or more",
)
FREQUENCY = Metric(
    "concept_median_frequency",
    "Firing frequency of the scored latents, median",
    IN_COMMON,
    computed="median over scored latents of the share of activations on which they fire",
)


class ConceptPurity(Repeated, ImageEvaluator):
    """Log what the images on which a latent fires most strongly have in common, means over sampled latents.

    - concept_purity: share of a latent's images with the most common value of an attribute, corrected for chance, for
      the attribute for which that is largest; at most 1, higher is better. The floor is that of random images.
    - concept_purity_matched: the same, weighted so that the latents of all members have one distribution of firing
      frequency (within a factor of 2), since purity depends on it; nan where members share no range.
    - class_entropy: of the values of that attribute, 0 if all images have the same, 1 if they are spread as evenly as
      can be; lower is better. The floor is that of random images.
    - top_similarity: mean cosine of two of the images in an embedding that the SAE does not know, minus that of two
      random images; higher is better, floor 0.
    - concept_eligible_fraction: share of all latents that may be sampled.
    - concept_scored_fraction: share of the sampled that fire on n_top images or more; the others have no score.
    - concept_median_frequency: of the scored latents.

    The first three need images with attributes. Latents are compared by their largest activation at any position of an
    image. Beside the SAEs stand dimensions of the activation, either sign, as `neurons/0`, and isotropic random
    directions as `random_directions/0`: the images where these are largest are those of a latent that fires at any
    threshold, so they need no matching. Intervals are over latents, and say nothing of other images or attributes.

    Args:
        embedding: in which images are compared: PixelEmbedding, or ClipEmbedding with another model. Default:
            PixelEmbedding.
        n_latents: sampled of each member, or as many as are alive; the same numbers for all as far as they are.
        n_top: images of a latent, at least 2.
        n_images: held-out images, or as many as there are.
        max_frequency: latents that fire on a larger share of activations are not sampled; 0.001 in the paper.
        n_repeats: draws of latents, and of the directions beside them; values are means over them.
        every_n_validations: the last validation always counts; 0 for that one alone.
    """

    declares = (PURITY, PURITY_MATCHED, ENTROPY, SIMILARITY, ELIGIBLE, SCORED, FREQUENCY)

    def __init__(
        self,
        embedding: Embedding | None = None,
        n_latents: int = 200,
        n_top: int = 10,
        n_images: int = 2000,
        max_frequency: float = 1.0,
        n_repeats: int = 1,
        every_n_validations: int = 0,
    ) -> None:
        super().__init__(n_repeats, n_images, max_frequency, every_n_validations)
        check_whole(1, n_latents=n_latents)
        check_whole(2, n_top=n_top)
        check_whole(2 * n_top, n_images=n_images, hint=f"twice as many as n_top={n_top}, such as 2000")
        self.embedding = PixelEmbedding() if embedding is None else embedding
        self.n_latents, self.n_top = n_latents, n_top

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that there are enough images, and that the embedding is another model's."""
        super().setup(trainer, pl_module, stage)
        n = len(self.datamodule.images.numbers("heldout"))
        if n < 2 * self.n_top:
            raise ValueError(
                f"ConceptPurity: n_top={self.n_top}: expected at most half of the {n} held-out images; give more "
                "images, a smaller data.images.heldout_every, or a smaller n_top"
            )
        self.embedding.check(self.datamodule.source)

    def scores_by_repeat(self, trainer: Trainer, module: SAEModule, stage: str) -> Iterator[list[Scores]]:
        """Show the images to the model once, and once to the embedding, for the latents of all repeats."""
        numbers, frequencies, repeats = self.pool(), self.frequencies(), range(self.n_repeats)
        latents = [
            {member: self.draw(each, self.n_latents, r) for member, each in frequencies.items()} for r in repeats
        ]
        union = {member: torch.cat([of_draw[member] for of_draw in latents]).unique() for member in frequencies}
        readers = {member: self.reader(module, member, of_member) for member, of_member in union.items()}
        references = self._references()
        for member, draws in references.items():
            directions = torch.cat([rows for rows, _ in draws]).to(module.device)
            readers[member] = partial(_project, module, member, directions)
        strongest = LatentsOnImages(self.datamodule, module.device, numbers, readers).strongest(self.n_top)
        concepts = Concepts(self.datamodule.images, numbers, self.n_top)
        vectors = self._embeddings(numbers, module.device)
        for repeat in repeats:
            columns = {member: torch.searchsorted(union[member], own) for member, own in latents[repeat].items()}
            names: dict[Member, list[Hashable]] = {member: own.tolist() for member, own in latents[repeat].items()}
            for member, draws in references.items():
                names[member] = draws[repeat][1]
                columns[member] = repeat * len(names[member]) + torch.arange(len(names[member]))
            own_columns = {
                member: (values[:, columns[member]], places[:, columns[member]])
                for member, (values, places) in strongest.items()
            }
            yield list(self._scores_of(_Drawn(latents[repeat], frequencies, own_columns, names), concepts, vectors))

    def _scores_of(self, drawn: "_Drawn", concepts: Concepts, vectors: Tensor) -> Iterator[Scores]:
        """Score the latents of one repeat."""
        # Whether the last of its n_top activations is one: a reference is nowhere exactly 0.
        is_scored = {member: values[-1] != 0 for member, (values, _) in drawn.strongest.items()}
        sets = {member: places.T[is_scored[member]] for member, (_, places) in drawn.strongest.items()}
        names = {
            member: [name for name, scored in zip(drawn.names[member], which.tolist(), strict=True) if scored]
            for member, which in is_scored.items()
        }
        rates = {member: drawn.frequencies[member][drawn.latents[member]][is_scored[member]] for member in self.saes}
        for scores in self._concept_scores(concepts, sets, rates):
            yield _with_names(scores, names)
        similarity = {member: similarity_above_pool(vectors, places) for member, places in sets.items()}
        yield _mean(SIMILARITY, Items.mean(similarity, False, names), 0.0)
        eligible = {member: self.eligible(frequency).double().mean() for member, frequency in drawn.frequencies.items()}
        yield Scores(ELIGIBLE, {member: float(share) for member, share in eligible.items()}, None)
        shares = {member: float(is_scored[member].double().mean()) for member in self.saes}
        yield Scores(SCORED, shares, None, undefined="no latent fires, or none on max_frequency or less")
        medians = {member: median(values.tolist()) if len(values) else torch.nan for member, values in rates.items()}
        yield Scores(FREQUENCY, medians, None, undefined=_NONE_SCORED)

    def _references(self) -> dict[Member, list[tuple[Tensor, list[Hashable]]]]:
        """Return for each repeat directions that are no SAE's, as many as latents are sampled, and their names."""
        references: dict[Member, list[tuple[Tensor, list[Hashable]]]] = {}
        for part, (member, *_) in by_part(self.saes).items():
            d_in, n = self.saes[member].d_in, self.n_latents
            neurons, random = Member("neurons", 0, part), Member("random_directions", 0, part)
            references[neurons], references[random] = [], []
            for repeat in range(self.n_repeats):
                generator = torch.Generator().manual_seed(seed_of(_SEED, repeat))
                order = torch.randperm(2 * d_in, generator=generator)[:n]
                either_sign = torch.cat([torch.eye(d_in), -torch.eye(d_in)])
                references[neurons].append((either_sign[order], order.tolist()))
                rows = isotropic_directions(n, d_in, generator) if repeat else random_dictionary(n, d_in)
                references[random].append((rows, [(repeat, i) for i in range(n)]))
        return references

    def _concept_scores(
        self, concepts: Concepts, sets: Mapping[Member, Tensor], rates: Mapping[Member, Tensor]
    ) -> Iterator[Scores]:
        """Score sets of images by their attributes; nothing where no attribute varies."""
        if concepts.floor is None:
            return
        floor_of_purity, floor_of_entropy = concepts.floor
        purity, entropy = {}, {}
        for member, sets_of_member in sets.items():
            purity[member], entropy[member], _ = concepts.score(sets_of_member)
        weights = {
            member: weight
            for members in by_part(rates).values()
            for member, weight in matching_weights({member: rates[member] for member in members}).items()
        }
        weighted = {member: weight * purity[member] for member, weight in weights.items()}
        yield _mean(PURITY, Items.mean(purity, paired=False), floor_of_purity)
        yield _mean(PURITY_MATCHED, Items(weighted, weights, paired=False), floor_of_purity)
        yield _mean(ENTROPY, Items.mean(entropy, paired=False), floor_of_entropy)

    def _embeddings(self, numbers: Tensor, device: torch.device) -> Tensor:
        """Return vectors [n, d] of the images, of which each rank embeds a part."""
        reader = ImageReader(self.datamodule.images, self.embedding.preprocess, self.datamodule.reader.n_workers)
        blocks = numbers.split(self.datamodule.rows_at_once)
        own = [self.embedding.embed(reader.read(block)[0], device) for block in blocks[rank() :: world_size()]]
        ranks = all_gather_object(own)
        return torch.cat([ranks[i % len(ranks)][i // len(ranks)] for i in range(len(blocks))])


@dataclass(frozen=True)
class _Drawn:
    """Latents of one repeat, how often all fire, and their images: activations and places, the strongest first."""

    latents: Mapping[Member, Tensor]
    frequencies: Mapping[Member, Tensor]
    strongest: Mapping[Member, tuple[Tensor, Tensor]]
    names: Mapping[Member, Sequence[Hashable]]


def _with_names(scores: Scores, names: Mapping[Member, Sequence[Hashable]]) -> Scores:
    assert scores.items is not None
    own = {member: names[member] for member in scores.items.numerators}
    return replace(scores, items=replace(scores.items, names=own))


def _project(module: SAEModule, member: Member, directions: Tensor, x: Tensor) -> Tensor:
    return module.activations_for(member, x) @ directions.T


def _mean(metric: Metric, items: Items, floor: float) -> Scores:
    values = {member: float(sums.sum() / items.denominators[member].sum()) for member, sums in items.numerators.items()}
    return Scores(metric, values, floor, items, undefined=_NONE_SCORED)
