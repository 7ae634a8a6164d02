"""What latents do on held-out images: how often they fire, how strongly, and on which images and patches.

The images are read twice, once to see which latents fire and once for those that were chosen; those that are shown
are read again for their maps.
"""

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from sae_lightning.datamodules import ClipImages
from sae_lightning.interpretation.image_examples import ImageExample
from sae_lightning.interpretation.latents_on_images import LatentsOnImages, ReadLatents, thumbnails
from sae_lightning.members import Member
from sae_lightning.report.held_out import N_TOP, Behaviour, HeldOut, places_in_quarters
from sae_lightning.saes.exported import ExportedSAEs

N_IMAGES = 1000
"""Held-out images that are read."""
_THUMBNAIL = 64
_N_WORDS = 5
_QUALITY = 60
"""Of images of that size; more is bytes that nobody sees."""


class HeldOutImages(HeldOut):
    """Held-out images that can be decoded.

    Args:
        datamodule: a ClipImages.
        module: whose members read.
        n_images: images that are read, or as many as there are.
    """

    unit = "position"

    def __init__(self, datamodule: ClipImages, module: ExportedSAEs, n_images: int) -> None:
        self.datamodule, self.module = datamodule, module
        self.numbers = datamodule.first_rows("heldout", n_images * datamodule.positions)[:, 0]
        self.n_images = len(self.numbers)
        self.n = self.n_images * datamodule.positions

    @override
    def frequencies(self) -> dict[Member, Float[Tensor, " d_sae"]]:
        """Return shares of valid positions."""
        members = self.module.members
        counts = {member: torch.zeros(sae.d_sae, dtype=torch.int64) for member, sae in members.items()}
        self.n = 0  # without massive activations that are left out
        for numbers in self.numbers.split(self.datamodule.rows_at_once):
            activations, mask = self.datamodule.source.capture(self.datamodule.inputs(numbers[:, None]))
            self.n += int(mask.sum())
            for x in activations[mask].float().to(self.module.device).split(self.datamodule.batch_size):
                for member, sae in members.items():
                    counts[member] += sae.encode(self.module.activations_for(member, x)).firing_counts().cpu()
        return {member: fired.double() / self.n for member, fired in counts.items()}

    @override
    def behaviours(self, chosen: Mapping[Member, Sequence[int]]) -> dict[Member, list[Behaviour]]:
        """Return strengths by image, and examples with their maps."""
        readers = {member: self._reader(member, latents) for member, latents in chosen.items()}
        latents = LatentsOnImages(self.datamodule, self.module.device, self.numbers, readers)
        peaks = latents.all_peaks()
        orders = {
            (member, column): order[own[order, column] != 0]
            for member, own in peaks.items()
            for column, order in enumerate(own.argsort(dim=0, descending=True, stable=True).T)
        }
        shown = {key: [order[:N_TOP], *places_in_quarters(order)] for key, order in orders.items()}
        heats = latents.heats(
            {(member, int(place), column) for (member, column), places in shown.items() for place in torch.cat(places)}
        )

        def behaviour(member: Member, column: int) -> Behaviour:
            strengths, order = peaks[member][:, column], orders[member, column].tolist()
            top, *quarters = [
                [
                    self._example(
                        place, order.index(place), len(order), strengths[place], heats.get((member, place, column))
                    )
                    for place in places.tolist()
                ]
                for places in shown[member, column]
            ]
            return Behaviour(strengths[order], top, quarters, self._words(top))

        return {
            member: [behaviour(member, column) for column in range(len(latents_of_member))]
            for member, latents_of_member in chosen.items()
        }

    @override
    def images(self, numbers: set[int]) -> dict[int, dict[str, str]]:
        """Return thumbnails with what the images show."""
        return {
            number: {"src": data_uri(image, _QUALITY), "shows": self._caption(number)}
            for number, image in thumbnails(self.datamodule, numbers, _THUMBNAIL)
        }

    def _reader(self, member: Member, latents: Sequence[int]) -> ReadLatents:
        sae, columns = self.module.members[member], torch.tensor([*latents], dtype=torch.int64).to(self.module.device)
        return lambda x: sae.encode(self.module.activations_for(member, x)).columns(columns).float()

    def _example(self, place: int, rank: int, n: int, activation: Tensor, heat: Tensor | None) -> ImageExample:
        number, percentile = int(self.numbers[place]), round(100 * (n - 1 - rank) / max(1, n - 1))
        return ImageExample(number, self.datamodule.images.name(number), percentile, float(activation), heat)

    def _words(self, top: Sequence[ImageExample]) -> list[str]:
        """Return values of attributes that most of the images share, the most common first."""
        counts = Counter(value for example in top for value in self.datamodule.images.shown(example.image).values())
        return [value for value, n in counts.most_common(_N_WORDS) if 2 * n > len(top)]

    def _caption(self, number: int) -> str:
        shown = self.datamodule.images.shown(number)
        return ", ".join(f"{attribute} {value}" for attribute, value in shown.items()) or self.datamodule.images.name(
            number
        )


def data_uri(image: Any, quality: int) -> str:
    """Return an image as text for a page, which WebP makes a fraction of what PNG would.

    Args:
        image: of PIL.
        quality: from 0 to 100.
    """
    file = io.BytesIO()
    image.save(file, "WEBP", quality=quality, method=6)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
