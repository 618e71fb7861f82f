from __future__ import annotations

import math
import re
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lrlab.report.drawing import draw_panel
from lrlab.report.limits import panel_limits
from lrlab.report.members import read_members
from lrlab.report.panels import Quantity, make_panels
from lrlab.report.style import to_png, to_svg
from lrlab.runs import Run

LOSS = Quantity("loss", "training", "Training loss", "loss", "train/loss", "from zero", "updates")
RATE = Quantity("lr", "training", "Learning rate", "rate", "lr/stem", "log")
ACCURACY = Quantity("accuracy", "training", "Test accuracy", "share", None, "share")


def draw(quantity: Quantity, runs: list[Run]) -> Figure:
    (panel,) = make_panels([quantity], read_members(runs))
    return draw_panel(panel, panel_limits(panel))


def lines(axes: Axes, label: str) -> list[Line2D]:
    return [line for line in axes.lines if re.fullmatch(label, str(line.get_label()))]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def ticks(axes: Axes, label: str) -> list[float]:
    """Updates at which vertical ticks stand."""
    found = [marks for marks in axes.collections if re.fullmatch(label, str(marks.get_label()))]
    return [float(segment[0][0]) for marks in found for segment in marks.get_segments()]


@pytest.fixture
def losses(row: Any) -> Any:
    """Rows with these losses."""
    return lambda values: [row(step, **{"train/loss": loss}) for step, loss in enumerate(values, start=1)]


def test_a_short_series_is_drawn_point_by_point_over_updates(make_run, losses) -> None:
    axes = draw(LOSS, [make_run(rows=losses([2.0, 1.0, 1.5]))]).axes[0]

    (line,) = lines(axes, "trial, seed 0")
    assert np.array(line.get_xydata()).tolist() == [[1, 2.0], [2, 1.0], [3, 1.5]]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title("left")) == ("update", "loss", "Training loss")
    assert axes.get_xlim() == (0, 3)
    assert axes.get_ylim()[0] == 0


def test_a_single_value_is_a_mark(make_run, losses) -> None:
    (line,) = lines(draw(LOSS, [make_run(rows=losses([2.0]))]).axes[0], "trial, seed 0")

    assert line.get_marker() == "o"


def test_a_long_series_is_drawn_smoothed_before_its_single_values(make_run, losses) -> None:
    values = [float(1 + step % 2) for step in range(400)]

    figure = draw(LOSS, [make_run(rows=losses(values))])

    (raw,) = lines(figure.axes[0], "trial, seed 0 raw")
    (smoothed,) = lines(figure.axes[0], "trial, seed 0")
    assert set(raw.get_ydata()) == {1.0, 2.0}
    assert smoothed.get_ydata()[9:] == pytest.approx([1.5] * 390)
    assert (raw.get_zorder() < smoothed.get_zorder()) and raw.get_linewidth() < smoothed.get_linewidth()
    assert {"mean of last 10 updates", "single updates"} <= set(legend(figure))


def test_with_more_than_two_runs_single_values_are_left_out(make_study, losses) -> None:
    runs = make_study({"a": [{"rows": losses([1.0] * 100)}] * 2, "b": [{"rows": losses([1.0] * 100)}]})

    figure = draw(LOSS, runs)

    assert not lines(figure.axes[0], ".* raw")
    assert "single updates" not in legend(figure)


def test_from_three_seeds_on_their_median_is_the_thick_line(make_study, losses) -> None:
    runs = make_study(
        {"a": [{"rows": losses(values)} for values in ([1.0, 4.0, 5.0], [2.0, 9.0], [6.0, 5.0])], "b": [{}]}
    )

    figure = draw(LOSS, runs)

    seeds = lines(figure.axes[0], r"a, seed \d")
    (median,) = lines(figure.axes[0], "a median")
    assert [len(line.get_xdata()) for line in seeds] == [3, 2, 2]
    assert np.array(median.get_xydata()).tolist() == [[1, 2.0], [2, 5.0]]
    (band,) = [area for area in figure.axes[0].collections if area.get_label() == "a band"]
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices.tolist()}
    assert {(1, 1.5), (1, 4.0), (2, 4.5), (2, 7.0)} <= corners  # the quartiles
    assert all(line.get_linewidth() < median.get_linewidth() for line in seeds)
    assert {"median of the seeds", "half of the seeds"} <= set(legend(figure))


def test_two_seeds_have_no_median(make_study, losses) -> None:
    figure = draw(LOSS, make_study({"a": [{"rows": losses([1.0])}] * 2}))

    assert not lines(figure.axes[0], "a median")


def test_arms_differ_in_colour_and_in_dashes(make_study, losses) -> None:
    arms = [f"arm{index}" for index in range(9)]
    runs = make_study({arm: [{"rows": losses([1.0, 2.0])}] for arm in arms})

    drawn = draw(LOSS, runs).axes[0].lines

    looks = {(line.get_color(), str(line.get_linestyle()), str(line._unscaled_dash_pattern)) for line in drawn}
    assert len(looks) == len(arms)
    first, second = drawn[:2]
    assert first.get_color() != second.get_color() and first._unscaled_dash_pattern != second._unscaled_dash_pattern


def test_the_legend_names_each_arm_with_its_number_of_runs(make_study, losses) -> None:
    some = {"rows": losses([1.0])}
    runs = make_study({"a": [some, {**some, "status": "running"}, {**some, "status": "diverged"}], "b": [some, {}]})

    assert legend(draw(LOSS, runs))[:2] == ["a (n = 3, 1 running, 1 diverged)", "b (n = 1)"]


def test_an_arm_keeps_its_colour_in_a_figure_that_lacks_another(make_study, losses, evaluation) -> None:
    runs = make_study({"a": [{"rows": losses([1.0])}], "b": [{"rows": losses([1.0]), "evaluations": [evaluation(1)]}]})

    (in_loss,) = lines(draw(LOSS, runs).axes[0], "b, seed 0")
    (in_accuracy,) = lines(draw(ACCURACY, runs).axes[0], "b, seed 0")

    assert in_loss.get_color() == in_accuracy.get_color()


@pytest.mark.parametrize("name", ["$x_1$", "_hidden", "<b>&amp;", r"$\frac{1}{", "a^b"])
def test_names_are_drawn_literally(make_run, losses, name: str) -> None:
    figure = draw(LOSS, [make_run(name, rows=losses([1.0]))])

    text = figure.legends[0].get_texts()[0]
    assert text.get_text() == f"{name} (n = 1)"
    assert not text.get_parse_math()
    to_png(figure)  # an unbalanced $ would raise here


def test_a_decay_is_a_tall_tick_and_one_at_the_floor_a_short_one(make_run, losses, decision) -> None:
    decisions = [
        decision(2, "keep", before=1e-3, after=1e-3),
        decision(4, "decay", before=1e-3, after=1e-6),
        decision(6, "decay", before=1e-6, after=1e-6),
        decision(8, "decay", before=1e-6, after=1e-6),
    ]

    figure = draw(LOSS, [make_run(rows=losses([1.0] * 10), decisions=decisions)])

    axes = figure.axes[0]
    assert ticks(axes, "decay of .*") == [4]
    assert ticks(axes, "decay at the floor of .*") == [6, 8]
    heights = [np.ptp(marks.get_segments()[0][:, 1]) for marks in axes.collections]
    assert heights[0] > heights[1] > 0
    assert legend(figure)[1:] == ["decay", "decay at the floor"]


def test_rates_stand_on_a_logarithmic_axis(make_run, row) -> None:
    rows = [row(step, **{"lr/stem": 10.0 ** -(2 + step // 2)}) for step in range(1, 6)]

    axes = draw(RATE, [make_run(rows=rows)]).axes[0]

    (line,) = lines(axes, "trial, seed 0")
    assert axes.get_yscale() == "log"
    assert line.get_ydata().tolist() == [1e-2, 1e-3, 1e-3, 1e-4, 1e-4]
    assert axes.get_ylim()[0] < 1e-4 and axes.get_ylim()[1] > 1e-2


def test_a_rate_that_falls_to_zero_leaves_six_decades(make_run, row) -> None:
    rows = [row(step, **{"lr/stem": rate}) for step, rate in enumerate([1.0, 1e-3, 1e-12, 0.0], start=1)]

    bottom, top = draw(RATE, [make_run(rows=rows)]).axes[0].get_ylim()

    assert 1e-7 < bottom <= 1e-6 and 1 < top < 10


def test_nothing_but_zeros_stands_on_a_linear_axis(make_run, row) -> None:
    figure = draw(RATE, [make_run(rows=[row(1, **{"lr/stem": 0.0}), row(2, **{"lr/stem": 0.0})])])

    assert figure.axes[0].get_yscale() == "linear"
    to_png(figure)


def test_a_run_that_diverged_ends_in_a_cross_at_its_last_update(make_run, losses) -> None:
    run = make_run(rows=losses([2.0, 3.0, math.inf, math.nan]), status="diverged")

    figure = draw(LOSS, [run])

    (cross,) = lines(figure.axes[0], "diverged")
    (line,) = lines(figure.axes[0], "trial, seed 0")
    assert (cross.get_xdata(), cross.get_ydata()) == ([4], [3.0])
    assert line.get_ydata().tolist() == [2.0, 3.0]
    assert "diverged" in legend(figure)
    to_png(figure)


def test_a_peak_that_would_press_all_else_flat_is_named_instead(make_run, losses) -> None:
    axes = draw(LOSS, [make_run(rows=losses([1.0] * 999 + [5e6]))]).axes[0]

    assert axes.get_ylim()[1] < 10
    assert [text.get_text() for text in axes.texts] == ["peak of 5e+06 above this picture"]


def test_every_peak_is_inside_the_picture_otherwise(make_run, losses) -> None:
    axes = draw(LOSS, [make_run(rows=losses([1.0] * 999 + [3.5]))]).axes[0]

    assert axes.get_ylim()[1] > 3.5 and not axes.texts


def test_accuracy_has_a_mark_at_each_evaluation(make_run, evaluation) -> None:
    run = make_run(evaluations=[evaluation(500), evaluation(1000, [[8, 0], [0, 12]])])

    axes = draw(ACCURACY, [run]).axes[0]

    (line,) = lines(axes, "trial, seed 0")
    assert np.array(line.get_xydata()).tolist() == [[500, 0.85], [1000, 1.0]]
    assert line.get_marker() == "o"
    assert axes.get_ylim()[1] <= 1.02
    assert axes.yaxis.get_major_formatter()(0.5, 0).startswith("50")


def test_the_same_figure_gives_the_same_bytes_and_no_date(make_run, losses) -> None:
    run = make_run(rows=losses([2.0, 1.0]))

    png, again = to_png(draw(LOSS, [run])), to_png(draw(LOSS, [run]))
    svg = to_svg(draw(LOSS, [run]))

    assert png == again
    assert svg == to_svg(draw(LOSS, [run]))
    assert svg.startswith(b"<?xml") and b"<dc:date>" not in svg and b"<dc:creator>" not in svg
    assert not {b"tIME", b"tEXt", b"iTXt", b"zTXt"} & set(re.findall(rb"[a-zA-Z]{4}", png[:200]))


def test_settings_of_the_user_neither_change_a_figure_nor_are_changed(make_run, losses) -> None:
    run = make_run(rows=losses([2.0, 1.0]))
    plain = to_png(draw(LOSS, [run]))

    with matplotlib.rc_context({"font.size": 30, "text.usetex": True, "savefig.transparent": True}):
        before = dict(matplotlib.rcParams)
        assert to_png(draw(LOSS, [run])) == plain
        assert dict(matplotlib.rcParams) == before
