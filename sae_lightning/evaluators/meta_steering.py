"""Does a meta-latent change one attribute of an image where the latent that it explains changes several?

A latent is not atomic if a meta-SAE takes its decoder direction apart (Leask et al. 2025, arXiv 2502.04878) into parts
that do less each. Here directions are added to the activations of an image tower whose images have attributes that are
independent and known, so that what each direction does can be counted (`Steering`).
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
import yaml
from jaxtyping import Float
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.nn.functional import normalize

from sae_lightning.checks import check_inside, check_whole
from sae_lightning.code import Code
from sae_lightning.datamodules import ClipImages, DecoderDirections
from sae_lightning.datamodules.from_settings import make_datamodule
from sae_lightning.datamodules.labelled_images import LabelledImages
from sae_lightning.datamodules.norms import read_norms
from sae_lightning.evaluators.base import data_name, datamodule_of, evaluate_across_ranks
from sae_lightning.evaluators.meta_latents import MADE_OF_META_LATENTS
from sae_lightning.evaluators.repeats import Repeated, seed_of
from sae_lightning.evaluators.scores import Items, Scores
from sae_lightning.evaluators.steering import Steering, selectivity, shares
from sae_lightning.members import Member, by_part
from sae_lightning.metric import Metric
from sae_lightning.saes.init import CovarianceMatched, Isotropic
from sae_lightning.saes.module import SAEModule

# Not a seed that somebody gives to data or SAEs.
_SEED = 0x57EE_12A6

_RANDOM, _MATCHED = Member("random_directions", 0), Member("matched_directions", 0)
SELECTIVITY = Metric(
    "steering_selectivity",
    "Steering moves one attribute and no other",
    MADE_OF_META_LATENTS,
    better="higher",
    floor="isotropic random directions",
    computed="how much of what adding a direction does to zero-shot answers is done to one attribute, beyond the share "
    "that this attribute has of what random directions do, from 0 to 1; mean over directions",
)
GAIN = Metric(
    "steering_gain",
    "Steering gain",
    MADE_OF_META_LATENTS,
    better="higher",
    floor="isotropic random directions in place of the meta-latents",
    computed="mean selectivity of the meta-latents of a latent minus that of the latent; mean over latents",
)
STRENGTH = Metric(
    "steering_strength",
    "Steering strength",
    MADE_OF_META_LATENTS,
    computed="length of what is added, over the root mean square distance of activations from their mean; geometric "
    "mean over directions",
)
EFFECT = Metric(
    "steering_effect",
    "Steering effect",
    MADE_OF_META_LATENTS,
    computed="sum over attributes of the share of correct zero-shot answers that are lost; mean over directions",
)


class MetaSteering(Repeated):
    """Log how selectively the meta-latents of a meta-SAE steer, beside the latents that they explain.

    Of latents of the base, drawn at random, and of the meta-latents that fire on them, each decoder direction is added
    to the activations of held-out images, with such a strength that as many zero-shot answers are lost with each.

    - steering_selectivity: how much of what a direction does is done to one attribute, beyond the share that this has
      of what random directions do; from 0 to 1, mean over directions.
    - steering_gain: mean selectivity of the meta-latents of a latent minus that of the latent; mean over latents. A
      latent on which none fires gains 0.
    - steering_strength: in units of the root mean square distance of activations from their mean; geometric mean.
    - steering_effect: what was lost, the sum over attributes of the share of answers; below `change` where directions
      do not reach it with the largest strength, 8.

    References: latents, the base's own; random_directions, isotropic, whose selectivity is the floor, of each beside
    the others: what random directions do is never judged by what this one does;
    matched_directions, random with the covariance of the base's decoder directions. The floor of steering_gain has
    random directions in place of meta-latents. Of nulls, their rows are what latents are. The gain of the meta-latents
    of a null is what taking apart gains where there are no parts.

    Args:
        run: folder of the run of the base, which trained on ClipImages; by default that which its SAE lies in.
        attributes: which, two or more; by default all of the images that have two values or more.
        n_latents: latents of the base that were not dead, or as many as there are; and as many random directions. With
            24 a mean selectivity is known to 0.1, with 96 to 0.05.
        n_images: held-out images for each attribute.
        change: the sum over attributes of the share of correct answers that a direction shall lose, above 0 and below
            0.5. A direction that changes one attribute alone must be able to reach it.
        n_repeats: draws of latents, of random directions and of images; values are means over them.
        every_n_validations: 0 for the last validation alone, and `sae validate` and `sae test`. One costs 8 passes of
            the model over the images for each direction, or fewer.
    """

    declares = (SELECTIVITY, GAIN, STRENGTH, EFFECT)
    compares_members = True

    def __init__(
        self,
        run: str | None = None,
        attributes: list[str] | None = None,
        n_latents: int = 96,
        n_images: int = 64,
        change: float = 0.25,
        n_repeats: int = 1,
        every_n_validations: int = 0,
    ) -> None:
        super().__init__(n_repeats, every_n_validations)
        check_whole(1, n_latents=n_latents, n_images=n_images)
        lost = "since 0.5 of the answers about an attribute of two values are lost when all become one of them"
        check_inside(0, 0.5, change=change, hint=lost)
        self.run, self.attributes, self.change = run, attributes, change
        self.n_latents, self.n_images = n_latents, n_images
        self._steering: Sequence[Steering] = ()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the run of the base, and ask its model what it knows of the images."""
        super().setup(trainer, pl_module, stage)
        datamodule = datamodule_of(trainer)
        if not isinstance(datamodule, DecoderDirections):
            raise ValueError(
                f"MetaSteering needs a meta-SAE, and data={data_name(trainer)} are not the decoder directions "
                "of an SAE: take DecoderDirections, or leave out MetaSteering"
            )
        self._datamodule = datamodule
        if bool(datamodule.dead.all()):
            raise ValueError(
                f"MetaSteering: all {len(datamodule.dead)} latents of the base are dead, and dead ones are not steered "
                "with: take a base with latents that fire, or leave out MetaSteering"
            )
        if not self._steering:
            self._steering = self._make_steering(datamodule, trainer.strategy.root_device)

    def _make_steering(self, datamodule: DecoderDirections, device: torch.device) -> list[Steering]:
        folders = [Path(folder) for folder in datamodule.saes]
        run, part = _origin(folders, self.run)
        data = _images_of(run, part)
        data.source.to(device)
        widths, d_in = data.widths or {"": data.d_in}, datamodule.source.directions.shape[1]
        if widths.get(part) != d_in:
            listed = ", ".join(f"{name} {width}".lstrip() for name, width in widths.items())
            raise ValueError(
                f"MetaSteering: the activations of {run} have d_in={listed}, and the decoder directions of "
                f"{folders[0]} {d_in}: expected the run that has trained this SAE"
            )
        images = LabelledImages("MetaSteering", data, None, self.attributes)
        if len(images.attributes) < 2:
            raise ValueError(f"attributes={images.attributes}: expected two or more, of which one may be changed")
        return [
            Steering(images, images.numbers("heldout", self.n_images, repeat), part, self.n_images)
            for repeat in range(self.n_repeats)
        ]

    def scores_by_repeat(self, trainer: Trainer, module: SAEModule, stage: str) -> Iterator[list[Scores]]:
        """Steer with the directions of each member and reference, a part of them on each rank."""
        for repeat, steering in enumerate(self._steering):
            yield list(self._scores_of(steering, module, repeat))

    def _scores_of(self, steering: Steering, module: SAEModule, repeat: int) -> Iterator[Scores]:
        """Measure the scores of one repeat."""
        rows, alive = self._datamodule.rows, ~self._datamodule.dead
        order = torch.randperm(len(rows), generator=_generator(repeat))
        drawn = order[alive[order]][: self.n_latents].sort().values

        directions: dict[Member, Tensor] = {}
        codes: dict[Member, Code] = {}
        names: dict[Member, Sequence[Hashable]] = {}
        for part, members in by_part(module.members).items():
            rows_of_part = module.activations_for(members[0], rows)
            directions[_latents(part)], names[_latents(part)] = rows_of_part[drawn], drawn.tolist()
            if not part:
                n = max(2, len(drawn))  # each is judged by the others
                directions[_RANDOM] = _random(Isotropic(), rows_of_part, n, repeat)
                directions[_MATCHED] = _random(CovarianceMatched(), rows_of_part, n, repeat)
                names |= dict.fromkeys((_RANDOM, _MATCHED), [(repeat, i) for i in range(n)])
            for member in members:
                sae = module.members[member]
                code = sae.encode(rows_of_part[drawn].to(module.device))
                codes[member] = code = code.where(code.values > 0)
                meta_latents = code.indices.unique()
                names[member] = meta_latents.tolist()
                directions[member] = normalize(sae.W_dec.detach()[meta_latents], dim=1)
        steered = evaluate_across_ranks(
            directions, lambda _, unit_rows: steering.lost(unit_rows.to(module.device), self.change)
        )
        random = shares(steered[_RANDOM][0])
        usual = random.mean(0)
        selective = {member: selectivity(lost, usual) for member, (lost, _) in steered.items()}
        # What is usual must not hold what it judges, or random directions would look less selective than they are.
        selective[_RANDOM] = torch.cat(
            [
                selectivity(steered[_RANDOM][0][[i]], (random.sum(0) - random[i]) / (len(random) - 1))
                for i in range(len(random))
            ]
        )
        floor = selective[_RANDOM].mean()
        means = {member: values.mean() for member, values in selective.items()}
        silent = "no meta-latent fires on the latents that were drawn"
        yield Scores(SELECTIVITY, means, floor, Items.mean(selective, False, names), undefined=silent)
        yield _gain(selective, codes, floor, drawn.tolist())
        strengths = {member: strength.log().mean().exp() for member, (_, strength) in steered.items()}
        yield Scores(STRENGTH, strengths, None, undefined=silent)
        effects = {member: lost.sum(1).mean() for member, (lost, _) in steered.items()}
        yield Scores(EFFECT, effects, None, undefined=silent)


def _gain(
    selective: Mapping[Member, Tensor], codes: Mapping[Member, Code], random: Tensor, drawn: Sequence[int]
) -> Scores:
    """Return for each latent, whose number is in `drawn`, what its meta-latents are more selective than itself."""
    gains = {}
    for member, code in codes.items():
        rows, meta_latents = code.rows.cpu(), code.indices.cpu()
        # Selectivity is known of each meta-latent that fires, in ascending order; take it for each entry of the code.
        of_entries = selective[member][meta_latents.unique(return_inverse=True)[1]]
        latents = selective[_latents(member.part)]
        gains[member] = torch.zeros_like(latents).index_add_(0, rows, of_entries - latents[rows])
        gains[member] /= torch.bincount(rows, minlength=len(latents)).clamp(min=1)
    floors = {member.part: random - selective[_latents(member.part)].mean() for member in codes}
    return Scores(
        GAIN,
        {member: gain.mean() for member, gain in gains.items()},
        floors,
        Items.mean(gains, names=dict.fromkeys(gains, drawn)),
    )


def _latents(part: str) -> Member:
    """Name the latents of the base, or the rows of a null, among the references."""
    return Member("latents", 0, part)


def _origin(folders: list[Path], run: str | None) -> tuple[Path, str]:
    """Find the run that SAEs are from, and the part of its activations that they read."""
    origins = {_run_and_part(folder) for folder in folders}
    if run is not None:
        origins = {(Path(run), part) for _, part in origins}
    if len(origins) > 1:
        raise ValueError(
            f"MetaSteering: saes={[*map(str, folders)]}: expected SAEs of one run and one hook, at which is edited"
        )
    (origin,) = origins
    if not (origin[0] / "config.yaml").is_file():
        raise ValueError(
            f"MetaSteering: no config.yaml in {origin[0]}: expected the folder of the run that has trained "
            f"{folders[0]}; give it as run, or a base SAE that lies in its run, RUN/saes/trained/0"
        )
    return origin


def _run_and_part(folder: Path) -> tuple[Path, str]:
    """Read the folder of an SAE, RUN/saes/PART/POLICY/SEED or, with one hook, RUN/saes/POLICY/SEED."""
    folder = folder.absolute()
    return (folder.parents[3], folder.parts[-3]) if folder.parts[-4:-3] == ("saes",) else (folder.parents[2], "")


def _images_of(run: Path, part: str) -> ClipImages:
    """Make the data of a run that trained on images."""
    data = (yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")) or {}).get("data") or {}
    if part in (data.get("init_args", {}).get("nulls") or {}):
        raise ValueError(
            f"MetaSteering: the base in {run} was trained on {part}, a null version of the activations, of which no "
            "image tower makes anything: take an SAE of the activations themselves, such as saes/trained/0"
        )
    with torch.random.fork_rng(devices=[]):  # a model is drawn before its weights are read
        datamodule = make_datamodule(data, (ClipImages,))
    if not isinstance(datamodule, ClipImages):
        raise ValueError(
            f"MetaSteering needs images whose attributes are known, and the base in {run} was not trained on "
            "ClipImages: take the SAE of a run such as sanity_pocket_clip, or leave out MetaSteering"
        )
    if (norms := read_norms(run)) is not None:
        datamodule.use_norms(norms)
    return datamodule


def _random(init: Isotropic | CovarianceMatched, rows: Tensor, n: int, repeat: int) -> Float[Tensor, "n d_in"]:
    return init.directions(n, rows.shape[1], _generator(repeat), rows)


def _generator(repeat: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of(_SEED, repeat))
