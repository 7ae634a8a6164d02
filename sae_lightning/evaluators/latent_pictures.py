"""What do latents show? Pictures on which they fire, of trained SAEs and baselines side by side.

The figures of Korznikov et al. 2026, arXiv 2602.14111 (appendix G). What one sees in a few pictures is an impression;
`ConceptPurity` counts.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Int64
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor

from sae_lightning.datamodules import ClipImages
from sae_lightning.evaluators.base import Scores, log_image
from sae_lightning.evaluators.pictures import PictureEvaluator
from sae_lightning.interpretation.picture_examples import (
    PicturedLatent,
    PictureExample,
    at_percentiles,
    thumbnail_path,
)
from sae_lightning.interpretation.pictures import PictureLatents, small_pictures
from sae_lightning.members import by_part
from sae_lightning.run_folder import run_folder
from sae_lightning.saes.module import SAEModule, curve, part_of

FOLDER, FILE_NAME = "pictures", "pictures.jsonl"
_THUMBNAIL = 96


class LatentPictures(PictureEvaluator):
    """Writes pages of pictures into `pictures/` of the run folder and to TensorBoard; logs no number.

    For each latent the held-out pictures on which it is strongest, and those around percentiles 75, 50 and 25 of its
    activation over the pictures on which it fires; under each picture a map of the patches where it fires. There is a
    page for each SAE, `<policy>-<seed>.png`, and one of the first seed of all, `compared.png`; where SAEs read several
    parts of the activations, in a folder for each. What is drawn is in pictures.jsonl, a line a latent, with pictures
    in thumbnails/. Everything is written anew each time.

    Args:
        latents: how many of each member, drawn at random among those that fire, the same numbers for all as far as they
            do; or the numbers of latents.
        n_each: pictures at each percentile.
        n_pictures: held-out pictures, or as many as there are.
        max_frequency: latents that fire on a larger share of activations are not drawn; 0.001 in the paper.
        every_n_validations: the last validation always counts; 0 for that one alone.
    """

    def __init__(
        self,
        latents: int | list[int] = 6,
        n_each: int = 3,
        n_pictures: int = 2000,
        max_frequency: float = 1.0,
        every_n_validations: int = 0,
    ) -> None:
        super().__init__(n_pictures, max_frequency, every_n_validations)
        if (latents if isinstance(latents, int) else len(latents)) < 1 or n_each < 1:
            raise ValueError(f"latents={latents}, n_each={n_each}: expected at least 1 of each")
        if not isinstance(latents, int) and len(set(latents)) < len(latents):
            raise ValueError(f"latents={latents}: expected each number once")
        self.latents, self.n_each = latents, n_each

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Checks that there are pictures, and latents with these numbers."""
        super().setup(trainer, pl_module, stage)
        if isinstance(self.latents, list):
            d_sae = min(sae.d_sae for sae in pl_module.members.values())  # type: ignore[operator]
            if wrong := [latent for latent in self.latents if not 0 <= latent < d_sae]:
                raise ValueError(f"LatentPictures: latents={wrong[0]}: expected 0 to {d_sae - 1} for d_sae={d_sae}")

    def scores(self, trainer: Trainer, module: SAEModule, stage: str) -> dict[str, Scores]:
        """Shows the pictures to the model, and those that are drawn once more."""
        run = run_folder(trainer)
        if run is None:
            return {}
        datamodule: ClipImages = trainer.datamodule  # type: ignore[attr-defined]
        numbers = self.pool(datamodule)
        of_members = self._pictured(datamodule, module, numbers)
        if trainer.is_global_zero:
            caption = f"{datamodule.source.name}, {datamodule.source.hook}; {len(numbers)} held-out pictures."
            self._write(trainer, stage, run / FOLDER, of_members, caption)
            rank_zero_info(f"Pictures of latents: {run / FOLDER}")
        return {}

    def _pictured(
        self, datamodule: ClipImages, module: SAEModule, numbers: Int64[Tensor, " n"]
    ) -> dict[str, list[PicturedLatent]]:
        """Latents of each member with their examples."""
        frequencies = self.frequencies()
        drawn = {
            member: self.draw(of, self.latents) if isinstance(self.latents, int) else torch.tensor(self.latents)
            for member, of in frequencies.items()
        }
        readers = {member: self.reader(module, member, latents) for member, latents in drawn.items()}
        latents = PictureLatents(datamodule, module.device, numbers, readers)
        peaks = latents.all_peaks()
        chosen = {
            (member, column): at_percentiles(of[:, column], self.n_each)
            for member, of in peaks.items()
            for column in range(of.shape[1])
        }
        heats = latents.heats([(member, place, column) for (member, column), of in chosen.items() for _, place in of])

        def pictured(member: str, column: int, latent: int) -> PicturedLatent:
            of = peaks[member][:, column]
            examples = [
                PictureExample(
                    int(numbers[place]),
                    datamodule.images.name(int(numbers[place])),
                    percentile,
                    float(of[place]),
                    heats.get((member, place, column)),
                )
                for percentile, place in chosen[member, column]
            ]
            share = float((of != 0).double().mean())
            return PicturedLatent(member, latent, float(frequencies[member][latent]), share, examples)

        return {
            member: [pictured(member, column, latent) for column, latent in enumerate(of.tolist())]
            for member, of in drawn.items()
        }

    @staticmethod
    def _write(
        trainer: Trainer, stage: str, folder: Path, of_members: Mapping[str, Sequence[PicturedLatent]], caption: str
    ) -> None:
        import numpy as np
        from PIL import Image

        from sae_lightning.interpretation.picture_pages import compared_page, member_page

        datamodule: ClipImages = trainer.datamodule  # type: ignore[attr-defined]
        shown = {of.picture for latents in of_members.values() for one in latents for of in one.examples}
        thumbnails: dict[int, np.ndarray] = {}
        for number, image in small_pictures(datamodule, shown, _THUMBNAIL):
            thumbnails[number] = np.asarray(image)
            path = folder / thumbnail_path(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
        with (folder / FILE_NAME).open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(of.line()) + "\n" for latents in of_members.values() for of in latents)
        pages = {member: member_page(latents, thumbnails, caption) for member, latents in of_members.items() if latents}
        for part, members in by_part(pages).items():
            first = {curve(member).split("/")[0]: of_members[member] for member in reversed(members)}
            in_order = list(reversed(first.values()))
            pages[f"{part}/"] = compared_page(in_order, thumbnails, caption)
        for member, page in pages.items():
            name = "compared" if member.endswith("/") else curve(member).replace("/", "-")
            path = folder / (member.rstrip("/") if member.endswith("/") else part_of(member)) / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(page).save(path)
            log_image(trainer, f"{stage}/latent_pictures", member, page)
