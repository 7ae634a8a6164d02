"""Rows of Parquet and Arrow files, some at a time."""

import io
from collections.abc import Iterator, Sequence
from typing import Any

from typing_extensions import override

from sae_lightning.files.row import Row
from sae_lightning.files.table import TableFile
from sae_lightning.files.unpacking import DamageError, open_seekable

_ROWS_AT_ONCE = 256


class ParquetTable(TableFile):
    """Rows of a Parquet file."""

    @override
    def rows(self, columns: Sequence[str] | None = None) -> Iterator[Row]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        with open_seekable(self.path) as file:
            number = 0
            try:
                table = pq.ParquetFile(file, pre_buffer=False)
                known = None if columns is None or {*columns} - {*table.schema_arrow.names} else list(columns)
                for batch in table.iter_batches(_ROWS_AT_ONCE, columns=known):
                    yield from _rows(batch, number)
                    number += len(batch)
            except pa.ArrowInvalid as error:
                raise DamageError(f"no whole Parquet file ({_first_line(error)})") from error


class ArrowTable(TableFile):
    """Rows of an Arrow file or stream, such as `datasets` keeps."""

    @override
    def rows(self, columns: Sequence[str] | None = None) -> Iterator[Row]:
        import pyarrow as pa

        with open_seekable(self.path) as file:
            number = 0
            try:
                for batch in _batches(file):
                    wanted = batch
                    if columns is not None and not {*columns} - {*batch.schema.names}:
                        wanted = batch.select(list(columns))
                    for begin in range(0, len(wanted), _ROWS_AT_ONCE):
                        yield from _rows(wanted.slice(begin, _ROWS_AT_ONCE), number + begin)
                    number += len(batch)
            except pa.ArrowInvalid as error:
                raise DamageError(f"no whole Arrow file ({_first_line(error)})") from error


def _batches(file: io.BufferedIOBase) -> Iterator[Any]:
    import pyarrow as pa

    is_file = file.read(6) == b"ARROW1"
    file.seek(0)
    if not is_file:
        yield from pa.ipc.open_stream(file)
        return
    with pa.ipc.open_file(file) as reader:
        for i in range(reader.num_record_batches):
            yield reader.get_batch(i)


def _rows(batch: Any, number: int) -> Iterator[Row]:
    for i, cells in enumerate(batch.to_pylist(), number + 1):
        yield Row(i, cells)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
