"""Documents of a dataset on the Hugging Face hub, or of a local folder that `datasets` can read."""

from collections.abc import Iterable, Iterator

from typing_extensions import override

from sae_lightning.datamodules.text import SplitText


class HubText(SplitText):
    """Documents of a dataset that the `datasets` library can load; needs a network unless it is a local folder.

    Args:
        dataset: name on the hub, for example monology/pile-uncopyrighted, or a local folder.
        name: configuration of the dataset. Default: its only one.
        split: split to train on.
        column: column that holds the text.
        heldout_split: split of held-out documents. Default: every heldout_every-th document of split.
        heldout_every: one document in this many is held out, at least 2; without effect when heldout_split is given.
        streaming: read while training, without a download of the whole first.
    """

    def __init__(
        self,
        dataset: str,
        name: str | None = None,
        split: str = "train",
        column: str = "text",
        heldout_split: str | None = None,
        heldout_every: int = 20,
        streaming: bool = True,
    ) -> None:
        super().__init__(heldout_every)
        self.dataset, self.name, self.split, self.column = dataset, name, split, column
        self.heldout_split, self.streaming = heldout_split, streaming

    @override
    def documents(self) -> Iterable[str]:
        return self._read(self.split)

    @override
    def train(self) -> Iterator[str]:
        """Training documents."""
        return super().train() if self.heldout_split is None else self._read(self.split)

    @override
    def heldout(self) -> Iterator[str]:
        """Held-out documents."""
        return super().heldout() if self.heldout_split is None else self._read(self.heldout_split)

    def _read(self, split: str) -> Iterator[str]:
        import datasets

        try:
            rows = datasets.load_dataset(self.dataset, self.name, split=split, streaming=self.streaming)
        except (OSError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"dataset={self.dataset}, name={self.name}, split={split}: `datasets` cannot load it "
                f"({(str(error).splitlines() or [type(error).__name__])[0]}). Without a network read local files with "
                "FileText, or PocketText"
            ) from error
        for row in rows:
            if not isinstance(row.get(self.column), str):
                raise ValueError(
                    f"dataset={self.dataset}: no text under column={self.column}; "
                    f"set column to one of: {', '.join(row)}"
                )
            yield row[self.column]
