"""What do latents show? Images on which they fire, of trained SAEs and baselines side by side.

The figures of Korznikov et al. 2026, arXiv 2602.14111 (appendix G). What one sees in a few images is an impression;
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

from sae_lightning.checks import check_whole
from sae_lightning.evaluators.base import log_image
from sae_lightning.evaluators.image_evaluator import ImageEvaluator
from sae_lightning.evaluators.scores import Scores
from sae_lightning.interpretation.image_examples import ImageExample, ShownLatent, at_percentiles, thumbnail_path
from sae_lightning.interpretation.latents_on_images import LatentsOnImages, thumbnails
from sae_lightning.members import Member, Tag, by_part
from sae_lightning.saes.module import SAEModule
from sae_lightning.trainer import run_folder

FOLDER, FILE_NAME = "pictures", "pictures.jsonl"
_CHART = "latent_pictures"
_THUMBNAIL = 96


class LatentImages(ImageEvaluator):
    """Write pages of images into `pictures/` of the run folder and to TensorBoard; log no number.

    For each latent the held-out images on which it is strongest, and those around percentiles 75, 50 and 25 of its
    activation over the images on which it fires; under each image a map of the patches where it fires. There is a page
    for each SAE, `<policy>-<seed>.png`, and one of the first seed of all, `compared.png`; where SAEs read several parts
    of the activations, in a folder for each. What is drawn is in pictures.jsonl, a line a latent, with images in
    thumbnails/. Everything is written anew each time.

    Args:
        latents: how many of each member, drawn at random among those that fire, the same numbers for all as far as they
            do; or the numbers of latents.
        n_each: images at each percentile.
        n_images: held-out images, or as many as there are.
        max_frequency: latents that fire on a larger share of activations are not drawn; 0.001 in the paper.
        every_n_validations: the last validation always counts; 0 for that one alone.
    """

    declares = ()
    compares_members = True

    def __init__(
        self,
        latents: int | list[int] = 6,
        n_each: int = 3,
        n_images: int = 2000,
        max_frequency: float = 1.0,
        every_n_validations: int = 0,
    ) -> None:
        super().__init__(n_images, max_frequency, every_n_validations)
        check_whole(1, n_each=n_each)
        if not isinstance(latents, list):
            check_whole(1, latents=latents)
        else:
            for latent in latents:
                check_whole(0, latents=latent)
            if not latents or len(set(latents)) < len(latents):
                raise ValueError(f"latents={latents}: expected one number or more, each once")
        self.latents, self.n_each = latents, n_each

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that there are images, and latents with these numbers."""
        super().setup(trainer, pl_module, stage)
        assert isinstance(pl_module, SAEModule)
        if isinstance(self.latents, list):
            d_sae = min(sae.d_sae for sae in pl_module.members.values())
            if wrong := [latent for latent in self.latents if not 0 <= latent < d_sae]:
                raise ValueError(f"LatentImages: latents={wrong[0]}: expected 0 to {d_sae - 1} for d_sae={d_sae}")

    def scores(self, trainer: Trainer, module: SAEModule, stage: str) -> Sequence[Scores]:
        """Show the images to the model, and those that are drawn once more; there are no scores."""
        run = run_folder(trainer)
        if run is None:
            return ()
        numbers = self.pool()
        shown = self._shown(module, numbers)
        if trainer.is_global_zero:
            self._write(trainer, stage, run / FOLDER, shown, f"{len(numbers):,} held-out images.")
            rank_zero_info(f"Images of latents: {run / FOLDER}")
        return ()

    def _shown(self, module: SAEModule, numbers: Int64[Tensor, " n"]) -> dict[Member, list[ShownLatent]]:
        """Choose latents of each member, and their examples."""
        frequencies = self.frequencies()
        drawn = {
            member: self.draw(frequency, self.latents) if isinstance(self.latents, int) else torch.tensor(self.latents)
            for member, frequency in frequencies.items()
        }
        readers = {member: self.reader(module, member, latents) for member, latents in drawn.items()}
        latents_on_images = LatentsOnImages(self.datamodule, module.device, numbers, readers)
        peaks = latents_on_images.all_peaks()
        chosen = {
            (member, column): at_percentiles(peaks_of_member[:, column], self.n_each)
            for member, peaks_of_member in peaks.items()
            for column in range(peaks_of_member.shape[1])
        }
        heats = latents_on_images.heats(
            [(member, place, column) for (member, column), examples in chosen.items() for _, place in examples]
        )

        def show(member: Member, column: int, latent: int) -> ShownLatent:
            peaks_of_latent = peaks[member][:, column]
            examples = [
                ImageExample(
                    int(numbers[place]),
                    self.datamodule.images.name(int(numbers[place])),
                    percentile,
                    float(peaks_of_latent[place]),
                    heats.get((member, place, column)),
                )
                for percentile, place in chosen[member, column]
            ]
            share = float((peaks_of_latent != 0).double().mean())
            return ShownLatent(member, latent, float(frequencies[member][latent]), share, examples)

        return {
            member: [show(member, column, latent) for column, latent in enumerate(latents.tolist())]
            for member, latents in drawn.items()
        }

    def _write(
        self,
        trainer: Trainer,
        stage: str,
        folder: Path,
        shown: Mapping[Member, Sequence[ShownLatent]],
        pool: str,
    ) -> None:
        import numpy as np
        from PIL import Image

        from sae_lightning.interpretation.image_pages import compared_page, member_page

        def write(path: Path, member: Member | None, part: str, page: np.ndarray) -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(page).save(path)
            log_image(trainer, stage, Tag(_CHART, part), member, page)

        folder.mkdir(parents=True, exist_ok=True)
        latents = [latent for latents_of_member in shown.values() for latent in latents_of_member]
        images: dict[int, np.ndarray] = {}
        numbers = {example.image for latent in latents for example in latent.examples}
        for number, image in thumbnails(self.datamodule, numbers, _THUMBNAIL):
            images[number] = np.asarray(image)
            path = folder / thumbnail_path(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
        with (folder / FILE_NAME).open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(latent.line()) + "\n" for latent in latents)
        with_latents = [member for member, latents_of_member in shown.items() if latents_of_member]
        for member in with_latents:
            page = member_page(shown[member], images, f"{self._activations(member.part)}; {pool}")
            write(folder / member.part / f"{member.folder}.png", member, member.part, page)
        for part, members in by_part(with_latents).items():
            # Of each policy the first seed, which from the end is the last to be put in.
            first_seeds = {member.policy: shown[member] for member in reversed(members)}
            caption = f"{self._activations(part)}; {pool}"
            page = compared_page(list(reversed(first_seeds.values())), images, caption)
            write(folder / part / "compared.png", None, part, page)

    def _activations(self, part: str) -> str:
        """Name the model and the hook of a part; a null has that of the activations that it resembles."""
        source = self.datamodule.source
        return f"{source.name}, {source.hooks.get(part, source.hook)}"
