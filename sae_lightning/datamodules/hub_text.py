"""Documents of a dataset on the Hugging Face hub, or of a local folder that `datasets` can read or has written."""

import asyncio
import re
import time
import warnings
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from typing_extensions import override

from sae_lightning.checks import check_whole
from sae_lightning.datamodules.text import SourceError, SplitText
from sae_lightning.files import Row, column_problem
from sae_lightning.files.saved_dataset import load_split

_ROWS_AT_ONCE = 256
_MAX_WAIT_S = 60
_REVISION = re.compile("@([0-9a-f]{40})/")
# Their errors need not be an OSError.
_NETWORK_LIBRARIES = {"aiohttp", "fsspec", "httpcore", "httpcore2", "httpx", "httpx2", "huggingface_hub"}


class HubText(SplitText):
    """Documents of a dataset that the `datasets` library can load; needs a network unless it is a local folder.

    A stream that breaks is opened again after 1, 2, 4 and so on up to 60 seconds and continues with the same document;
    a warning on each rank says so. A new process that resumes reads the documents before its place without using them.

    Args:
        dataset: name on the hub, for example monology/pile-uncopyrighted, or a local folder, also one that
            `save_to_disk` wrote.
        name: configuration of the dataset. Default: its only one.
        split: split to train on.
        column: column that holds the text.
        heldout_split: split of held-out documents. Default: every heldout_every-th document of split.
        heldout_every: one document in this many is held out, at least 2; without effect when heldout_split is given.
        streaming: read while training, without first downloading the whole.
        retries: times that reading is tried again, without a document in between, before the run ends; 0 for never.
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
        retries: int = 8,
    ) -> None:
        super().__init__(heldout_every)
        check_whole(0, retries=retries)
        if heldout_split is not None and _overlap(split, heldout_split):
            raise ValueError(
                f"heldout_split={heldout_split}: it is training text, split={split}; give another split, or leave "
                "heldout_split out and one document in heldout_every is held out"
            )
        self.dataset, self.name, self.split, self.column = dataset, name, split, column
        self.heldout_split, self.streaming, self.retries = heldout_split, streaming, retries
        self._loaded: dict[str, Any] = {}
        self._warned: set[str] = set()
        self._ends: defaultdict[str, list[int]] = defaultdict(list)

    @property
    def revision(self) -> str | None:
        """Commit of the dataset that was read; None before it was read, and where `datasets` does not say it."""
        infos = (getattr(rows, "info", None) for rows in self._loaded.values())
        addresses = (address for info in infos for address in getattr(info, "download_checksums", None) or ())
        return next((match[1] for address in addresses if (match := _REVISION.search(address))), None)

    @override
    def documents(self, start: int = 0) -> Iterable[str]:
        return self._read(self.split, start)

    @override
    def train(self, start: int = 0) -> Iterator[str]:
        """Iterate over training documents, without the first `start` of them."""
        return super().train(start) if self.heldout_split is None else self._read(self.split, start)

    @override
    def heldout(self) -> Iterator[str]:
        """Iterate over held-out documents."""
        return super().heldout() if self.heldout_split is None else self._read(self.heldout_split)

    def _read(self, split: str, start: int = 0) -> Iterator[str]:
        self._load(split)
        number, failures = start, 0
        tables = self._tables(split, number)
        while True:
            try:
                table = next(tables, None)
            except Exception as error:
                if not _may_pass(error):
                    raise SourceError(f"{self._place(split, number)}: cannot be read ({_summary(error)})") from error
                self._wait(split, number, failures, error)
                failures += 1
                tables = self._tables(split, number)
                continue
            if table is None:
                return
            failures = 0
            number += len(table)
            yield from self._texts(table, split)

    def _load(self, split: str) -> None:
        """Open a split, once: read again, it is still the same revision of the dataset."""
        failures = 0
        while split not in self._loaded:
            try:
                rows = load_split(self.dataset, self.name, split, self.streaming)
            except Exception as error:
                if not _is_busy(error):
                    raise ValueError(
                        f"dataset={self.dataset}, name={self.name}, split={split}: `datasets` cannot load it "
                        f"({_summary(error)}). Without a network read local files with FileText, or PocketText"
                    ) from error
                self._wait(split, 0, failures, error)
                failures += 1
            else:
                self._loaded[split] = rows.with_format("arrow")

    def _tables(self, split: str, start: int) -> Iterator[Any]:
        """Yield Arrow tables of the rows from number start on.

        `IterableDataset.skip` would read all files before start again. This reads only files whose number of rows is
        not known yet: after a break that is the file that broke.
        """
        from datasets import Dataset

        rows = self._loaded[split]
        if isinstance(rows, Dataset):
            if start < len(rows):
                yield from rows.select(range(start, len(rows))).iter(_ROWS_AT_ONCE)
            return
        ends = self._ends[split]  # for each file that was read to its end, the number of the row after its last
        known = bisect_right(ends, start)
        number = ends[known - 1] if known else 0
        for file in range(known, rows.num_shards):
            for table in rows.shard(rows.num_shards, file).iter(_ROWS_AT_ONCE):
                if number + len(table) > start:
                    yield table.slice(max(0, start - number))
                number += len(table)
            if file == len(ends):
                ends.append(number)

    def _texts(self, table: Any, split: str) -> list[str]:
        """Return the texts of rows; a row without one is an empty document, so that documents keep their numbers."""
        if self.column in table.column_names:
            texts = table[self.column].to_pylist()
            if all(text is None or isinstance(text, str) for text in texts):
                if None in texts and split not in self._warned:
                    self._warned.add(split)
                    rank_zero_warn(
                        f"dataset={self.dataset}, split={split}: rows have null under column={self.column}; they are "
                        "read as empty documents"
                    )
                return ["" if text is None else text for text in texts]
        rows = (Row(i, cells) for i, cells in enumerate(table.to_pylist(), 1))
        raise ValueError(f"dataset={self.dataset}: {column_problem(rows, 'column', self.column)}")

    def _wait(self, split: str, number: int, failures: int, error: Exception) -> None:
        """Wait before the next attempt, or raise a `SourceError` after the last one."""
        place = self._place(split, number)
        if failures == self.retries:
            raise SourceError(f"{place}: given up after {failures} retries ({_summary(error)})") from error
        seconds = min(2**failures, _MAX_WAIT_S)
        warnings.warn(  # on each rank: while one waits, all do
            f"{place}: {_summary(error)}; retry {failures + 1} of {self.retries} in {seconds} s", stacklevel=2
        )
        time.sleep(seconds)

    def _place(self, split: str, number: int) -> str:
        return f"dataset={self.dataset}, split={split}, document {number}"


def _overlap(split: str, other: str) -> bool:
    """Tell whether two splits share rows for certain: they are the same, or one is a slice of the other."""
    (name, _, part), (other_name, _, other_part) = split.partition("["), other.partition("[")
    return name == other_name and (part == other_part or not part or not other_part)


def _may_pass(error: Exception) -> bool:
    """Tell whether an error may be the network's; a hub in trouble also answers that a file does not exist."""
    if isinstance(error, OSError | EOFError | RuntimeError | asyncio.TimeoutError):
        return True
    return any(kind.__module__.partition(".")[0] in _NETWORK_LIBRARIES for kind in type(error).__mro__)


def _is_busy(error: Exception) -> bool:
    """Tell whether a server answered 429, too many requests, or 5xx, a failure of its own."""
    status = getattr(getattr(error, "response", None), "status_code", getattr(error, "status", None))
    return isinstance(status, int) and (status == 429 or status >= 500)


def _summary(error: Exception) -> str:
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
