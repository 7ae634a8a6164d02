"""Activations in Parquet files: a column of lists, and columns that say something of each row."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    import pyarrow as pa


def read_parquet(path: Path, key: str | None, columns: Collection[str]) -> dict[str, Tensor | np.ndarray]:
    """Return columns of lists of floating-point numbers as tensors [n, d], and named columns as arrays [n].

    Args:
        path: a Parquet file, of which these columns are read whole.
        key: the column of lists; None for all of them.
        columns: other columns to read, as far as the file has them.

    Raises:
        ValueError: if the file is damaged, a value is missing, or lists differ in length.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
        lists = [field.name for field in schema if _is_of_lists(field.type) and key in (None, field.name)]
        others = [name for name in columns if name in schema.names]
        table = pq.read_table(path, columns=[*lists, *others])
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is damaged, cut off or no Parquet file ({str(error).splitlines()[0]})") from error
    for name in (*lists, *others):
        if missing := table[name].null_count:
            raise ValueError(f"{path}: {name} has no value in {missing} rows: leave these out")
    rows = {name: _matrix(table[name], f"{path}: {name}") for name in lists}
    return rows | {name: table[name].to_numpy() for name in others}


def _is_of_lists(kind: "pa.DataType") -> bool:
    import pyarrow.types as types

    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return is_list and types.is_floating(kind.value_type)


def _matrix(column: "pa.ChunkedArray[Any]", name: str) -> Tensor:
    import pyarrow.compute as pc

    shortest, longest = (scalar.as_py() for scalar in pc.min_max(pc.list_value_length(column)).values())
    if shortest != longest:
        raise ValueError(f"{name} has lists of {shortest} to {longest} numbers; expected activations of one width")
    values = pc.list_flatten(column)
    if values.null_count:
        raise ValueError(f"{name}: {values.null_count} numbers are missing; expected finite activations")
    return torch.from_numpy(np.array(values.to_numpy())).view(len(column), longest or 0)
