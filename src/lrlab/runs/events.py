"""TensorBoard event files: the live view of a run."""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from lrlab.runs.storage import storage_errors


class EventWriter:
    """Writes a run's rows and pictures as TensorBoard events, all values of a step in one event."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._writer = EventFileWriter(str(directory))

    def add_scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        """Add the values that are there; a tag is the column's name."""
        present = [Summary.Value(tag=name, simple_value=value) for name, value in values.items() if value is not None]
        self._add(step, Summary(value=present))

    def add_png(self, step: int, tag: str, png: bytes) -> None:
        """Add a picture."""
        width, height = struct.unpack(">II", png[16:24])  # the first chunk of every PNG
        image = Summary.Image(encoded_image_string=png, width=width, height=height, colorspace=4)
        self._add(step, Summary(value=[Summary.Value(tag=tag, image=image)]))

    def flush(self) -> None:
        """Write what is held back to disk."""
        with storage_errors(self._directory):
            self._writer.flush()

    def close(self) -> None:
        """Write everything and end the file."""
        with storage_errors(self._directory):
            self._writer.close()

    def _add(self, step: int, summary: Summary) -> None:
        with storage_errors(self._directory):
            self._writer.add_event(Event(step=step, wall_time=time.time(), summary=summary))
