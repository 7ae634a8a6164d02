"""What latents do on held-out pictures: how often they fire, how strongly, and on which pictures and patches.

The pictures are read twice, once to see which latents fire and once for those that were chosen; those that are shown
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

from sae_lightning.interpretation.image_examples import ImageExample
from sae_lightning.interpretation.latents_on_images import LatentsOnImages, ReadLatents, thumbnails
from sae_lightning.report.held_out import N_TOP, Behaviour, HeldOut, places_in_quarters
from sae_lightning.saes import SparseAutoencoder

N_PICTURES = 1000
"""Held-out pictures that are read."""
_THUMBNAIL = 64
_N_WORDS = 5


class HeldOutPictures(HeldOut):
    """Held-out pictures that can be decoded.

    Args:
        datamodule: a ClipImages.
        saes: members by name, on one device.
        n_pictures: pictures that are read, or as many as there are.
    """

    unit = "position"

    def __init__(self, datamodule: Any, saes: Mapping[str, SparseAutoencoder], n_pictures: int) -> None:
        self.datamodule, self.saes = datamodule, saes
        self.device = next(iter(saes.values())).device
        self.numbers = datamodule.first_rows("heldout", n_pictures * datamodule.positions)[:, 0]
        self.n_pictures = len(self.numbers)
        self.n = self.n_pictures * datamodule.positions

    @override
    def frequencies(self) -> dict[str, Float[Tensor, " d_sae"]]:
        """Shares of positions that count."""
        counts = {member: torch.zeros(sae.d_sae, dtype=torch.int64) for member, sae in self.saes.items()}
        for numbers in self.numbers.split(self.datamodule.rows_at_once):
            activations, counted = self.datamodule.source.capture(self.datamodule.inputs(numbers[:, None]))
            for x in activations[counted].float().to(self.device).split(self.datamodule.batch_size):
                for member, sae in self.saes.items():
                    counts[member] += sae.encode(x).firing_counts().cpu()
        return {member: of.double() / self.n for member, of in counts.items()}

    @override
    def behaviours(self, chosen: Mapping[str, Sequence[int]]) -> dict[str, list[Behaviour]]:
        """Strengths by picture, and examples with their maps."""
        readers = {member: self._reader(member, latents) for member, latents in chosen.items()}
        latents = LatentsOnImages(self.datamodule, self.device, self.numbers, readers)
        peaks = latents.all_peaks()
        orders = {
            (member, column): order[of[order, column] != 0]
            for member, of in peaks.items()
            for column, order in enumerate(of.argsort(dim=0, descending=True, stable=True).T)
        }
        shown = {key: [order[:N_TOP], *places_in_quarters(order)] for key, order in orders.items()}
        heats = latents.heats(
            {(member, int(place), column) for (member, column), of in shown.items() for place in torch.cat(of)}
        )

        def behaviour(member: str, column: int) -> Behaviour:
            of, order = peaks[member][:, column], orders[member, column].tolist()
            top, *quarters = [
                [
                    self._example(place, order.index(place), len(order), of[place], heats.get((member, place, column)))
                    for place in places.tolist()
                ]
                for places in shown[member, column]
            ]
            return Behaviour(of[order], top, quarters, self._words(top))

        return {member: [behaviour(member, column) for column in range(len(of))] for member, of in chosen.items()}

    @override
    def pictures(self, numbers: set[int]) -> dict[int, dict[str, str]]:
        """Thumbnails with what the pictures show."""
        return {
            number: {"src": _data_uri(image), "shows": self._caption(number)}
            for number, image in thumbnails(self.datamodule, numbers, _THUMBNAIL)
        }

    def _reader(self, member: str, latents: Sequence[int]) -> ReadLatents:
        sae, columns = self.saes[member], torch.tensor(list(latents), dtype=torch.int64, device=self.device)
        return lambda x: sae.encode(x).columns(columns).float()

    def _example(self, place: int, rank: int, n: int, activation: Tensor, heat: Tensor | None) -> ImageExample:
        number, percentile = int(self.numbers[place]), round(100 * (n - 1 - rank) / max(1, n - 1))
        return ImageExample(number, self.datamodule.images.name(number), percentile, float(activation), heat)

    def _words(self, top: Sequence[ImageExample]) -> list[str]:
        """Values of attributes that most of the pictures share, the most common first."""
        counts = Counter(value for of in top for value in self.datamodule.images.shown(of.image).values())
        return [value for value, n in counts.most_common(_N_WORDS) if 2 * n > len(top)]

    def _caption(self, number: int) -> str:
        shown = self.datamodule.images.shown(number)
        return ", ".join(f"{attribute} {value}" for attribute, value in shown.items()) or self.datamodule.images.name(
            number
        )


def _data_uri(image: Any) -> str:
    file = io.BytesIO()
    image.save(file, "WEBP", quality=80, method=6)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
