"""The picture of a range test shows the numbers where they are."""

from pathlib import Path

import numpy as np
import pytest

from lrlab.report import write_range_test
from lrlab.report.range_test import draw_range_test
from lrlab.training import RangeTest, RateRange, SweepRecorder

RATES = RateRange(1e-5, 1.0, 101)


def swept(*, least: tuple[float, ...], diverges: bool = False) -> RangeTest:
    sweeps = []
    for seed, rate in enumerate(least):
        recorder = SweepRecorder(RATES, seed=seed)
        for lr in RATES.rates():
            loss = 3 - 2 * np.exp(-(np.log10(lr / rate) ** 2)) + (1e9 if diverges and lr > 0.1 else 0)
            if recorder.add(float(loss)):
                break
        sweeps.append(recorder.sweep())
    return RangeTest(RATES, tuple(sweeps))


def test_the_suggestions_and_their_spread_stand_at_their_rates() -> None:
    found = swept(least=(1e-3, 2e-3, 5e-3), diverges=True)
    document = found.document()
    (axes,) = draw_range_test(document, title="a title").axes
    assert axes.get_title(loc="left") == "a title"
    (band,) = axes.patches
    left, right = band.get_extents().transformed(axes.transData.inverted()).intervalx
    assert (left, right) == pytest.approx((found.suggestions[0], found.suggestions[-1]))
    dots = [line for line in axes.lines if line.get_marker() == "D"]
    assert [line.get_xdata()[0] for line in dots] == [sweep.suggestion for sweep in found.sweeps]  # type: ignore[index]
    crosses = [line for line in axes.lines if line.get_marker() == "x"]
    assert [line.get_xdata()[0] for line in crosses] == [sweep.diverged_at for sweep in found.sweeps]  # type: ignore[index]
    curves = [line for line in axes.lines if str(line.get_label()).startswith("seed")]
    assert [list(line.get_ydata()) for line in curves] == [list(sweep.smoothed) for sweep in found.sweeps]  # type: ignore[arg-type]
    assert axes.get_ylim()[1] < 10  # what diverged does not press the rest flat


def test_a_range_test_that_suggests_nothing_is_drawn_all_the_same(tmp_path: Path) -> None:
    flat = SweepRecorder(RATES, seed=0)
    for _ in RATES.rates():
        flat.add(1.0)
    burst = SweepRecorder(RATES, seed=1)
    burst.add(float("nan"))
    document = RangeTest(RATES, (flat.sweep(), burst.sweep())).document()
    write_range_test(str(tmp_path / "a.png"), document, title="$x$ \n <b>")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    (legend,) = draw_range_test(document, title="").legends
    assert "no suggestion from 2 of 2 seeds" in [text.get_text() for text in legend.get_texts()]
