"""Names and small tools of a run directory: what its files are called, and how one is written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, get_args

from lrlab.config.files import check_regular as check_regular
from lrlab.config.files import read_file as read_file
from lrlab.config.parse import ELSEWHERE as ELSEWHERE
from lrlab.config.study import TUNING as TUNING

FORMAT_VERSION = 1
"""Version of the run directory's layout, in run.json; a reader refuses another one."""
Status = Literal["running", "complete", "preempted", "diverged", "failed"]
STATUSES: Final[tuple[str, ...]] = get_args(Status)

INFO = "run.json"
LOCK = ".lock"
CONFIG = "config.toml"
METRICS = "metrics"
EVALUATIONS = "evaluations.jsonl"
DECISIONS = "decisions.jsonl"
FIGURES = "figures"
CONFUSION = "confusion"
CHECKPOINTS = "checkpoints"
REPORT = "report.html"
OF_A_RUN = (CONFIG, METRICS, EVALUATIONS, DECISIONS, FIGURES, CONFUSION, CHECKPOINTS, REPORT)
"""What a run writes besides run.json, TensorBoard's files and how far it was sent to trackers."""
FOLDERS = (METRICS, CONFUSION, FIGURES, CHECKPOINTS)
"""Which of them are folders."""
WRITTEN_INTO = (*FOLDERS, EVALUATIONS, DECISIONS)
"""Which of them are not replaced as a whole."""
EXPORT = "export"
"""What somebody asked for, and perhaps the only copy of that network: nothing that goes on with a run touches it."""
FELL_TO = "fell_to_lr"
"""In the result of a run that `stop_below_lr` ended: the highest rate then."""
STUDY = "study.toml"
TUNING_RESULT = "tuning.json"
TRACKED = "sent-to-{}.json"
"""How far a run was sent to which tracker."""

_PART = "part-"
"""What the names of files of rows begin with that training wrote; of others, what was measured once it was over."""

_SPACE_OR_PERMISSION = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)


class StorageError(OSError):
    """A file of a run could not be written or read."""

    exit_code: ClassVar[int] = 5


class RunError(ValueError):
    """A path does not hold the run that was asked for, or holds one already."""

    exit_code: ClassVar[int] = 2


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn what the file system says about `path` into one line that says where."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        advice = " Check space and permissions." if error.errno in _SPACE_OR_PERMISSION else ""
        raise StorageError(f"{error.filename or path}: {error.strerror or error}.{advice}") from error


def write_whole(path: Path, content: bytes, *, check: Callable[[Path], None] = lambda written: None) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part.

    Args:
        path: of the file.
        content: of it.
        check: is given the file, under another name, before it takes its place; what it raises keeps it from that.
    """
    # two processes that share a study may meet here, and in two containers have the same number
    aside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    with storage_errors(path):
        try:
            with aside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            check(aside)
            aside.replace(path)
        except Exception as error:
            if isinstance(error, OSError) and error.filename == str(aside):
                error.filename = str(path)  # the name that somebody knows
            with contextlib.suppress(OSError):
                aside.unlink()  # the space is better used by what may still fit
            raise


def part_path(run: Path, first_step: int) -> Path:
    """Return where the rows of a training are that begin with an update."""
    return run / METRICS / f"{_PART}{first_step:09d}.parquet"


def part_paths(run: Path) -> list[Path]:
    """Return all files of rows of a run, in order."""
    return sorted((run / METRICS).glob("*.parquet"))


def is_of_training(part: Path) -> bool:
    """Whether training wrote a file of rows."""
    return part.name.startswith(_PART)


def check_no_links(run: Path, *names: str) -> None:
    """Check that what is to be written to in a run is no link: it would lie outside the run.

    Args:
        run: its directory.
        names: of folders, and of files that are not replaced as a whole; * stands for any letters.
    Raises: StorageError.
    """
    with storage_errors(run):
        links = [path for path in run.iterdir() if path.is_symlink()]
    for link in links:
        if any(fnmatch(link.name, name) for name in names):
            raise StorageError(f"{link}: must not be a link. Replace it with what it points to.")


def delete(path: Path) -> None:
    """Delete a file, a folder with all in it, or a link and not what it leads to."""
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def sync_directory(path: Path) -> None:
    """Bring the names in a directory to the disk: without that, a renamed file may be gone after a power cut."""
    with storage_errors(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON document whole; numbers that are not finite become null."""
    write_whole(path, (json.dumps(plain(value), indent=2, allow_nan=False) + "\n").encode())


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: it has no nan and no infinity, so what is not finite becomes null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


def flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return nested settings as pairs of a dotted name and a value."""
    pairs: list[tuple[str, Any]] = []
    for name, value in table.items():
        pairs += flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", value)]
    return pairs


def differing_splits(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Return the splits of which two runs' `data.digest` differ: of those that both have, as older runs have none."""
    return [split for split, digest in one.items() if split in other and other[split] != digest]


def read_json(path: Path) -> Any:
    """Read a JSON document; None if it is not there.

    Raises: StorageError.
    """
    content = _content(path)
    return None if content is None else _parsed(content, str(path))


def append_json_lines(path: Path, records: list[dict[str, Any]]) -> None:
    """Append one line a record, all of them or none; numbers that are not finite become null."""
    if not records:
        return
    with storage_errors(path), path.open("ab", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        lines = "".join(json.dumps(plain(record), allow_nan=False) + "\n" for record in records)
        left = memoryview(lines.encode())
        try:
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(size)  # what is appended later would end a line that a full disk cut short
            raise


def read_json_lines(path: Path, fault: Callable[[Any], str | None], *, is_over: bool) -> list[dict[str, Any]]:
    """Read the records of a file, none if it is not there.

    Args:
        path: of the file.
        fault: says what is wrong with a record, None if nothing is.
        is_over: whether nobody writes it any more; else a last line without its end is still being written.
    Raises: StorageError with the number of the line.
    """
    *lines, last = (_content(path) or b"").split(b"\n")
    if last and is_over:
        raise StorageError(f"{path}: incomplete, its last line is cut off.")
    records = []
    for number, line in enumerate(lines, 1):
        record = _parsed(line, f"{path}, line {number}")
        if problem := fault(record):
            raise StorageError(f"{path}, line {number}: damaged, {problem}.")
        records.append(record)
    return records


def _content(path: Path) -> bytes | None:
    """Content of a file, None if it is not there; a link that leads nowhere is no file that is not there."""
    with storage_errors(path):
        try:
            return read_file(path)
        except FileNotFoundError:
            if path.is_symlink():
                raise
            return None


def _parsed(text: bytes, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StorageError(f"{place}: damaged, it is not JSON ({error}).") from error
