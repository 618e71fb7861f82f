"""Updates and measurements become columns of numbers."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lrlab.probes import Probe
from lrlab.training import DivergedError, Recorder, Rows, Update, divergence


class GivenProbe(Probe):
    """Measures what it is given."""

    def __init__(self, *, every: int = 1, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(["a/stem", "b/stem"], every=every)
        self._dtype = dtype

    def _measure(self) -> Tensor:
        return torch.tensor([1.0, 0.1], dtype=self._dtype) * (self.num_updates + 1)


def record(recorder: Recorder, probe: Probe | None, steps: range, **changes: Any) -> Rows:
    for step in steps:
        if probe is not None:
            probe.observe()
        recorder.add(Update(**{"step": step, "epoch": 1, "loss": torch.tensor(step / 3), "lrs": (0.1, 0.2), **changes}))
    return recorder.take_rows()


def test_rows_join_updates_and_measurements() -> None:
    probe = GivenProbe(every=2)
    recorder = Recorder(["a", "b"], [probe])
    rows = record(recorder, probe, range(1, 4))
    assert list(rows) == ["step", "epoch", "train/loss", "lr/a", "lr/b", "a/stem", "b/stem"]
    by_hand: dict[str, list[float | None]] = {
        "step": [1, 2, 3],
        "epoch": [1, 1, 1],
        "train/loss": [torch.tensor(step / 3).item() for step in (1, 2, 3)],
        "lr/a": [0.1, 0.1, 0.1],
        "lr/b": [0.2, 0.2, 0.2],
        "a/stem": [None, 2.0, None],
        "b/stem": [None, torch.tensor(0.2).item(), None],
    }
    assert {name: values.tolist() for name, values in rows.items()} == by_hand
    assert [len(values) for values in recorder.take_rows().values()] == [0] * 7


def test_integers_stay_integers_rates_are_float64_and_measurements_as_they_were_measured() -> None:
    probe = GivenProbe(dtype=torch.float64)
    rows = record(Recorder(["a", "b"], [probe]), probe, range(1, 3))
    types = {name: str(values.dtype) for name, values in rows.items()}
    assert types == {
        "step": "int64", "epoch": "int64", "train/loss": "float32", "lr/a": "float64", "lr/b": "float64",
        "a/stem": "float64", "b/stem": "float64",
    }  # fmt: skip
    assert rows["b/stem"].tolist() == [0.1, 0.2]  # which float32 cannot hold


def test_what_is_measured_at_every_update_has_no_mask() -> None:
    probe = GivenProbe()
    rows = record(Recorder(["a", "b"], [probe]), probe, range(1, 4))
    assert not any(isinstance(values, np.ma.MaskedArray) for values in rows.values())


def test_a_measured_nan_is_a_value_and_not_a_missing_one() -> None:
    class NanProbe(GivenProbe):
        def _measure(self) -> Tensor:
            return torch.tensor([math.nan, 1.0])

    probe = NanProbe(every=2)
    column = record(Recorder(["a", "b"], [probe]), probe, range(1, 4))["a/stem"]
    assert np.ma.getmaskarray(column).tolist() == [True, False, True]
    assert math.isnan(column[1])


def test_rows_of_several_takes_are_those_of_one() -> None:
    """Over more rows than the buffers set memory aside for at once."""
    one, many = GivenProbe(every=3), GivenProbe(every=3)
    whole = record(Recorder(["a", "b"], [one]), one, range(1, 3001))
    recorder = Recorder(["a", "b"], [many])
    parts = [record(recorder, many, steps) for steps in (range(1, 1500), range(1500, 1501), range(1501, 3001))]
    assert whole["a/stem"].tolist() == [float(step) if step % 3 == 0 else None for step in range(1, 3001)]
    for name, values in whole.items():
        assert np.ma.concatenate([part[name] for part in parts]).tolist() == values.tolist()


def test_what_was_measured_in_an_update_that_was_never_made_is_left_out() -> None:
    probe = GivenProbe()
    recorder = Recorder(["a", "b"], [probe])
    record_of = record(recorder, probe, range(1, 3))
    probe.observe()  # and optimizer.step() raised
    assert len(record_of["step"]) == 2
    assert len(recorder.take_rows()["step"]) == 0


def test_rates_that_are_tensors_are_told_apart_from_numbers() -> None:
    recorder = Recorder(["a", "b"], [])
    rows = record(recorder, None, range(1, 3), lrs=(torch.tensor(0.5), 0.1))
    assert (rows["lr/a"].tolist(), rows["lr/b"].tolist()) == ([0.5, 0.5], [0.1, 0.1])


def test_a_loss_that_is_written_over_is_kept_as_it_was() -> None:
    """As a captured graph does, whose results are at the same place in each update."""
    recorder, loss = Recorder(["a", "b"], []), torch.tensor(0.0)
    for step in (1, 2):
        loss.fill_(step)
        recorder.add(Update(step, 1, loss, (0.1, 0.2)))
    assert recorder.take_rows()["train/loss"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_rows_end_at_a_loss_that_is_not_finite(loss: float) -> None:
    recorder = Recorder(["a", "b"], [])
    for step, value in enumerate([1.0, loss, 1.0], start=1):
        recorder.add(Update(step, 1, torch.tensor(value), (0.1, 0.2)))
    rows = recorder.take_rows()
    assert [len(values) for values in rows.values()] == [2] * 5
    error = divergence(rows)
    assert isinstance(error, DivergedError)
    assert error.step == 2
    assert str(error) == f"diverged: the loss of update 2 is {loss}. Lower optimizer.lr, or look at the data."
    assert divergence(recorder.take_rows()) is None


def test_finite_rows_pass() -> None:
    recorder = Recorder(["a", "b"], [])
    assert divergence(record(recorder, None, range(1, 2))) is None
    assert divergence(recorder.take_rows()) is None
