"""TensorBoard event files: the live view of a run."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import numpy as np
import numpy.typing as npt
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from lrlab.runs.storage import storage_errors

MAX_POINTS = 10_000
"""Points of one curve in a run's event file, at the most."""

EVENTS_PREFIX = "events.out.tfevents."
LATER = ".later"
"""How the names of files end in which is what was measured once the run was made."""

Array = npt.NDArray[Any]


class Written(NamedTuple):
    """How far the curves are written."""

    stretch: int
    """Updates in each."""
    last: Mapping[str, int]
    """Quantity -> number of the stretch that it was written for last, from 0."""


def stretch_of(num_steps: int | None) -> int:
    """Return how many updates of a run share a point of a curve; 1 where it is not known how many there will be."""
    return math.ceil((num_steps or 1) / MAX_POINTS)


class EventWriter:
    """Writes a run's rows and pictures as TensorBoard events, all values of a step in one event.

    Every event repeats the names of its values, so a long run would fill its directory with them. Where a run has more
    than MAX_POINTS updates they are divided into that many stretches of equal length, and each quantity is there at the
    first update of a stretch that it was measured at: values as they were measured, evenly spread, none averaged.
    TensorBoard itself shows a sample of 1,000. The Parquet files have every row.

    Args:
        directory: of the run.
        num_steps: updates that the run will have; without it, no curve is thinned.
        written: what that of the last process was, where a run goes on, perhaps to more updates in longer stretches.
        is_later: whether it is of what is measured once the run is made.
    """

    def __init__(
        self, directory: Path, *, num_steps: int | None = None, written: Written | None = None, is_later: bool = False
    ) -> None:
        self._stretch = stretch_of(num_steps)
        before = written or Written(self._stretch, {})
        # stretch that a quantity was written for last
        self._last = {name: last * before.stretch // self._stretch for name, last in before.last.items()}
        now = time.time()
        began = max([int(now), *(_began(path) + 1 for path in directory.glob(f"{EVENTS_PREFIX}*"))])
        ending = LATER if is_later else ".0"
        self._path = directory / f"{EVENTS_PREFIX}{began:010d}.{socket.gethostname()}.{os.getpid()}{ending}"
        with storage_errors(self._path):
            self._file = self._path.open("ab", buffering=0)
        self._write([Event(wall_time=now, file_version="brain.Event:2")])

    def add_rows(self, rows: Mapping[str, Array], *, since: float, until: float) -> None:
        """Add rows, without what was not measured; a tag is the column's name.

        Args:
            rows: column -> values, (n,), oldest first, masked where there is none.
            since: time before the first of these updates, in seconds since 1970.
            until: time after the last. When each was made is not known: they are spread evenly between the two.
        """
        steps = rows["step"]
        names = [name for name in rows if name != "step"]
        due, last = self._due({name: rows[name] for name in names}, (steps - 1) // self._stretch)
        values = np.stack([np.ma.getdata(rows[name]).astype(np.float64) for name in names], axis=1)  # (n, C)
        times = since + (until - since) * np.arange(1, len(steps) + 1) / len(steps)
        self._write(_events(names, steps, times, values, due))
        self._last |= last  # not before, since what could not be written is given again

    def add(self, step: int, *, scalars: Mapping[str, float], pngs: Mapping[str, bytes], at: float) -> None:
        """Add values and pictures of one step, made at a time in seconds since 1970."""
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        values += [Summary.Value(tag=tag, image=_image(png)) for tag, png in pngs.items()]
        self._write([Event(step=step, wall_time=at, summary=Summary(value=values))])

    @property
    def written(self) -> Written:
        """How far this is: what a run that goes on must know."""
        return Written(self._stretch, dict(self._last))

    def sync(self) -> None:
        """Bring what was written to the disk."""
        with storage_errors(self._path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """End the file."""
        with storage_errors(self._path):
            self._file.close()

    def _due(self, columns: Mapping[str, Array], stretches: Array) -> tuple[Array, dict[str, int]]:
        """Return which values are written, (n, C), and the stretch each column comes to by that."""
        due, last = [], dict[str, int]()
        for name, column in columns.items():
            here = ~np.ma.getmaskarray(column)
            reached = np.maximum.accumulate(np.append(self._last.get(name, -1), stretches[here]))
            here[here] = np.diff(reached) > 0
            due.append(here)
            last[name] = int(reached[-1])
        return np.stack(due, axis=1), last

    def _write(self, events: Iterator[Event] | list[Event]) -> None:
        """Write all of the events or none: what a full disk cut short would hide all that comes after it."""
        left = memoryview(b"".join(_record(event.SerializeToString()) for event in events))
        with storage_errors(self._path):
            size = os.fstat(self._file.fileno()).st_size
            try:
                while left:
                    left = left[self._file.write(left) :]
            except OSError:
                with contextlib.suppress(OSError):
                    self._file.truncate(size)
                raise


def _began(path: Path) -> int:
    """Second in a file's name, by which TensorBoard puts files in order, though a clock may have been set back."""
    second = path.name.split(".")[3]
    return int(second) if second.isdecimal() else 0


def _events(names: list[str], steps: Array, times: Array, values: Array, due: Array) -> Iterator[Event]:
    """Yield an event for each row that has a value due, which lasts until the next: filling is cheaper than making."""
    made: dict[bytes, tuple[Event, list[tuple[Summary.Value, int]]]] = {}  # by which of the values are there
    for step, at, row, here in zip(steps.tolist(), times.tolist(), values.tolist(), due, strict=True):
        key = here.tobytes()
        if key not in made:
            columns = np.flatnonzero(here).tolist()
            event = Event(summary=Summary(value=[Summary.Value(tag=names[column]) for column in columns]))
            made[key] = event, list(zip(event.summary.value, columns, strict=True))
        event, places = made[key]
        if places:
            event.step, event.wall_time = step, at
            for place, column in places:
                place.simple_value = row[column]
            yield event


def _record(content: bytes) -> bytes:
    """Return a TFRecord: length, its checksum, content, its checksum."""
    return _head(len(content)) + content + _checksum(content)


@lru_cache
def _head(length: int) -> bytes:
    content = struct.pack("<Q", length)
    return content + _checksum(content)


def _checksum(content: bytes) -> bytes:
    """Return the CRC-32C as TFRecord has it: rotated by 15 bits, and a constant added."""
    crc = google_crc32c.value(content)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _image(png: bytes) -> Summary.Image:
    width, height = struct.unpack(">II", png[16:24])  # the first chunk of every PNG
    return Summary.Image(encoded_image_string=png, width=width, height=height, colorspace=4)
