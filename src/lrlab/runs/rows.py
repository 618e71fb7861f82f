"""Rows of a run, in Parquet files: written whole, and believed only as far as their checksums hold."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lrlab.runs import storage

NUM_TRIES = 10
"""Times that rows are read again when their files change under the reader."""

PROMOTION = "permissive"
"""How parts of rows are put together: a float64 quantity is float32 in a part where it was not measured at all."""

_MARK = b"lrlabsha"
"""Comes before the digest of a foot; parts of an older lrlab have neither."""
_END = 8
"""Bytes after a foot: its length and Parquet's own mark."""
_OF_DAMAGE = (pa.ArrowException, ArithmeticError, LookupError, OSError, ValueError)
"""What pyarrow raises for files that are not what was written."""

Series = npt.NDArray[np.float64]
T = TypeVar("T")


@dataclass(frozen=True)
class Foot:
    """What a part says of itself in its foot; nothing else of it is read."""

    part: Path
    num_measured: Mapping[str, int]
    """Column -> how often it was measured."""
    last_step: int


def write_part(path: Path, rows: pa.Table) -> None:
    """Write rows as one Parquet file, whole."""
    buffer = pa.BufferOutputStream()
    # hardly a measured value comes twice, so a dictionary of them costs time and space
    pq.write_table(rows, buffer, compression="zstd", use_dictionary=False, write_page_checksum=True)
    content = buffer.getvalue().to_pybytes()
    # a foot, which names the columns and counts what is in them, has no checksum of its own as pages do. Its digest
    # comes before it, which no reader looks at: a foot is found from the end, and pages by their places in the foot
    foot = len(content) - _foot_size(content)
    storage.write_whole(path, content[:foot] + _MARK + _digest(content[foot:]) + content[foot:])


def read_part(path: Path) -> pa.Table:
    """Read one Parquet file of rows, in this thread: one that memory is lacking for would be waited for without end.

    Raises: StorageError if it is damaged, or not there.
    """
    with storage.storage_errors(path), _opened(path) as file:
        return _checked(file.read(use_threads=False))


def read_feet(run: Path) -> list[Foot]:
    """Read the foot of each part of a run."""
    return _read_parts(run, _read_foot)


def read_series(run: Path, columns: Sequence[str]) -> dict[str, tuple[Series, Series]]:
    """Return quantities as (steps, values), each at the steps where it was measured; the files are read once."""
    wanted = list(dict.fromkeys(("step", *columns)))

    def read(part: Path) -> pa.Table:
        with _opened(part) as file:
            return _checked(file.read(wanted))

    parts = _read_parts(run, read)
    rows = pa.concat_tables(parts, promote_options=PROMOTION) if parts else pa.table({})
    return {column: _measured(rows, column) for column in columns}


def read_rows_after(run: Path, step: int) -> list[dict[str, float]]:
    """Return the rows of the training beyond an update, oldest first: `step`, and what was measured there."""

    def read(part: Path) -> list[dict[str, Any]]:
        if not storage.is_of_training(part):
            return []
        with _opened(part) as file:
            rows = _checked(file.read())
            later: list[dict[str, Any]] = rows.filter(pc.greater(rows["step"], step)).to_pylist()
            return later

    found: dict[int, dict[str, float]] = {}  # a part may be there twice while parts are merged
    for row in (row for rows in _read_parts(run, read) for row in rows):
        found.setdefault(row["step"], {name: value for name, value in row.items() if value is not None})
    return [found[at] for at in sorted(found)]


def _read_parts(run: Path, read: Callable[[Path], T]) -> list[T]:
    """Read every part; one that vanishes under the reader was merged into the first, and all are read again."""
    for _ in range(NUM_TRIES):
        try:
            return [read(part) for part in storage.part_paths(run)]
        except FileNotFoundError:
            continue
    raise storage.StorageError(f"{run / storage.METRICS}: its files change faster than they can be read.")


@contextmanager
def _opened(part: Path) -> Iterator[pq.ParquetFile]:
    """Open a part, and check its foot and what columns it has; whatever is wrong with it is said to be so in one line.

    It is opened once: by its path, a file may be replaced between the reading of its foot and of its body.

    Raises: StorageError; FileNotFoundError.
    """
    try:
        storage.check_regular(part)
        source = pa.OSFile(os.fsencode(part))  # by bytes, since a folder's name need not be text
        _check_foot(source)
        file = pq.ParquetFile(source, page_checksum_verification=True)
        _check_columns(file.schema_arrow)
        yield file
    except (FileNotFoundError, storage.StorageError):
        raise
    except _OF_DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:  # what the file system says, and not Arrow
            with storage.storage_errors(part):
                raise
        what = (str(error).splitlines() or [type(error).__name__])[0].rstrip(". ")  # Arrow may say it in ten lines
        raise storage.StorageError(f"{part}: damaged ({what}).") from error


def _check_foot(source: pa.NativeFile) -> None:
    num_bytes = source.size()
    source.seek(max(0, num_bytes - _END))
    kept = min(num_bytes, _foot_size(source.read()) + len(_MARK) + hashlib.sha256().digest_size)
    source.seek(num_bytes - kept)
    content = source.read()
    source.seek(0)
    foot = len(content) - _foot_size(content)
    mark, digest = content[: len(_MARK)], content[len(_MARK) : foot]
    if mark == _MARK and digest != _digest(content[foot:]):
        raise ValueError("its footer differs from what was written")


def _foot_size(content: bytes) -> int:
    """Bytes from the foot of a Parquet file to its end, of which the last few say so."""
    return int.from_bytes(content[-_END:-4], "little") + _END


def _digest(foot: bytes) -> bytes:
    return hashlib.sha256(foot).digest()


def _check_columns(schema: pa.Schema) -> None:
    if "step" not in schema.names or len(set(schema.names)) < len(schema.names):
        raise ValueError("it must have a column step, and each column once")
    for field in schema:
        is_number = pa.types.is_integer(field.type) or (pa.types.is_floating(field.type) and field.name != "step")
        if not is_number:
            must = "integers" if field.name == "step" else "numbers"
            raise ValueError(f"its column {field.name} must hold {must}, and holds {field.type}")


def _checked(rows: pa.Table) -> pa.Table:
    if rows["step"].null_count:
        raise ValueError("its column step must have no nulls")
    return rows


def _read_foot(part: Path) -> Foot:
    with _opened(part) as file:
        groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
        counts: Counter[str] = Counter()
        last_step = 0
        counts.update(dict.fromkeys(file.schema_arrow.names, 0))  # of a file without rows, too
        for chunk in (group.column(index) for group in groups if group.num_rows for index in range(group.num_columns)):
            if (statistics := chunk.statistics) is None or statistics.null_count is None:
                raise ValueError(f"its column {chunk.path_in_schema} lacks statistics")
            counts[chunk.path_in_schema] += chunk.num_values - statistics.null_count
            if chunk.path_in_schema == "step":
                last_step = max(last_step, int(statistics.max))
        return Foot(part, counts, last_step)


def _measured(rows: pa.Table, column: str) -> tuple[Series, Series]:
    if column not in rows.column_names:  # gone since its name was read: the run was taken back to a checkpoint
        return np.empty(0), np.empty(0)
    found = rows.filter(rows[column].is_valid())
    steps, values = (found[name].to_numpy().astype(np.float64) for name in ("step", column))
    steps, first = np.unique(steps, return_index=True)  # a part may be there twice while parts are merged
    return steps, values[first]
