"""What chosen latents do on images, in one pass, so that the codes of all latents are never held at a time."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sae_lightning.datamodules import ClipImages
from sae_lightning.distributed import all_gather_object, rank, world_size
from sae_lightning.interpretation.image_examples import as_grid

if TYPE_CHECKING:
    from PIL.Image import Image

K = TypeVar("K")
"""By which those who read are told apart: a `Member`, or a name."""

ReadLatents: TypeAlias = Callable[[Float[Tensor, "n d_in"]], Float[Tensor, "n n_latents"]]
"""Chosen latents of raw activations."""


@dataclass(frozen=True)
class BatchLatents(Generic[K]):
    """What latents do on the images of one forward.

    Args:
        places: [batch] where the images stand among those that are read.
        mask: [batch, seq] True for valid positions.
        latents: [n_valid, n_latents] at these positions, by reader.
    """

    places: Int64[Tensor, " batch"]
    mask: Bool[Tensor, "batch seq"]
    latents: Mapping[K, Float[Tensor, "n_valid n_latents"]]

    def everywhere(self, reader: K, elsewhere: float = 0.0) -> Float[Tensor, "batch seq n_latents"]:
        """Return latents at all positions, with a value for those that are not valid."""
        latents = self.latents[reader]
        everywhere = latents.new_full((*self.mask.shape, latents.shape[1]), elsewhere)
        everywhere[self.mask] = latents
        return everywhere

    def peaks(self, reader: K) -> Float[Tensor, "batch n_latents"]:
        """Return the largest activation on each image, 0 on one without a valid position."""
        return self.everywhere(reader, -torch.inf).amax(1).masked_fill(~self.mask.any(1)[:, None], 0)


class LatentsOnImages(Generic[K]):
    """Latents on images; ranks share the forwards of the model.

    Args:
        datamodule: whose source reads the images.
        device: of the readers.
        numbers: of images that can be decoded.
        readers: what gives the latents of raw activations of all parts.
    """

    def __init__(
        self,
        datamodule: ClipImages,
        device: torch.device,
        numbers: Int64[Tensor, " n"],
        readers: Mapping[K, ReadLatents],
    ) -> None:
        self.datamodule, self.device, self.numbers, self.readers = datamodule, device, numbers, readers

    def __iter__(self) -> Iterator[BatchLatents[K]]:
        """Yield one forward of this rank after another; places ascend."""
        blocks = torch.arange(len(self.numbers)).split(self.datamodule.rows_at_once)
        for places in blocks[rank() :: world_size()]:
            inputs = self.datamodule.inputs(self.numbers[places, None])
            activations, mask = self.datamodule.source.capture(inputs)
            # A large image has hundreds of positions; the dense code of an untrained ReLU SAE is held for a batch.
            parts = activations[mask].float().to(self.device).split(self.datamodule.batch_size)
            latents = {reader: torch.cat([read(x) for x in parts]) for reader, read in self.readers.items()}
            yield BatchLatents(places, mask.to(self.device), latents)

    def strongest(self, n: int) -> dict[K, tuple[Float[Tensor, "n n_latents"], Int64[Tensor, "n n_latents"]]]:
        """Find for each latent the n images on which it is strongest: its activations, descending, and their places.

        Of images with equal activation the first are taken. All ranks get the same, on the CPU.
        """
        kept: dict[K, tuple[Tensor, Tensor]] = {}
        for batch in self:
            for reader in self.readers:
                values = batch.peaks(reader)
                places = batch.places.to(values.device)[:, None].expand_as(values)
                if reader in kept:
                    values, places = torch.cat([kept[reader][0], values]), torch.cat([kept[reader][1], places])
                kept[reader] = _largest(values, places, n)
        ranks = all_gather_object({reader: (values.cpu(), places.cpu()) for reader, (values, places) in kept.items()})
        strongest = {}
        for reader in self.readers:
            # A rank may be without images.
            pairs = [kept_by_rank[reader] for kept_by_rank in ranks if reader in kept_by_rank]
            values, places = (torch.cat(tensors) for tensors in zip(*pairs, strict=True))
            order = places.argsort(dim=0, stable=True)  # as one process meets them
            strongest[reader] = _largest(values.gather(0, order), places.gather(0, order), n)
        return strongest

    def all_peaks(self) -> dict[K, Float[Tensor, "n_images n_latents"]]:
        """Return the largest activation of each latent on each image, the same on all ranks, on the CPU.

        All are held in memory, so this is for few latents.
        """
        own = [(batch.places, {reader: batch.peaks(reader).cpu() for reader in self.readers}) for batch in self]
        blocks = [block for blocks_of_rank in all_gather_object(own) for block in blocks_of_rank]
        order = torch.cat([places for places, _ in blocks]).argsort()
        return {reader: torch.cat([peaks[reader] for _, peaks in blocks])[order] for reader in self.readers}

    def everywhere(self, wanted: Collection[tuple[K, int, int]]) -> dict[tuple[K, int, int], Float[Tensor, " seq"]]:
        """Return single latents at all positions of single images, 0 where these are not valid, on the CPU.

        Args:
            wanted: the reader, the place of an image, and which of the latents.
        """
        of_place: dict[int, list[tuple[K, int]]] = {}
        for reader, place, latent in wanted:
            of_place.setdefault(place, []).append((reader, latent))
        if not of_place:
            return {}
        few = list(of_place)
        own: dict[tuple[K, int, int], Tensor] = {}
        for batch in LatentsOnImages(self.datamodule, self.device, self.numbers[few], self.readers):
            latents = {reader: batch.everywhere(reader) for reader in self.readers}
            for row, i in enumerate(batch.places.tolist()):
                for reader, latent in of_place[few[i]]:
                    own[reader, few[i], latent] = latents[reader][row, :, latent].cpu()
        return {key: values for values_of_rank in all_gather_object(own) for key, values in values_of_rank.items()}

    def heats(self, wanted: Collection[tuple[K, int, int]]) -> dict[tuple[K, int, int], Float[Tensor, "rows columns"]]:
        """Return the same as `everywhere` at the patches alone; none where these are not valid."""
        grid = self.datamodule.source.grid
        if not self.datamodule.mask[-grid[0] * grid[1] :].any():
            return {}
        return {key: as_grid(values, grid) for key, values in self.everywhere(wanted).items()}


def thumbnails(datamodule: ClipImages, numbers: Collection[int], size: int) -> Iterator[tuple[int, "Image"]]:
    """Yield images as the model sees them, by ascending number.

    Args:
        datamodule: whose model and images.
        numbers: of images that can be decoded.
        size: pixels of the longer side at most.
    """
    from PIL import Image

    for block in torch.tensor(sorted(numbers), dtype=torch.int64).split(datamodule.rows_at_once):
        pixels = datamodule.source.visible(datamodule.inputs(block[:, None]).pixels)
        for number, colours in zip(block.tolist(), (255 * pixels).round().byte(), strict=True):
            image = Image.fromarray(colours.permute(1, 2, 0).numpy())
            image.thumbnail((size, size))
            yield number, image


def _largest(values: Tensor, places: Tensor, n: int) -> tuple[Tensor, Tensor]:
    order = values.argsort(dim=0, descending=True, stable=True)[:n]
    return values.gather(0, order), places.gather(0, order)
