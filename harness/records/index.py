"""The Parquet index of a folder of run files: derived, never the truth, brought up to date before it is asked.

Size, modification and change time of each run file are kept in the index. What differs from them is read again, every
hash verified; what is gone is dropped. An index of another layout, or one that cannot be read, is built anew.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from harness.errors import UserError
from harness.records import case_identity, phase_machine, recorded_environment, rows, timing_protocol
from harness.records.record import SCHEMA_VERSION
from harness.records.rows import Row
from harness.records.run_file import read_file

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = ".index"
NAME = "rows.parquet"
MANIFEST = b"inference_pio.manifest"
LAYOUT = b"inference_pio.layout"
SOURCE = "file"
"""Column of the run file's path under the folder; in the index alone."""
GROUP_ROWS = 20_000

RecordFactory = tuple[int, int, int]


def refresh(folder: Path) -> Path:
    """Bring the index of a folder up to date and give its path; UserError when the folder is none or not writable."""
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder and no run file: there is nothing to load")
    path = folder / FOLDER / NAME
    found = {file.relative_to(folder).as_posix(): _stamp(file) for file in sorted(folder.rglob("*.jsonl"))}
    known = _manifest(path)
    if known == found:
        return path
    stale = {name for name, stamp in known.items() if found.get(name) != stamp}
    fresh = [name for name, stamp in found.items() if known.get(name) != stamp]
    try:
        _write(path, _tables(folder, path if known else None, stale, fresh), found)
    except OSError as error:
        raise UserError(f"cannot write the index {path}: {error.strerror}") from None
    return path


def _tables(folder: Path, old: Path | None, stale: Collection[str], fresh: Sequence[str]) -> Iterator[pa.Table]:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if old is not None:
        kept = pq.ParquetFile(old)
        for group in range(kept.num_row_groups):
            part = kept.read_row_group(group)
            yield part.filter(pc.invert(pc.is_in(part[SOURCE], value_set=_strings(stale))))
    for name in fresh:
        yield table(folder / name, name)


def table(path: Path, name: str) -> pa.Table:
    """The rows of one run file, which has this name in the index."""
    import pyarrow as pa

    held = read_file(path)
    flat = [row for record, digest in zip(held.records, held.hashes, strict=True) for row in rows.rows(record, digest)]
    return pa.Table.from_pylist([{SOURCE: name, **row} for row in flat], schema=_schema())


def _write(path: Path, tables: Iterator[pa.Table], manifest: Mapping[str, RecordFactory]) -> None:
    """Written beside the old index and put in its place at once, so that a reader sees the one or the other."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(exist_ok=True)
    file, temporary = tempfile.mkstemp(dir=path.parent, suffix=".parquet")
    os.close(file)
    schema = _schema().with_metadata({MANIFEST: json.dumps(manifest).encode(), LAYOUT: _layout()})
    try:
        with pq.ParquetWriter(temporary, schema) as writer:
            held: list[pa.Table] = []
            for part in tables:
                held.append(part)
                if sum(one.num_rows for one in held) >= GROUP_ROWS:
                    writer.write_table(pa.concat_tables(held).replace_schema_metadata(schema.metadata))
                    held = []
            if held:
                writer.write_table(pa.concat_tables(held).replace_schema_metadata(schema.metadata))
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _manifest(path: Path) -> dict[str, RecordFactory]:
    """Run file -> stamp, as the index at `path` was built; empty when there is none that can be used."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(path).metadata or {}
    except (FileNotFoundError, pa.ArrowInvalid):
        return {}
    if metadata.get(LAYOUT) != _layout():
        return {}
    return {
        name: (size, modified, changed) for name, (size, modified, changed) in json.loads(metadata[MANIFEST]).items()
    }


def _stamp(path: Path) -> RecordFactory:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


@cache
def _layout() -> bytes:
    """Changes with the code that makes rows and with the schema of records: an index of other code is built anew."""
    makers = (rows, case_identity, recorded_environment, phase_machine, timing_protocol)
    code = "".join(inspect.getsource(maker) for maker in makers).encode()
    return hashlib.sha256(code + b"%d" % SCHEMA_VERSION).hexdigest().encode()


@cache
def _schema() -> pa.Schema:
    import pyarrow as pa

    kinds: dict[Any, Any] = {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}

    def kind(hint: Any) -> pa.DataType:
        named = [kinds[part] for part in (hint, *getattr(hint, "__args__", ())) if part in kinds]
        return named[0] if named else pa.string()

    fields = {name: kind(hint) for name, hint in get_type_hints(Row).items()}
    return pa.schema({SOURCE: pa.string(), **fields})


def _strings(values: Collection[str]) -> pa.Array:
    import pyarrow as pa

    return pa.array(sorted(values), type=pa.string())
