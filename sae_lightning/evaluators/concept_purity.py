"""Do the pictures on which a latent fires most strongly have something in common?

Korznikov et al. 2026, arXiv 2602.14111 (appendix G), look at pictures of latents of CLIP that fire on less than 0.1 %
of activations, trained and random, without a score. Here the same pictures are counted; see `interpretation.concepts`
for the formulas.
"""

from collections.abc import Mapping
from statistics import median
from typing import Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from sae_lightning.datamodules import ClipImages
from sae_lightning.distributed import all_gather_object, rank, world_size
from sae_lightning.evaluators.base import Items, Scores
from sae_lightning.evaluators.pictures import PictureEvaluator
from sae_lightning.images import Embedding, ImageReader, PixelEmbedding
from sae_lightning.interpretation.concepts import Concepts, matching_weights, similarity_above_pool
from sae_lightning.interpretation.pictures import PictureLatents, Read
from sae_lightning.members import by_part
from sae_lightning.metrics.random_dictionary import random_dictionary
from sae_lightning.saes.module import SAEModule

# Not a seed that somebody gives to data or SAEs.
_SEED = 0xD1_4E45


class ConceptPurity(PictureEvaluator):
    """Logs what the pictures on which a latent fires most strongly have in common, means over sampled latents.

    - concept_purity: share of a latent's pictures with the most common value of an attribute, corrected for chance, for
      the attribute for which that is largest; at most 1, higher is better. The floor is that of random pictures.
    - concept_purity_matched: the same, weighted so that the latents of all members have one distribution of firing
      frequency (within a factor of 2), since purity depends on it; nan where members share no range.
    - class_entropy: of the values of that attribute, 0 if all pictures have the same, 1 if they are spread as evenly as
      can be; lower is better. The floor is that of random pictures.
    - top_similarity: mean cosine of two of the pictures in an embedding that the SAE does not know, minus that of two
      random pictures; higher is better, floor 0.
    - concept_eligible_fraction: share of all latents that may be sampled.
    - concept_scored_fraction: share of the sampled that fire on n_top pictures or more; the others have no score.
    - concept_median_frequency: of the scored latents.

    The first three need pictures with attributes. Latents are compared by their largest activation at any position of a
    picture. Beside the SAEs stand dimensions of the activation, either sign, as `neurons/0`, and isotropic random
    directions as `random_directions/0`: the pictures where these are largest are those of a latent that fires at any
    threshold, so they need no matching. Intervals are over latents, and say nothing of other pictures or attributes.

    Args:
        embedding: in which pictures are compared: PixelEmbedding, or ClipEmbedding with another model. Default:
            PixelEmbedding.
        n_latents: sampled of each member, or as many as are alive; the same numbers for all as far as they are.
        n_top: pictures of a latent, at least 2.
        n_pictures: held-out pictures, or as many as there are.
        max_frequency: latents that fire on a larger share of activations are not sampled; 0.001 in the paper.
        every_n_validations: the last validation always counts; 0 for that one alone.
    """

    def __init__(
        self,
        embedding: Embedding | None = None,
        n_latents: int = 200,
        n_top: int = 10,
        n_pictures: int = 2000,
        max_frequency: float = 1.0,
        every_n_validations: int = 0,
    ) -> None:
        super().__init__(n_pictures, max_frequency, every_n_validations)
        if n_latents < 1:
            raise ValueError(f"n_latents={n_latents}: expected at least 1")
        if n_top < 2 or n_pictures < 2 * n_top:
            raise ValueError(
                f"n_top={n_top}, n_pictures={n_pictures}: expected at least 2 of the former and twice as many of the "
                "latter, for example 10 and 2000"
            )
        self.embedding = PixelEmbedding() if embedding is None else embedding
        self.n_latents, self.n_top = n_latents, n_top

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Checks that there are pictures enough, and that the embedding is another model's."""
        super().setup(trainer, pl_module, stage)
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        n = len(datamodule.images.numbers("heldout"))
        if n < 2 * self.n_top:
            raise ValueError(
                f"ConceptPurity: n_top={self.n_top}: expected at most half of the {n} held-out pictures; give more "
                "pictures, a smaller data.images.heldout_every, or a smaller n_top"
            )
        self.embedding.check(datamodule.source)

    def scores(self, trainer: Trainer, module: SAEModule, stage: str) -> dict[str, Scores]:
        """Shows the pictures to the model once, and once to the embedding."""
        datamodule: ClipImages = trainer.datamodule  # type: ignore[attr-defined]
        numbers, frequencies = self.pool(datamodule), self.frequencies()
        drawn = {member: self.draw(of, self.n_latents) for member, of in frequencies.items()}
        readers = {member: self.reader(module, member, latents) for member, latents in drawn.items()}
        found = PictureLatents(datamodule, module.device, numbers, readers | self._references(module)).strongest(
            self.n_top
        )
        scored = {name: values[-1] != 0 for name, (values, _) in found.items()}  # a reference is nowhere exactly 0
        sets = {name: places.T[scored[name]] for name, (_, places) in found.items()}
        rates = {member: frequencies[member][drawn[member]][scored[member]] for member in self.saes}
        return {
            **self._concept_scores(Concepts(datamodule.images, numbers, self.n_top), sets, rates),
            "top_similarity": self._similarities(datamodule, numbers, sets, module.device),
            "concept_eligible_fraction": _told(
                {member: float(self.eligible(of).double().mean()) for member, of in frequencies.items()}
            ),
            "concept_scored_fraction": _told({member: float(scored[member].double().mean()) for member in self.saes}),
            "concept_median_frequency": _told(
                {member: median(of.tolist()) if len(of) else torch.nan for member, of in rates.items()}
            ),
        }

    def _references(self, module: SAEModule) -> dict[str, Read]:
        """What is no SAE, by name."""
        readers: dict[str, Read] = {}
        for part, (member, *_) in by_part(self.saes).items():
            d_in = self.saes[member].d_in
            random = random_dictionary(self.n_latents, d_in).to(module.device)
            order = torch.randperm(2 * d_in, generator=torch.Generator().manual_seed(_SEED))[: self.n_latents]
            neurons = torch.cat([torch.eye(d_in), -torch.eye(d_in)])[order].to(module.device)
            for name, directions in (("neurons", neurons), ("random_directions", random)):
                readers[reference(part, name)] = lambda x, member=member, of=directions: (  # type: ignore[misc]
                    module.read_by(member, x) @ of.T
                )
        return readers

    def _concept_scores(
        self, concepts: Concepts, sets: Mapping[str, Tensor], rates: Mapping[str, Tensor]
    ) -> dict[str, Scores]:
        if concepts.floor is None:
            return {}
        purity, entropy = {}, {}
        for name, of in sets.items():
            purity[name], entropy[name], _ = concepts.score(of)
        weights = {
            member: weight
            for members in by_part(rates).values()
            for member, weight in matching_weights({member: rates[member] for member in members}).items()
        }
        matched = Items({of: weights[of] * purity[of] for of in weights}, weights, paired=False)
        return {
            "concept_purity": _mean(Items.mean(purity, paired=False), concepts.floor[0]),
            "concept_purity_matched": _mean(matched, concepts.floor[0]),
            "class_entropy": _mean(Items.mean(entropy, paired=False), concepts.floor[1], better="lower"),
        }

    def _similarities(
        self, datamodule: ClipImages, numbers: Tensor, sets: Mapping[str, Tensor], device: torch.device
    ) -> Scores:
        reader = ImageReader(datamodule.images, self.embedding.preprocess, datamodule.reader.n_workers)
        blocks = numbers.split(datamodule.rows_at_once)
        own = [self.embedding.embed(reader.read(block)[0], device) for block in blocks[rank() :: world_size()]]
        ranks = all_gather_object(own)
        vectors = torch.cat([ranks[i % len(ranks)][i // len(ranks)] for i in range(len(blocks))])
        return _mean(
            Items.mean({of: similarity_above_pool(vectors, places) for of, places in sets.items()}, False), 0.0
        )


def _told(values: Mapping[str, float]) -> Scores:
    return Scores(values, None)


def _mean(items: Items, floor: float, better: Literal["higher", "lower"] = "higher") -> Scores:
    values = {name: float(of.sum() / items.denominators[name].sum()) for name, of in items.numerators.items()}
    return Scores(values, floor, better, items)
