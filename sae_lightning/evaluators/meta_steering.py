"""Does a meta-latent change one attribute of a picture where the latent that it explains changes several?

A latent is not atomic if a meta-SAE takes its decoder direction apart (Leask et al. 2025, arXiv 2502.04878) into parts
that do less each. Here directions are added to the activations of an image tower whose pictures have attributes that
are independent and known, so that what each direction does can be counted (`Steering`).
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.nn.functional import normalize

from sae_lightning.code import Code
from sae_lightning.datamodules import ClipImages, DecoderDirections
from sae_lightning.evaluators.base import Evaluator, Items, Scores, share_members
from sae_lightning.evaluators.labelled_pictures import LabelledPictures
from sae_lightning.evaluators.steering import Steering, selectivity, shares
from sae_lightning.members import by_part
from sae_lightning.saes.init import CovarianceMatched, Isotropic
from sae_lightning.saes.module import SAEModule, part_of

# Not a seed that somebody gives to data or SAEs.
_SEED = 0x57EE_12A6


class MetaSteering(Evaluator):
    """Logs how selectively the meta-latents of a meta-SAE steer, beside the latents that they explain.

    Of latents of the base, drawn at random, and of the meta-latents that fire on them, each decoder direction is added
    to the activations of held-out pictures, with such a strength that as many zero-shot answers are lost with each.

    - steering_selectivity: how much of what a direction does is done to one attribute, beyond the share that this has
      of what random directions do; from 0 to 1, mean over directions.
    - steering_gain: mean selectivity of the meta-latents of a latent minus that of the latent; mean over latents. A
      latent on which none fires gains 0.
    - steering_strength: in units of the root mean square distance of activations from their mean; geometric mean.
    - steering_effect: what was lost, the sum over attributes of the share of answers; below `change` where directions
      do not reach it with the largest strength, 8.

    References: latents, the base's own; random_directions, isotropic, whose selectivity is the floor;
    matched_directions, random with the covariance of the base's decoder directions. The floor of steering_gain has
    random directions in place of meta-latents. Of nulls, their rows are what latents are. The gain of the meta-latents
    of a null is what taking apart gains where there are no parts.

    Args:
        run: folder of the run of the base, which trained on ClipImages; by default that which its SAE lies in.
        attributes: which, two or more; by default all of the pictures that have two values or more.
        n_latents: latents of the base that were not dead, or as many as there are; and as many random directions. With
            24 a mean selectivity is known to 0.1, with 96 to 0.05.
        n_pictures: held-out pictures for each attribute.
        change: the sum over attributes of the share of right answers that a direction shall lose, above 0 and below
            0.5. A direction that changes one attribute alone must be able to reach it.
        every_n_validations: 0 for the last validation alone, and `sae validate` and `sae test`. One costs 8 passes of
            the model over the pictures for each direction, or fewer.
    """

    def __init__(
        self,
        run: str | None = None,
        attributes: list[str] | None = None,
        n_latents: int = 96,
        n_pictures: int = 64,
        change: float = 0.25,
        every_n_validations: int = 0,
    ) -> None:
        super().__init__(every_n_validations)
        for name, value in (("n_latents", n_latents), ("n_pictures", n_pictures)):
            if value < 1:
                raise ValueError(f"{name}={value}: expected 1 or more")
        if not 0 < change < 0.5:
            raise ValueError(
                f"change={change}: expected a number above 0 and below 0.5, the share of answers about an attribute of "
                "two values that are lost when all answers become one of them"
            )
        self.run, self.attributes, self.change = run, attributes, change
        self.n_latents, self.n_pictures = n_latents, n_pictures
        self._steering: Steering | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Finds the run of the base, and asks its model what it knows of the pictures."""
        super().setup(trainer, pl_module, stage)
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(datamodule, DecoderDirections):
            raise ValueError(
                f"MetaSteering needs a meta-SAE, and data={type(datamodule).__name__} are not the decoder directions "
                "of an SAE: take DecoderDirections, or leave out MetaSteering"
            )
        if self._steering is None:
            folders = [Path(folder) for folder in datamodule.saes]
            run, part = _origin(folders, self.run)
            source = (data := _pictures_of(run, part)).source
            source.to(trainer.strategy.root_device)
            widths, d_in = data.widths or {"": data.d_in}, datamodule.source.directions.shape[1]
            if widths.get(part) != d_in:
                told = ", ".join(f"{name} {width}".lstrip() for name, width in widths.items())
                raise ValueError(
                    f"MetaSteering: the activations of {run} have d_in={told}, and the decoder directions of "
                    f"{folders[0]} {d_in}: expected the run that has trained this SAE"
                )
            pictures = LabelledPictures("MetaSteering", data, None, self.attributes)
            if len(pictures.attributes) < 2:
                raise ValueError(f"attributes={pictures.attributes}: expected two or more, of which one may be changed")
            self._steering = Steering(pictures, pictures.numbers("heldout", self.n_pictures), part)

    def scores(self, trainer: Trainer, module: SAEModule, stage: str) -> dict[str, Scores]:
        """Steers with the directions of each member and reference, a part of them on each rank."""
        assert (steering := self._steering) is not None
        rows, alive = trainer.datamodule.rows, ~trainer.datamodule.dead  # type: ignore[attr-defined]
        order = torch.randperm(len(rows), generator=_generator())
        drawn = order[alive[order]][: self.n_latents].sort().values

        directions: dict[str, Tensor] = {}
        codes: dict[str, Code] = {}
        for part, members in by_part(module.members).items():
            of_part = module.read_by(members[0], rows)
            directions[reference(part, "latents")] = of_part[drawn]
            if not part:
                directions["random_directions/0"] = _random(Isotropic(), of_part, len(drawn))
                directions["matched_directions/0"] = _random(CovarianceMatched(), of_part, len(drawn))
            for member in members:
                sae = module.members[member]
                code = sae.encode(of_part[drawn].to(module.device))
                codes[member] = code = code.where(code.values > 0)
                directions[member] = normalize(sae.W_dec.detach()[code.indices.unique()], dim=1)
        found = share_members(directions, lambda _, of: steering.lost(of.to(module.device), self.change))
        usual = shares(found["random_directions/0"][0]).mean(0)
        selective = {name: selectivity(lost, usual) for name, (lost, _) in found.items()}
        floor = selective["random_directions/0"].mean()
        means = {name: of.mean() for name, of in selective.items()}
        return {
            "steering_selectivity": Scores(means, floor, "higher", Items.mean(selective, paired=False)),
            "steering_gain": _gain(selective, codes, floor),
            "steering_strength": Scores({of: strength.log().mean().exp() for of, (_, strength) in found.items()}, None),
            "steering_effect": Scores({of: lost.sum(1).mean() for of, (lost, _) in found.items()}, None),
        }


def _gain(selective: Mapping[str, Tensor], codes: Mapping[str, Code], random: Tensor) -> Scores:
    """For each latent what its meta-latents are more selective than itself."""
    gains = {}
    for member, code in codes.items():
        rows, meta_latents = code.rows.cpu(), code.indices.cpu()
        of_entry = selective[member][meta_latents.unique(return_inverse=True)[1]]
        latents = selective[reference(part_of(member), "latents")]
        gains[member] = torch.zeros_like(latents).index_add_(0, rows, of_entry - latents[rows])
        gains[member] /= torch.bincount(rows, minlength=len(latents)).clamp(min=1)
    floors = {part_of(of): random - selective[reference(part_of(of), "latents")].mean() for of in codes}
    return Scores({of: gain.mean() for of, gain in gains.items()}, floors, "higher", Items.mean(gains))


def _origin(folders: list[Path], run: str | None) -> tuple[Path, str]:
    """The run that SAEs are from, and the part of its activations that they read."""
    found = {
        (folder.absolute().parents[len(_member(folder).split("/"))], part_of(_member(folder))) for folder in folders
    }
    if run is not None:
        found = {(Path(run), part) for _, part in found}
    if len(found) > 1:
        raise ValueError(
            f"MetaSteering: saes={[*map(str, folders)]}: expected SAEs of one run and one hook, at which is edited"
        )
    (origin,) = found
    if not (origin[0] / "config.yaml").is_file():
        raise ValueError(
            f"MetaSteering: no config.yaml in {origin[0]}: expected the folder of the run that has trained "
            f"{folders[0]}; give it as run, or a base SAE that lies in its run, RUN/saes/trained/0"
        )
    return origin


def _member(folder: Path) -> str:
    """The name of an SAE after the folder `saes`."""
    above = folder.absolute().parts
    return "/".join(above[-3:]) if above[-4:-3] == ("saes",) else "/".join(above[-2:])


def _pictures_of(run: Path, part: str) -> ClipImages:
    from sae_lightning.explain.data_of_run import data_of_run  # which itself needs evaluators

    with torch.random.fork_rng(devices=[]):  # a model is drawn before its weights are read
        datamodule = data_of_run(run, part, (ClipImages,))
    if not isinstance(datamodule, ClipImages):
        raise ValueError(
            f"MetaSteering needs pictures whose attributes are known, and the base in {run} was not trained on "
            "ClipImages: take the SAE of a run such as sanity_pocket_clip, or leave out MetaSteering"
        )
    return datamodule


def _random(init: Isotropic | CovarianceMatched, rows: Tensor, n: int) -> Float[Tensor, "n d_in"]:
    return init.directions(n, rows.shape[1], _generator(), rows)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(_SEED)
