"""Images -> image tower -> buffer -> batches: the streams of activations of an image tower."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from typing_extensions import override

from sae_lightning.datamodules.background import Background
from sae_lightning.datamodules.buffer import BufferedStream, ShuffleBuffer
from sae_lightning.datamodules.token_stream import valid_activations
from sae_lightning.sources import ActivationSource, ImageBatch, NonFiniteError

_AHEAD = 2  # decoded blocks that are kept ready


class ImageOrder:
    """Numbers of images without end, each pass over them in another order.

    Args:
        numbers: of the images.
        seed: decides the orders.
    """

    def __init__(self, numbers: Int64[Tensor, " n"], seed: int) -> None:
        self.numbers, self.seed = numbers, seed
        self._pass = lru_cache(maxsize=2)(self._order)

    def slice(self, begin: int, end: int) -> Int64[Tensor, " k"]:
        """Return images begin to end - 1 of the endless sequence."""
        n = len(self.numbers)
        parts = []
        while begin < end:
            turn, first = divmod(begin, n)
            last = min(n, first + end - begin)
            parts.append(self._pass(turn)[first:last])
            begin += last - first
        return torch.cat(parts)

    def _order(self, turn: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + turn)
        return self.numbers[torch.randperm(len(self.numbers), generator=generator)]


class ImageStream(BufferedStream):
    """Shuffled activations of this rank's images, which are decoded ahead of their use.

    Images come in blocks of `images_per_forward`, one model forward each; of every `world_size` blocks a rank takes
    the one with its number. So the forwards do not depend on the number of ranks.

    Args:
        source: the model and the hook.
        order: of the images.
        inputs: reads images by their numbers.
        name: what messages call an image.
        buffer: the pool that activations are drawn from, with room for two blocks or more.
        batch_size: activations in a batch.
        images_per_forward: images in a forward of the model.
        positions: valid positions of an image.
        rank: number of this process.
        world_size: number of processes.
    """

    def __init__(
        self,
        source: ActivationSource,
        order: ImageOrder,
        inputs: Callable[[Tensor], ImageBatch],
        name: Callable[[int], str],
        buffer: ShuffleBuffer,
        batch_size: int,
        images_per_forward: int,
        positions: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(buffer, batch_size, images_per_forward * positions)
        self.source, self.name, self.position = source, name, 0
        step = images_per_forward * world_size

        def own_block(number: int) -> Tensor:
            begin = number * step + rank * images_per_forward
            return order.slice(begin, begin + images_per_forward)[:, None]

        self._read = _block_reader(own_block, inputs)
        self._ahead: Iterator[ImageBatch] | None = None

    @override
    def next_block(self) -> Float[Tensor, "n d_in"]:
        if self._ahead is None:
            self._ahead = Background(self._read(self.position), _AHEAD)
        inputs = next(self._ahead)
        try:
            with torch.inference_mode():
                activations = valid_activations(self.source, inputs)
        except NonFiniteError as error:
            self._ahead = None  # this block will be read again
            row, position = error.position
            where = f"The first: {self.name(int(inputs.numbers[row]))}, position {position}"
            raise ValueError(f"{error}. {where}") from error
        self.position += 1
        self.count(int(inputs.mask.sum()), len(activations))
        return activations

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position, **super().state_dict()}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position, self._ahead = state["position"], None
        super().load_state_dict(state)


def _block_reader(
    own_block: Callable[[int], Tensor], inputs: Callable[[Tensor], ImageBatch]
) -> Callable[[int], Iterator[ImageBatch]]:
    """Return a function that reads blocks without end from a number on.

    It is not a method, since the thread that decodes must not hold the stream.
    """

    def blocks(number: int) -> Iterator[ImageBatch]:
        while True:
            yield inputs(own_block(number))
            number += 1

    return blocks
