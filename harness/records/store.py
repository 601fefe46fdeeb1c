"""All runs of a folder, as one table that is asked by column."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UnknownName
from harness.records import index
from harness.records.rows import Row

if TYPE_CHECKING:
    import pandas as pd


def load(where: Path, **equal: str | int | Collection[str | int]) -> pd.DataFrame:
    """One row per record, phase and arm of one run file, or of all under a folder; the columns are
    `harness.records.rows.Row`.

    `load(folder, model="glm_4_7", phase=("decode", "prefill"))` keeps the rows whose columns have that value or one of
    those. A folder is read through its index, brought up to date before. Raises UnknownName for a column that is none,
    UserError for a folder that is none, and RecordError as `harness.records.run_file.read_file` does.
    """
    for column in set(equal) - set(Row.__annotations__):
        raise UnknownName("column", column, Row.__annotations__)
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

    chosen = None
    for column, value in equal.items():
        values = [value] if isinstance(value, str | int) else list(value)
        chosen = ds.field(column).isin(values) if chosen is None else chosen & ds.field(column).isin(values)
    if where.is_file():
        table = index.table(where, where.name)
        table = table if chosen is None else table.filter(chosen)
        return table.select(list(Row.__annotations__)).to_pandas()
    path = index.refresh(where)
    return pq.read_table(path, columns=list(Row.__annotations__), filters=chosen, memory_map=True).to_pandas()
