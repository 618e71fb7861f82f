"""What TensorBoard itself reads in an event file is what was written."""

import json
import math
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from lrlab.config import parse_config
from lrlab.runs import RunWriter, sound_checkpoints
from lrlab.runs.checkpoints import write_checkpoint
from lrlab.runs.events import MAX_POINTS, EventWriter

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x02\x00\x00\x00\x03" + b"\x00" * 8


def read(directory: Path) -> EventAccumulator:
    events = EventAccumulator(str(directory), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    return events


def curve(directory: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(directory).Scalars(tag)]


def rows(first: int, last: int, *, every: int = 1, seed: int = 0) -> dict[str, Any]:
    """Rows whose values use every bit of a float32; grad_l2 was measured at each `every`-th update."""
    steps = np.arange(first, last + 1)
    generator = np.random.default_rng(seed + first)
    values = generator.integers(0, 2**31 - 2**24, (2, len(steps)), dtype=np.int32).view(np.float32)  # all are finite
    grads = np.ma.array(values[1], mask=steps % every != 0)
    return {"step": steps, "epoch": steps // 100 + 1, "train/loss": values[0], "grad_l2/stem": grads}


def points(parts: Sequence[dict[str, Any]], column: str) -> list[tuple[int, float]]:
    """What was measured, by update."""
    return [
        (int(step), float(value))
        for part in parts
        for step, value in zip(part["step"], part[column], strict=True)
        if value is not np.ma.masked
    ]


def write(directory: Path, *parts: dict[str, Any], num_steps: int | None = None) -> None:
    writer = EventWriter(directory, num_steps=num_steps)
    for part in parts:
        writer.add_rows(part, since=0.0, until=1.0)
    writer.close()


def test_every_value_is_read_as_it_was_written_and_what_is_missing_is_not_there(tmp_path: Path) -> None:
    parts = [rows(1, 1000, every=7), rows(1001, 1003, every=7), rows(1004, 3000, every=7)]
    write(tmp_path, *parts)
    assert curve(tmp_path, "train/loss") == points(parts, "train/loss")
    assert curve(tmp_path, "grad_l2/stem") == points(parts, "grad_l2/stem")
    assert [step for step, _ in curve(tmp_path, "grad_l2/stem")] == list(range(7, 3001, 7))
    assert curve(tmp_path, "epoch")[-1] == (3000, 31.0)
    assert sorted(read(tmp_path).Tags()["scalars"]) == ["epoch", "grad_l2/stem", "train/loss"]


def test_a_row_is_one_event(tmp_path: Path) -> None:
    write(tmp_path, rows(1, 50))
    (path,) = tmp_path.iterdir()
    events = list(EventFileLoader(str(path)).Load())
    assert events[0].file_version == "brain.Event:2"
    assert [event.step for event in events[1:]] == list(range(1, 51))
    assert all(len(event.summary.value) == 3 for event in events[1:])


def test_zero_nan_and_infinity_are_values(tmp_path: Path) -> None:
    values = np.array([0.0, math.nan, math.inf, -math.inf, 1.0], np.float32)
    write(tmp_path, {"step": np.arange(1, 6), "train/loss": values})
    read_back = [value for _, value in curve(tmp_path, "train/loss")]
    assert np.array_equal(read_back, values, equal_nan=True)


def test_updates_are_spread_evenly_over_the_time_between_two_flushes(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path)
    writer.add_rows(rows(1, 4), since=100.0, until=102.0)
    writer.close()
    assert [event.wall_time for event in read(tmp_path).Scalars("train/loss")] == [100.5, 101.0, 101.5, 102.0]


def test_a_run_that_is_not_long_is_there_whole(tmp_path: Path) -> None:
    write(tmp_path, rows(1, MAX_POINTS), num_steps=MAX_POINTS)
    assert len(curve(tmp_path, "train/loss")) == MAX_POINTS


def test_a_long_run_is_thinned_evenly_and_what_is_rarely_measured_is_kept(tmp_path: Path) -> None:
    parts = [rows(first, first + 999, every=25) for first in range(1, 35_001, 1000)]
    write(tmp_path, *parts, num_steps=35_000)  # stretches of 4
    assert curve(tmp_path, "train/loss") == points(parts, "train/loss")[::4]
    assert [step for step, _ in curve(tmp_path, "grad_l2/stem")] == list(range(25, 35_001, 25))


def test_each_stretch_of_a_long_run_has_the_first_update_that_was_measured(tmp_path: Path) -> None:
    parts = [rows(first, first + 6, every=3) for first in range(1, 99, 7)]  # 1-7, 8-14, ... against stretches of 4
    write(tmp_path, *parts, num_steps=4 * MAX_POINTS)
    by_hand = [3, 6, 9, 15, 18, 21, 27, 30, 33]  # stretches 1-4, 5-8, 9-12, 13-16, ...; 12 is second to 9, 24 to 21
    assert [step for step, _ in curve(tmp_path, "grad_l2/stem")][:9] == by_hand


@pytest.mark.parametrize("says_so", [True, False])
def test_the_curves_of_a_run_that_gets_more_updates_go_on(tmp_path: Path, says_so: bool) -> None:
    config, num_steps = parse_config({"steps": MAX_POINTS}), MAX_POINTS
    directory = tmp_path / "run"
    with RunWriter(directory, config, num_steps=num_steps) as writer:
        writer.describe(engine={"num_steps": num_steps})
        writer.write_rows(rows(1, num_steps))
        writer.wait()
        writer.write_checkpoint(num_steps, {}, keep=2)
        writer.wait()
        writer.finish("preempted", {"steps": num_steps})
    [checkpoint] = sound_checkpoints(directory)
    if not says_so:  # as an older lrlab wrote it
        position = json.loads(checkpoint.files["position.json"])
        del position["stretch"]
        files = {name: content for name, content in checkpoint.files.items() if name != "manifest.json"}
        shutil.rmtree(checkpoint.path)
        write_checkpoint(directory, num_steps, {**files, "position.json": json.dumps(position).encode()}, keep=2)
    longer = parse_config({"steps": 3 * num_steps})
    with RunWriter(directory, longer, resumes=True, num_steps=3 * num_steps) as writer:
        writer.write_rows(rows(num_steps + 1, num_steps + 300))
        writer.wait()
    steps = [step for step, _ in curve(directory, "train/loss")]
    assert steps[:num_steps] == list(range(1, num_steps + 1))
    assert steps[num_steps:] == list(range(num_steps + 3, num_steps + 301, 3))  # the first of each stretch of three


def test_rows_that_are_given_again_after_an_error_are_there_once(tmp_path: Path) -> None:
    write(tmp_path, rows(1, 10), rows(1, 10))
    assert [step for step, _ in curve(tmp_path, "train/loss")] == list(range(1, 11))


def test_an_evaluation_stands_with_the_rows(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", parse_config({"steps": 2})) as writer:
        writer.write_rows(rows(1, 2))
        writer.write_evaluation({"step": 2, "split": "test", "loss": 0.5, "accuracy": 0.75}, png=PNG)
    assert [step for step, _ in curve(tmp_path / "run", "train/loss")] == [1, 2]
    assert curve(tmp_path / "run", "test/accuracy") == [(2, 0.75)]
    assert curve(tmp_path / "run", "test/loss") == [(2, 0.5)]
    (image,) = read(tmp_path / "run").Images("test/confusion")
    assert (image.step, image.width, image.height, image.encoded_image_string) == (2, 2, 3, PNG)


def test_a_file_that_was_cut_short_by_a_full_disk_goes_on_where_its_last_whole_event_ends(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="limits the size of files as only POSIX can")
    writer = EventWriter(tmp_path)
    writer.add_rows(rows(1, 10), since=0.0, until=1.0)
    (path,) = tmp_path.iterdir()
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, before[1]))
    try:
        with pytest.raises(OSError, match="File too large. Check space and permissions"):
            writer.add_rows(rows(11, 20), since=0.0, until=1.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    writer.add_rows(rows(11, 20), since=0.0, until=1.0)
    writer.close()
    assert [step for step, _ in curve(tmp_path, "train/loss")] == list(range(1, 21))
