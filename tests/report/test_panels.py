from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrlab.report.limits import Limits, limits_of, panel_limits, share_limits, what_is_outside
from lrlab.report.members import read_members
from lrlab.report.panels import Panel, Quantity, make_panels, merge_alike
from lrlab.runs import Run

LOSS = Quantity("loss", "training", "Training loss", "loss", "train/loss", "from zero", "updates")
PLAIN = Quantity("loss", "training", "Training loss", "loss", "train/loss", "from zero")
RATE = Quantity("lr", "training", "Learning rate", "rate", "lr/stem", "log")


@pytest.fixture
def losses(row: Any) -> Any:
    """Rows with these losses."""
    return lambda values: [row(step, **{"train/loss": loss}) for step, loss in enumerate(values, start=1)]


def panel_of(quantity: Quantity, runs: list[Run]) -> Panel:
    (panel,) = make_panels([quantity], read_members(runs))
    return panel


def test_what_was_not_measured_or_is_not_finite_is_not_drawn(make_run, row) -> None:
    run = make_run(
        rows=[
            row(1, **{"grad_l2/stem": None}),
            row(2, **{"grad_l2/stem": 0.5}),
            row(3, **{"train/loss": math.inf, "grad_l2/stem": math.nan}),
        ]
    )
    gradient = Quantity("grad", "grad", "", "", "grad_l2/stem", "log")

    loss, norm = make_panels([PLAIN, gradient], read_members([run]))

    assert loss.arms[0].lines[0].curve.steps.tolist() == [1, 2]
    assert [part.tolist() for part in norm.arms[0].lines[0].curve] == [[2], [0.5]]


def test_a_quantity_that_no_run_has_makes_no_panel(make_run, losses) -> None:
    runs = [make_run(rows=losses([math.nan]))]
    missing = Quantity("grad", "grad", "", "", "grad_l2/stem", "log")

    assert make_panels([missing, PLAIN], read_members(runs)) == []


def test_an_arm_without_the_quantity_keeps_its_place(make_study, losses) -> None:
    panel = panel_of(PLAIN, make_study({"a": [{}], "b": [{"rows": losses([1.0])}]}))

    assert [(arm.name, arm.index, len(arm.lines)) for arm in panel.arms] == [("a", 0, 0), ("b", 1, 1)]
    assert [arm.name for arm in panel.drawn_arms] == ["b"]


def test_a_band_is_that_of_the_quartiles_as_far_as_all_seeds_reach(make_study, losses) -> None:
    values = ([1.0, 5.0, 9.0], [2.0, 4.0], [9.0, 0.0, 7.0], [4.0, 8.0, 1.0])

    band = panel_of(PLAIN, make_study({"a": [{"rows": losses(one)} for one in values]})).arms[0].band

    assert band is not None and band.steps.tolist() == [1, 2]
    expected = np.quantile([[1, 5], [2, 4], [9, 0], [4, 8]], [0.25, 0.5, 0.75], axis=0)
    np.testing.assert_allclose([band.low, band.median, band.high], expected)


def test_a_seed_that_ended_early_does_not_end_the_band_of_the_complete_ones(make_study, losses) -> None:
    whole = {"rows": losses([1.0, 2.0, 3.0])}

    panel = panel_of(PLAIN, make_study({"a": [{"rows": losses([9.0]), "status": "diverged"}, whole, whole, whole]}))

    band = panel.arms[0].band
    assert band is not None and band.median.tolist() == [1.0, 2.0, 3.0]
    assert len(panel.arms[0].lines) == 4


def test_in_a_large_panel_a_missing_value_costs_one_stretch_of_the_band(make_study, losses, monkeypatch) -> None:
    monkeypatch.setattr("lrlab.report.panels._MOST_BAND_VALUES", 3 * 100)
    whole = {"rows": losses([1.0] * 1000)}
    gap = {"rows": losses([1.0] * 500 + [math.inf] + [1.0] * 499)}

    band = panel_of(PLAIN, make_study({"a": [whole, gap, whole]})).arms[0].band

    assert band is not None and 97 <= len(band.steps) <= 101
    assert band.steps[-1] > 980


def test_two_seeds_have_no_band(make_study, losses) -> None:
    assert panel_of(PLAIN, make_study({"a": [{"rows": losses([1.0])}] * 2})).arms[0].band is None


def test_seeds_without_a_common_update_have_an_empty_band(make_study, row) -> None:
    runs = make_study({"a": [{"rows": [row(step)]} for step in (1, 2, 3)]})

    band = panel_of(PLAIN, runs).arms[0].band

    assert band is not None and len(band.steps) == len(band.median) == 0


def test_no_peak_of_a_run_or_of_the_median_is_lost_by_thinning(make_study, losses) -> None:
    """Five runs of 20,000 updates, with one peak each, and one that all have."""
    contents = []
    for seed in range(5):
        values = np.ones(20_000)
        values[1_000 * seed + 17], values[15_003] = 50.0 + seed, 40.0
        contents.append({"rows": losses(values.tolist())})

    panel = panel_of(PLAIN, make_study({"a": contents}))

    for seed, line in enumerate(panel.arms[0].lines):
        assert len(line.curve.steps) <= 4 * (panel.num_buckets + 1) < 20_000
        assert line.curve.values.max() == 50.0 + seed
        assert line.curve.steps[line.curve.values.argmax()] == 1_000 * seed + 18
    band = panel.arms[0].band
    assert band is not None and (band.median.max(), band.steps[band.median.argmax()]) == (40.0, 15_004)


def test_a_rate_that_all_groups_share_is_one_panel(make_study, row) -> None:
    rows = [row(step, **{"lr/stem": 1 / step, "lr/linear": 1 / step}) for step in (1, 2, 3)]
    runs = make_study({"a": [{"rows": rows}], "b": [{"rows": [row(1)]}]})  # b has no such group
    quantities = [RATE, Quantity("lr_linear", "training", "linear", "rate", "lr/linear", "log")]
    shared = Quantity("lr", "training", "All", "rate", None, "log")

    panels = merge_alike(make_panels(quantities, read_members(runs)), shared)

    assert [panel.quantity for panel in panels] == [shared]
    assert [len(arm.lines) for arm in panels[0].arms] == [1, 1]


def test_rates_that_differ_at_one_update_stay_apart(make_run, row) -> None:
    rows = [row(step, **{"lr/stem": 1.0, "lr/linear": 0.5 if step == 2 else 1.0}) for step in (1, 2, 3)]
    quantities = [RATE, Quantity("lr_linear", "training", "linear", "rate", "lr/linear", "log")]

    panels = make_panels(quantities, read_members([make_run(rows=rows)]))

    assert merge_alike(panels, RATE) == panels


def test_limits_on_a_share_stay_between_zero_and_one() -> None:
    assert limits_of(np.array([0.5, 1.0]), "share") == Limits(0.475, 1.0)
    assert limits_of(np.array([0.0]), "share") == Limits(0.0, 0.05)
    assert limits_of(np.array([0.5]), "share") == Limits(0.45, 0.55)


def test_limits_of_signed_values_have_zero_in_their_middle() -> None:
    assert limits_of(np.array([-0.5, 0.1]), "signed") == Limits(-0.525, 0.525)


def test_limits_of_signed_values_that_are_nowhere_negative_begin_at_zero() -> None:
    assert limits_of(np.array([0.5]), "signed") == Limits(0.0, 0.525)
    assert limits_of(np.array([0.0]), "signed") == Limits(0.0, 1.05)


def test_limits_from_zero_leave_out_a_peak_that_is_named(make_run, losses) -> None:
    assert limits_of(np.array([1.0, 2.0]), "from zero") == Limits(0.0, 2.1)
    limits = limits_of(np.array([1.0] * 999 + [5e6]), "from zero")
    assert limits == Limits(0.0, 1.5)
    panel = panel_of(PLAIN, [make_run(rows=losses([1.0] * 999 + [5e6]))])
    assert what_is_outside(panel, panel_limits(panel)) == "peak of 5e+06 above this picture"


@pytest.mark.parametrize(("quantity", "last"), [(PLAIN, 5e12), (RATE, 1e9)])
def test_runs_that_diverged_do_not_press_the_others_flat_and_are_named(make_run, row, quantity, last) -> None:
    values = [1.0, 2.0, 1.5]
    sound = make_run(rows=[row(step, **{quantity.column: value}) for step, value in enumerate(values, 1)])
    rows = [row(step, **{quantity.column: value}) for step, value in enumerate([1.0, last], 1)]
    diverged = make_run("diverged", rows=rows, status="diverged")
    panel, alone = panel_of(quantity, [sound, diverged]), panel_of(quantity, [diverged])

    limits = panel_limits(panel)
    assert limits == panel_limits(panel_of(quantity, [sound]))
    said = f"of runs that diverged not all is in this picture (to {last:.2g})"
    assert what_is_outside(panel, limits) == said
    assert panel_limits(alone).high > last
    assert what_is_outside(alone, panel_limits(alone)) == ""


@given(st.lists(st.floats(0, 1e30), min_size=1, max_size=20))
def test_logarithmic_limits_hold_the_largest_value_and_at_most_six_decades_below_it(values: list[float]) -> None:
    limits = limits_of(np.array(values), "log")

    assert limits.is_log == (max(values) > 1e-300)
    if limits.is_log:
        assert limits.low < limits.high and limits.high > max(values)
        inside = [value for value in values if value >= max(values) * 1e-6]
        assert 0 < limits.low <= min(value for value in inside if value > 1e-300)
        assert math.log10(limits.high / limits.low) < 8


def test_shared_limits_hold_all_charts_and_leave_others_alone() -> None:
    limits = [Limits(1e-3, 1.0, is_log=True), Limits(1e-9, 10.0, is_log=True), Limits(0.0, 5.0)]

    one, two, other = share_limits(limits)

    assert (one.low, one.high) == (two.low, two.high) == (pytest.approx(1e-5), 10.0)
    assert other == limits[2]


def test_an_edge_is_drawn_with_its_values_and_does_not_press_them_flat(make_run, row) -> None:
    sharpness = Quantity("sharpness", "sharpness", "", "", "hessian_max/stem", "log", edge="hessian_edge/stem")
    rows = [
        row(step, **{"hessian_max/stem": value, "hessian_edge/stem": edge})
        for step, value, edge in ((10, 2.0, 50.0), (20, 3.0, 200.0), (30, 4.0, 1e9))
    ]
    panel = panel_of(sharpness, [make_run(rows=rows), make_run("other", rows=rows[:2])])

    (line,) = panel.arms[0].lines
    assert line.edge is not None
    assert line.edge.values.tolist() == [50, 200, 1e9]
    assert panel.has_marks
    limits = panel_limits(panel)
    assert limits.is_log and limits.low < 2 and 200 < limits.high < 1e5
    assert what_is_outside(panel, limits) == "edge of stability up to 1e+09"
    assert what_is_outside(panel, Limits(1.0, 2e9, is_log=True)) == ""  # it shares its axis with one that reaches there
    other = panel_of(sharpness, [make_run("last", rows=rows[:2])])
    assert what_is_outside(other, panel_limits(other)) == ""
