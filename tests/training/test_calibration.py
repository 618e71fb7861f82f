"""Calibration, against a library and by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.classification import MulticlassCalibrationError

from lrlab.training import calibrate


def test_by_hand() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.5, 0.5]], dtype=torch.float64)
    found = calibrate(probabilities.log(), torch.tensor([0, 1, 1, 0]))

    assert found.confidence == pytest.approx(0.75)
    filled = {(round(one.low * 15), one.count): (one.confidence, one.accuracy) for one in found.bins if one.count}
    assert filled == {
        (7, 1): (0.5, 1),
        (10, 1): (pytest.approx(0.7), 1),
        (13, 2): (pytest.approx(0.9), 0.5),
    }
    assert found.ece == pytest.approx((0.5 + 0.3 + 2 * 0.4) / 4)
    assert all(one.confidence is None and one.accuracy is None for one in found.bins if not one.count)


@given(st.integers(0, 2**31), st.floats(0.1, 20))
def test_it_is_that_of_torchmetrics(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(200, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 5, (200,), generator=generator)
    theirs = MulticlassCalibrationError(num_classes=5, n_bins=15, norm="l1", validate_args=False)
    # in float32, as theirs is, an example may lie in the next bin
    assert calibrate(logits, labels).ece == pytest.approx(theirs(logits.softmax(1), labels).item(), abs=1e-6)


def test_one_who_is_always_sure_and_right_is_calibrated() -> None:
    found = calibrate(torch.eye(4) * 1000, torch.arange(4))
    assert (found.ece, found.confidence, found.bins[-1].count) == (0, 1, 4)
