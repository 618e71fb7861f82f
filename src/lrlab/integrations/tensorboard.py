"""TensorBoard's event files, whoever wrote them."""

from __future__ import annotations

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from lrlab.integrations.recorded import RecordedError, Recording, as_curve


def read_events(path: Path) -> list[Recording]:
    """Read a file of events, a folder with such files as one run, or a folder of folders as a run each.

    Raises: RecordedError if there is nothing of the kind.
    """
    if path.is_file():
        return [_read(path, "")]
    folders = sorted({file.parent for file in path.rglob("*tfevents*") if file.is_file()})
    if not folders:
        raise RecordedError(f"{path}: no numbers were recorded here.")
    return [_read(folder, "" if folder == path else str(folder.relative_to(path))) for folder in folders]


def _read(path: Path, name: str) -> Recording:
    events = EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    series = {tag: as_curve([(event.step, event.value) for event in events.Scalars(tag)]) for tag in tags["scalars"]}
    for tag in tags["tensors"]:
        tensors = [(event.step, make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)]
        points = [(step, tensor.item()) for step, tensor in tensors if tensor.size == 1 and tensor.dtype.kind in "fiu"]
        if points:
            series[tag] = as_curve(points)
    return Recording(name, series)
