"""What chosen latents do on pictures, in one pass, so that the codes of all latents are never held at a time."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sae_lightning.distributed import all_gather_object, rank, world_size
from sae_lightning.interpretation.picture_examples import as_grid

if TYPE_CHECKING:
    from PIL.Image import Image

Read: TypeAlias = Callable[[Float[Tensor, "n d_in"]], Float[Tensor, "n n_latents"]]
"""Chosen latents of raw activations."""


@dataclass(frozen=True)
class OnPictures:
    """What latents do on the pictures of one forward.

    Args:
        places: [batch] where the pictures stand among those that are read.
        counts: [batch, seq] positions that count.
        latents: [n_counted, n_latents] at these positions, by name of who reads.
    """

    places: Int64[Tensor, " batch"]
    counts: Bool[Tensor, "batch seq"]
    latents: Mapping[str, Float[Tensor, "n_counted n_latents"]]

    def of(self, name: str, elsewhere: float = 0.0) -> Float[Tensor, "batch seq n_latents"]:
        """Latents at all positions, with a value for those that do not count."""
        latents = self.latents[name]
        everywhere = latents.new_full((*self.counts.shape, latents.shape[1]), elsewhere)
        everywhere[self.counts] = latents
        return everywhere

    def peaks(self, name: str) -> Float[Tensor, "batch n_latents"]:
        """The largest of each picture."""
        return self.of(name, -torch.inf).amax(1)


class PictureLatents:
    """Latents on pictures; ranks share the forwards of the model.

    Args:
        datamodule: a ClipImages, whose source reads.
        device: of those who read.
        numbers: of pictures that can be decoded.
        readers: by name, what gives the latents of raw activations of all parts.
    """

    def __init__(
        self, datamodule: Any, device: torch.device, numbers: Int64[Tensor, " n"], readers: Mapping[str, Read]
    ) -> None:
        self.datamodule, self.device, self.numbers, self.readers = datamodule, device, numbers, readers

    def __iter__(self) -> Iterator[OnPictures]:
        """One forward of this rank after another; places ascend."""
        blocks = torch.arange(len(self.numbers)).split(self.datamodule.rows_at_once)
        for places in blocks[rank() :: world_size()]:
            inputs = self.datamodule.inputs(self.numbers[places, None])
            activations, counts = self.datamodule.source.capture(inputs)
            # A large picture has hundreds of positions; the dense code of an untrained ReLU SAE is held for a batch.
            parts = activations[counts].float().to(self.device).split(self.datamodule.batch_size)
            latents = {name: torch.cat([read(x) for x in parts]) for name, read in self.readers.items()}
            yield OnPictures(places, counts.to(self.device), latents)

    def strongest(self, n: int) -> dict[str, tuple[Float[Tensor, "n n_latents"], Int64[Tensor, "n n_latents"]]]:
        """For each latent the n pictures on which it is strongest: its activations, descending, and their places.

        Of pictures with equal activation the first are taken. All ranks get the same, on the CPU.
        """
        kept: dict[str, tuple[Tensor, Tensor]] = {}
        for pictures in self:
            for name in self.readers:
                values = pictures.peaks(name)
                places = pictures.places.to(values.device)[:, None].expand_as(values)
                if name in kept:
                    values, places = torch.cat([kept[name][0], values]), torch.cat([kept[name][1], places])
                kept[name] = _largest(values, places, n)
        ranks = all_gather_object({name: (values.cpu(), places.cpu()) for name, (values, places) in kept.items()})
        found = {}
        for name in self.readers:
            values, places = (torch.cat(of) for of in zip(*[of[name] for of in ranks if name in of], strict=True))
            order = places.argsort(dim=0, stable=True)  # as one process meets them
            found[name] = _largest(values.gather(0, order), places.gather(0, order), n)
        return found

    def all_peaks(self) -> dict[str, Float[Tensor, "n_pictures n_latents"]]:
        """The largest activation of each latent on each picture, equal on all ranks, on the CPU; for few latents."""
        found = [(pictures.places, {name: pictures.peaks(name).cpu() for name in self.readers}) for pictures in self]
        blocks = [block for of_rank in all_gather_object(found) for block in of_rank]
        order = torch.cat([places for places, _ in blocks]).argsort()
        return {name: torch.cat([peaks[name] for _, peaks in blocks])[order] for name in self.readers}

    def everywhere(self, wanted: Collection[tuple[str, int, int]]) -> dict[tuple[str, int, int], Float[Tensor, " seq"]]:
        """Single latents at all positions of single pictures, 0 where these do not count, on the CPU.

        Args:
            wanted: who reads, the place of a picture, and which of the latents.
        """
        of_place: dict[int, list[tuple[str, int]]] = {}
        for name, place, latent in wanted:
            of_place.setdefault(place, []).append((name, latent))
        if not of_place:
            return {}
        few, found = list(of_place), {}
        for pictures in PictureLatents(self.datamodule, self.device, self.numbers[few], self.readers):
            latents = {name: pictures.of(name) for name in self.readers}
            for row, i in enumerate(pictures.places.tolist()):
                for name, latent in of_place[few[i]]:
                    found[name, few[i], latent] = latents[name][row, :, latent].cpu()
        return {key: of for of_rank in all_gather_object(found) for key, of in of_rank.items()}

    def heats(
        self, wanted: Collection[tuple[str, int, int]]
    ) -> dict[tuple[str, int, int], Float[Tensor, "rows columns"]]:
        """As `everywhere`, at the patches alone; none where these do not count."""
        grid = self.datamodule.source.grid
        if not self.datamodule.mask[-grid[0] * grid[1] :].any():
            return {}
        return {key: as_grid(of, grid) for key, of in self.everywhere(wanted).items()}


def small_pictures(datamodule: Any, numbers: Collection[int], size: int) -> Iterator[tuple[int, "Image"]]:
    """Pictures as the model sees them, by ascending number.

    Args:
        datamodule: a ClipImages.
        numbers: of pictures that can be decoded.
        size: pixels of the longer side at most.
    """
    from PIL import Image

    for block in torch.tensor(sorted(numbers), dtype=torch.int64).split(datamodule.rows_at_once):
        pixels = datamodule.source.visible(datamodule.inputs(block[:, None]).pixels)
        for number, picture in zip(block.tolist(), (255 * pixels).round().byte(), strict=True):
            image = Image.fromarray(picture.permute(1, 2, 0).numpy())
            image.thumbnail((size, size))
            yield number, image


def _largest(values: Tensor, places: Tensor, n: int) -> tuple[Tensor, Tensor]:
    order = values.argsort(dim=0, descending=True, stable=True)[:n]
    return values.gather(0, order), places.gather(0, order)
