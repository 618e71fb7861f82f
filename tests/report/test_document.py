from __future__ import annotations

import base64
import json
import math
from typing import Any

import numpy as np
import pytest

from lrlab.report.arms import (
    Dots,
    accuracy_range,
    difference_range,
    draw_arms,
    draw_differences,
    heights,
    summarise_arms,
)
from lrlab.report.charts import make_charts
from lrlab.report.document import to_document, to_json
from lrlab.report.matrices import collect_matrices
from lrlab.report.members import read_members
from lrlab.report.pairs import compare_pairs
from lrlab.runs import Run

TYPES = {"f4": np.float32, "f8": np.float64, "i4": np.int32, "u1": np.uint8, "u2": np.uint16}


def document_of(runs: list[Run], *, is_study: bool = False) -> dict[str, Any]:
    members = read_members(runs)
    charts = make_charts(members)
    return json.loads(to_json(to_document(members, charts, collect_matrices(members, is_study=is_study).matrices)))


def unpack(packed: dict[str, str]) -> list[float]:
    return np.frombuffer(base64.b64decode(packed["bytes"]), TYPES[packed["type"]]).tolist()


def test_the_runs_of_an_arm_are_one_line_that_nan_parts(make_study, row) -> None:
    runs = make_study({"a": [{"rows": [row(1), row(2)]}, {"rows": [row(7, **{"train/loss": 0.25})]}], "b": [{}]})

    document = document_of(runs)

    (arm,) = document["charts"][0]["arms"]
    assert (arm["arm"], arm["runs"], arm["lengths"]) == (0, [0, 1], [3, 2])
    assert unpack(arm["lines"]["steps"]) == [1, 2, 2, 7, 7]
    values = unpack(arm["lines"]["values"])
    assert values[:2] + values[3:4] == [1.0, 1.0, 0.25] and math.isnan(values[2]) and math.isnan(values[4])
    assert document["runs"] == [{"arm": 0, "seed": 0}, {"arm": 0, "seed": 1}, {"arm": 1, "seed": 0}]
    assert [one["dash"] for one in document["arms"]] == ["solid", "10px,5.2px"]


@pytest.mark.parametrize(
    ("value", "kind"), [(0.1, "f4"), (1e39, "f8"), (1e-50, "f8"), (3.0, "i4"), (2.0**40, "f4"), (0.0, "i4")]
)
def test_values_take_half_the_bytes_where_that_loses_nothing_to_see(make_run, row, value: float, kind: str) -> None:
    rows = [row(step, **{"grad_l2/stem": value}) for step in (1, 2, 3)]
    content = {"rows": rows}
    runs = [make_run("one", **content)]

    lines = document_of(runs)["charts"][-1]["arms"][0]["lines"]

    assert lines["steps"]["type"] == "i4"
    expected = "f4" if kind == "i4" else kind  # the nan between runs is no whole number
    assert lines["values"]["type"] == expected
    assert unpack(lines["values"])[:3] == pytest.approx([value] * 3, rel=1e-6)


def test_a_run_that_diverged_has_its_end_in_the_document(make_run, row) -> None:
    run = make_run(rows=[row(1), row(2, **{"train/loss": math.nan})], status="diverged")

    assert document_of([run])["charts"][0]["arms"][0]["ends"] == [[2, 1.0]]


def test_no_text_can_end_the_element_that_holds_the_document() -> None:
    assert to_json({"name": "</script><!--"}) == '{"name":"\\u003c/script>\\u003c!--"}'
    assert json.loads(to_json({"name": "</script><!--"})) == {"name": "</script><!--"}


def test_decays_of_several_seeds_at_one_update_are_one_mark(make_study, decision) -> None:
    contents = [[decision(2, "decay", before=1e-3, after=1e-4)] for _ in range(6)]
    contents[0] += [decision(5, "decay", before=1e-4, after=1e-4)]

    (decays,) = document_of(make_study({"a": [{"decisions": one} for one in contents]}))["decays"]

    assert (decays["steps"], decays["moved"], decays["numbers"]) == ([2, 5], [True, False], [6, 1])
    assert len(decays["texts"][0]) == 3
    assert decays["texts"][1] == [
        "seed 0: mean_diff = -0.0001234, num_losses = 5; threshold 0.0005; rate 0.0001 to 0.0001"
    ]


def test_of_very_many_decays_the_first_of_each_arm_are_marked(make_study, decision, monkeypatch) -> None:
    monkeypatch.setattr("lrlab.report.document._MOST_MARKS", 4)
    decisions = [decision(step, "decay", before=1e-3, after=1e-4) for step in range(1, 6)]

    document = document_of(make_study({"a": [{"decisions": decisions}] * 2, "b": [{"decisions": decisions[2:]}]}))

    assert [arm["steps"] for arm in document["decays"]] == [[1, 2], [3, 4]]
    assert [arm["numbers"] for arm in document["decays"]] == [[2, 2], [1, 1]]


def test_the_matrix_of_an_arm_is_the_sum_where_all_its_runs_were_evaluated(make_study, evaluation) -> None:
    one, two = [[6, 2], [1, 11]], [[8, 0], [2, 10]]
    runs = make_study(
        {
            "a": [
                {"evaluations": [evaluation(5, one), evaluation(10, two)]},
                {"evaluations": [evaluation(7, one), evaluation(10, one)]},
                {"evaluations": [evaluation(10, two)], "status": "preempted"},
            ]
        }
    )

    found, remarks = collect_matrices(read_members(runs), is_study=True)

    assert [(one.label, one.steps) for one in found] == [
        ("a, sum of 2 seeds", [10]),
        ("a, seed 0", [5, 10]),
        ("a, seed 1", [7, 10]),
    ]
    assert found[0].counts.tolist() == [(np.array(one) + two).tolist()]
    assert remarks == []


def test_where_runs_end_at_different_updates_the_sum_of_their_last_matrices_comes_last(make_study, evaluation) -> None:
    one, two = [[6, 2], [1, 11]], [[8, 0], [2, 10]]
    contents = [[evaluation(5, one), evaluation(9, one)], [evaluation(5, two), evaluation(10, two)]]
    apart = [[evaluation(3, one)], [evaluation(4, two)]]
    runs = make_study(
        {name: [{"evaluations": seed} for seed in seeds] for name, seeds in (("a", contents), ("b", apart))}
    )

    found = [one for one in collect_matrices(read_members(runs), is_study=True).matrices if "sum" in one.label]

    assert [(one.steps, one.ends_mixed) for one in found] == [([5, 10], True), ([4], True)]
    both = (np.array(one) + two).tolist()
    assert found[0].counts.tolist() == [both, both] and found[1].counts.tolist() == [both]


def test_what_a_page_cannot_hold_of_the_matrices_is_left_out_and_named(make_study, evaluation, monkeypatch) -> None:
    monkeypatch.setattr("lrlab.report.matrices._MOST_COUNTS", 4 * 3)  # three evaluations of two classes
    evaluations = [evaluation(step) for step in (1, 2, 3, 4, 5)]

    found, remarks = collect_matrices(
        read_members(make_study({"a": [{"evaluations": evaluations}] * 2})), is_study=True
    )

    assert [(one.label, one.steps) for one in found] == [("a, sum of 2 seeds", [1, 3, 5])]
    assert [remark.split(":")[0] for remark in remarks] == [
        "2 evaluations between the first and the last are left out, evenly",
        "Matrices of single runs are left out",
    ]


def test_dots_of_an_arm_stand_apart_and_within_it() -> None:
    assert heights(1) == [0.0]
    for number in (2, 5, 50):
        found = heights(number)
        assert len(set(found)) == number and max(map(abs, found)) < 0.5


def test_an_interval_wider_than_all_seeds_does_not_press_them_flat(make_study, evaluation) -> None:
    accuracies = ([[5, 5], [5, 5]], [[6, 4], [5, 5]])
    runs = make_study({"a": [{"evaluations": [evaluation(1, one)]} for one in accuracies]})

    (summary,) = summarise_arms(read_members(runs))
    low, high = accuracy_range([summary.dots])

    assert summary.interval is not None and summary.interval.low < 0.25 and summary.interval.high > 0.8
    assert (low, high) == (pytest.approx(0.4475), pytest.approx(0.6025))  # 0.5 to 0.55, its span on either side


@pytest.mark.parametrize(("right", "low", "high"), [(20, 0.9945, 1.0), (0, 0.0, 0.0055)])
def test_an_axis_of_accuracies_shows_none_that_cannot_be(
    make_study, evaluation, right: int, low: float, high: float
) -> None:
    (run,) = make_study({"a": [{"evaluations": [evaluation(1, [[right, 20 - right], [0, 0]])]}]})

    (summary,) = summarise_arms(read_members([run]))

    assert accuracy_range([summary.dots]) == (pytest.approx(low), pytest.approx(high))


def test_the_differences_of_a_pair_are_dots_in_points_beside_zero(make_study, evaluation) -> None:
    right = {"a": (8, 6, 7), "b": (9, 9, 6)}
    content = {
        arm: [{"evaluations": [evaluation(1, [[hits, 10 - hits], [0, 10]])]} for hits in seeds]
        for arm, seeds in right.items()
    }
    pairs = compare_pairs(make_study(content))

    (row,) = pairs.dots
    figure = draw_differences(pairs.dots, title=pairs.title)

    assert (row.name, row.label) == ("b - a", "b\n- a")
    assert (pairs.title, pairs.caption) == ("Differences of test accuracy, seed by seed", "")
    assert row.values == pytest.approx({0: 5.0, 1: 15.0, 2: -5.0}) and row.mean == pytest.approx(5.0)
    half = 4.302653 * 10 / 3**0.5  # Student's t of 2 degrees of freedom; the differences' deviation is 10
    assert row.interval == pytest.approx((5 - half, 5 + half), rel=1e-5)
    low, high = figure.axes[0].get_xlim()
    assert low < -5 and high > 15
    assert [0, 0] in [list(line.get_xdata()) for line in figure.axes[0].lines]
    low, high = difference_range([Dots("x", "x", None, {0: -8.0}, -8.0, None)])
    assert low < -8.3 and high > 0.3  # zero is always in the picture, and not at its edge
    low, high = difference_range([Dots("x", "x", None, {0: 0.0}, 0.0, None)])
    assert low <= -0.5 and high >= 0.5


def test_of_many_pairs_those_that_differ_are_drawn_and_the_rest_is_said(make_study, evaluation) -> None:
    content = {
        f"multiplier-0.{arm}": [{"evaluations": [evaluation(1, [[500 + seed, 500 - seed]])]} for seed in range(3)]
        for arm in range(7)
    }
    content["zero"] = [{"evaluations": [evaluation(1, [[right, 1000 - right]])]} for right in (0, 2, 1)]
    pairs = compare_pairs(make_study(content))

    assert len(pairs.dots) == 15
    assert pairs.caption.startswith("15 of 28 pairs are drawn, those that differ first; all are in the tables.")
    assert "Each interval is of its pair alone" in pairs.caption
    assert [row.label for row in pairs.dots[:7]] == [f"zero\n- multiplier-0.{arm}" for arm in range(7)]
    assert pairs.dots[-1].label.count("\n") == 1
    assert pairs.summary.startswith("Of 28 pairs: ") and "with the same value in every seed" in pairs.summary


def test_every_seed_is_a_dot_in_the_figure_of_the_arms(make_study, evaluation) -> None:
    content = [{"evaluations": [evaluation(1, [[8 - seed, seed], [0, 12]])]} for seed in range(3)]
    members = read_members(make_study({"$a_1$": content, "b": [{}]}))

    figure = draw_arms(members)

    assert figure is not None
    (axes,) = figure.axes
    (dots,) = [line for line in axes.lines if line.get_label() == "one seed" and len(line.get_xdata())]
    assert dots.get_xdata() == pytest.approx([1.0, 0.95, 0.9])
    assert (dots.get_alpha(), dots.get_clip_on()) == (None, False), "faint, or half cut off at 100 %"
    (interval,) = [line for line in axes.lines if line.get_label() == "interval"]
    low, high = interval.get_xdata()
    assert low == pytest.approx(0.95 - 4.302653 * 0.05 / 3**0.5, rel=1e-5)  # Student's t of 2 degrees of freedom
    assert high == 1.0, "an accuracy has an end"
    assert [text.get_text() for text in axes.get_yticklabels()] == ["$a_1$\nn = 3", "b\nn = 0"]
    assert draw_arms(members[3:]) is None
