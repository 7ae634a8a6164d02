"""`HubImages`: images of a dataset on the Hugging Face hub, or of a local folder that `datasets` can read."""

import io
from typing import TYPE_CHECKING, Any

from jaxtyping import Int64
from torch import Tensor
from typing_extensions import override

from sae_lightning.files.saved_dataset import load_split
from sae_lightning.images.base import Images
from sae_lightning.images.folder import number_values, prompts_for
from sae_lightning.provenance import arguments_of

if TYPE_CHECKING:
    from PIL.Image import Image


class HubImages(Images):
    """Images of a dataset that the `datasets` library can load whole; needs a network unless it is a local folder.

    Args:
        dataset: name on the hub, for example uoft-cs/cifar10, or a local folder.
        name: configuration of the dataset. Default: its only one.
        split: of the dataset; every heldout_every-th image of it is held out.
        column: column of the images.
        attributes: columns of labels: class labels, text or whole numbers.
        prompts: for each attribute the captions by which a model is asked for it, with {} in place of the value.
            Default: "a photo of a {}".
        heldout_every: one image in this many is held out, at least 2.
    """

    def __init__(
        self,
        dataset: str,
        name: str | None = None,
        split: str = "train",
        column: str = "image",
        attributes: list[str] | None = None,
        prompts: dict[str, list[str]] | None = None,
        heldout_every: int = 20,
    ) -> None:
        super().__init__(heldout_every)
        self.dataset, self.split, self.column, self.attributes = dataset, split, column, attributes
        self.configuration = name
        import datasets

        try:
            rows = load_split(dataset, name, split)
        except Exception as error:  # the library raises what its readers and the network raise
            raise ValueError(
                f"dataset={dataset}, name={name}, split={split}: `datasets` cannot load it "
                f"({(str(error).splitlines() or [type(error).__name__])[0]}). Without a network read a local folder "
                "with ImageFolder, or take PocketImages"
            ) from error
        if missing := [wanted for wanted in (column, *(attributes or [])) if wanted not in rows.column_names]:
            raise ValueError(
                f"dataset={dataset}: it has no column {missing[0]}; expected one of {', '.join(rows.column_names)}"
            )
        if not isinstance(rows.features[column], datasets.Image):
            raise ValueError(f"column={column}: it holds {rows.features[column]}, expected images")
        self._rows = rows.cast_column(column, datasets.Image(decode=False))  # a damaged image must not end a run
        self.values, self._labels = number_values({name: _texts(rows, name) for name in attributes or []}, len(rows))
        self.prompts = prompts_for(self.values, prompts)

    def describe(self) -> dict[str, Any]:
        """Return the data set and how it is read."""
        return {"class": type(self).__name__, **arguments_of(self), "name": self.configuration}

    @override
    def __len__(self) -> int:
        return len(self._rows)

    @override
    def image(self, number: int) -> "Image":
        from PIL import Image

        stored = self._rows[number][self.column]
        with Image.open(io.BytesIO(stored["bytes"]) if stored["bytes"] else stored["path"]) as image:
            image.load()
            return image

    @override
    def name(self, number: int) -> str:
        return self._rows[number][self.column]["path"] or f"image {number} of {self.dataset}, split {self.split}"

    @override
    def labels(self, attribute: str) -> Int64[Tensor, " n"]:
        return self._labels[attribute]


def _texts(rows: Any, column: str) -> list[str]:
    """Return the values of a column as text, class labels by their names; "" where there is none."""
    feature, values = rows.features[column], rows[column]
    if hasattr(feature, "int2str"):
        return ["" if value is None or value < 0 else feature.int2str(value) for value in values]
    return ["" if value is None else str(value) for value in values]
