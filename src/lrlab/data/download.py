"""One file from its home to a folder: whole and exactly the published bytes, or not there at all."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pooch
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

_CHUNK = 1 << 16  # bytes; pooch's own 1,024 mean a flush to disk for each
_PATIENCE = 30.0  # seconds without an answer or a byte


class DownloadError(OSError):
    """The file could not be had, or was not the one expected; nothing was kept."""


def download(url: str, *, directory: Path, num_bytes: int, sha256: str) -> Path:
    """The file at `url`, in `directory` under its own name; already there with that checksum, nothing is fetched.

    pooch writes to a temporary name and renames once the checksum holds, so no run ever meets half a file.
    A bar is drawn on stderr where that is a terminal.

    Raises: DownloadError with the reason, for anything between here and the whole, right file on disk.
    """
    name = url.rsplit("/", 1)[-1]
    bar = _Bar(name, num_bytes) if sys.stderr.isatty() else None
    try:
        with ExitStack() as stack:
            if bar:
                stack.enter_context(bar.progress)

            def close_later(response: Any, *_: object, **__: object) -> None:
                stack.callback(response.close)  # pooch does not, when the answer is an error

            downloader = pooch.HTTPDownloader(
                progressbar=bar or False, chunk_size=_CHUNK, timeout=_PATIENCE, hooks={"response": close_later}
            )
            path = pooch.retrieve(url, known_hash=f"sha256:{sha256}", fname=name, path=directory, downloader=downloader)
    except OSError as error:  # requests' errors are of this kind, and so is a full or read-only disk
        raise DownloadError(_reason(error)) from error
    except ValueError as error:  # pooch's word for a checksum that differs; it names both
        raise DownloadError(str(error).partition(" Deleted download")[0]) from error
    return Path(path)


def _reason(error: BaseException) -> str:
    """The innermost cause: "Name or service not known" rather than four libraries' wrappings of it."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return str(error) or type(error).__name__


class _Bar:
    """What pooch asks of a progress bar (tqdm's `total`, `update`, `reset`, `close`), drawn by rich."""

    def __init__(self, name: str, total: int) -> None:
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self.total = total  # pooch overwrites it by what the server says, 0 if it says nothing
        self._task = self.progress.add_task(name, total=total)

    def update(self, num_bytes: int) -> None:
        """That many more bytes have come."""
        self.progress.update(self._task, advance=num_bytes)

    def reset(self) -> None:
        """Back to none; pooch does so at the end, before it adds the true total."""
        self.progress.update(self._task, completed=0)

    def close(self) -> None:
        """Nothing to do: `progress` is a context manager, which also ends the bar when a download fails."""
