from __future__ import annotations

import pytest

from lrlab.report.decisions import decisions_summary, decisions_table
from lrlab.report.members import read_members
from lrlab.report.tables import (
    NOTHING,
    Confusion,
    Table,
    arms_table,
    classes_table,
    differences_table,
    last_confusion,
    run_table,
    runs_table,
    settings_table,
)

NBSP = "\N{NO-BREAK SPACE}"
HALF = [[5, 5], [5, 5]]
ALL = [[10, 0], [0, 10]]


def test_an_arm_has_the_mean_of_its_complete_runs_and_names_the_others(make_study, evaluation) -> None:
    runs = make_study(
        {
            "a": [
                {"evaluations": [evaluation(5, HALF), evaluation(10, ALL)]},
                {"evaluations": [evaluation(10, HALF)]},
                {"evaluations": [evaluation(10, HALF)], "status": "diverged"},
                {},
            ],
            "b": [{"status": "running"}],
        }
    )

    first, second = (tuple(cell.replace(NBSP, " ") for cell in row) for row in arms_table(read_members(runs)).rows)

    assert first == (
        "a",
        "2",
        "75.00 %",
        "0.00 % to 100.00 %",  # 12.706 standard errors to either side, as far as there are accuracies
        "100.00 % (seed 0), 50.00 % (seed 1)",
        "seed 2: diverged at update 0, seed 3: complete, never evaluated",
    )
    assert second == ("b", "0", NOTHING, NOTHING, NOTHING, "seed 0: running at update 0")


def test_a_run_is_listed_with_what_is_known_of_it(make_run, row, evaluation) -> None:
    complete = make_run("one", rows=[row(1), row(2)], evaluations=[evaluation(2)])
    running = make_run("two", rows=[row(1)], status="running")

    first, second = (
        tuple(cell.replace(NBSP, " ") for cell in row) for row in runs_table(read_members([complete, running])).rows
    )

    assert first == ("one", "0", "complete", "2", "0.50", "85.00 %", "0.5000", "2", "1:15", "1,234")
    assert second == ("two", "0", "running", "1", NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING)
    assert run_table(*read_members([running])).rows[:3] == [("seed", "0"), ("status", "running"), ("updates", "1")]


def test_accuracy_with_mirror_images_stands_beside_the_plain_one(make_study, evaluation) -> None:
    def mirrored(accuracy: float) -> dict:
        return {"evaluations": [{**evaluation(10, HALF), "mirror": {"loss": 0.1, "accuracy": accuracy}}]}

    runs = make_study({"a": [mirrored(0.75), mirrored(0.25)], "b": [{"evaluations": [evaluation(10, ALL)]}]})

    arms, listed = arms_table(read_members(runs)), runs_table(read_members(runs))

    assert arms.header[2:5] == ("mean test accuracy", "95 % interval of the mean", "mean with mirror images")
    assert [row[4].replace(NBSP, " ") for row in arms.rows] == ["50.00 %", NOTHING]
    assert listed.header[5:7] == ("test accuracy", "with mirror images")
    assert [row[6].replace(NBSP, " ") for row in listed.rows] == ["75.00 %", "25.00 %", NOTHING]
    assert "with mirror images" not in runs_table(read_members(runs[2:])).header


def test_settings_in_which_arms_differ_are_listed_and_seeds_are_not(make_study) -> None:
    slow = {"schedule": {"name": "article", "multiplier": 0.2}}
    fast = {"schedule": {"name": "constant"}}

    table = differences_table(read_members(make_study({"slow": [{"config": slow}] * 2, "fast": [{"config": fast}]})))

    rows = {row[0]: row[1:] for row in table.rows}
    assert table.header == ("setting", "slow", "fast")
    assert rows["schedule.name"] == ("article", "constant")
    assert rows["schedule.multiplier"] == ("0.2", "not set")
    assert "seed" not in rows and "batch_size" not in rows


def test_a_setting_is_listed_with_every_value_that_occurs(make_study) -> None:
    runs = make_study({"a": [{}, {}], "b": [{"config": {"batch_size": 4}}]})

    rows = dict(settings_table(read_members(runs), lambda run: run.config).rows)

    assert (rows["seed"], rows["batch_size"], rows["optimizer.name"]) == ("0 | 1", "128 | 4", "adam")


def test_a_decision_is_listed_with_what_was_measured(make_run, decision) -> None:
    run = make_run(decisions=[decision(2000, "decay", before=1e-3, after=1e-4)])

    assert decisions_table(*read_members([run])).rows == [
        ("2,000", "mean_diff = -0.0001234, num_losses = 2000", "0.0005", "decay", "0.001", "0.0001")
    ]


def test_groups_with_rates_of_their_own_are_all_listed(make_run, decision) -> None:
    layerwise = {**decision(10, "keep", before=1e-3, after=1e-3), "lr_before": [1e-3, 1e-4], "lr_after": [1e-3, 1e-4]}

    assert decisions_table(*read_members([make_run(decisions=[layerwise])])).rows[0][-2:] == (
        "0.001, 0.0001",
        "0.001, 0.0001",
    )


def test_of_very_many_decisions_the_first_hundred_are_listed_and_the_sentence_says_so(make_run, decision) -> None:
    decisions = [decision(1000, "decay", before=1e-3, after=1e-6)]
    decisions += [decision(1000 * step, "keep", before=1e-6, after=1e-6) for step in range(2, 150)]
    decisions += [decision(150_000, "decay", before=1e-6, after=1e-6)]
    run = make_run(decisions=decisions)

    (member,) = read_members([run])
    assert len(decisions_table(member).rows) == 100
    assert decisions_summary(member) == (
        "150 decisions, 1 decay (at update 1,000), 1 decay at the floor, where the rate stays as it is. "
        "The first 100 are listed; all are in decisions.jsonl."
    )


def test_a_matrix_of_several_seeds_is_their_sum_and_says_so(make_study, evaluation) -> None:
    runs = make_study(
        {"a": [{"evaluations": [evaluation(10, ALL)]}, {"evaluations": [evaluation(5, ALL), evaluation(12, HALF)]}, {}]}
    )

    confusion = last_confusion(read_members(runs))

    assert confusion is not None
    assert confusion.counts == [[15, 5], [5, 15]]
    assert confusion.source == "Sum over the last evaluations of seeds 0, 1 (n = 2), at update 10, 12."
    assert last_confusion(read_members(runs[2:])) is None


def test_classes_without_names_have_numbers(make_run, evaluation) -> None:
    confusion = last_confusion(read_members([make_run(evaluations=[evaluation(1)], classes=["one", "two", "three"])]))

    assert confusion is not None and confusion.classes == ["0", "1"]


def test_a_class_is_listed_with_what_it_is_taken_for() -> None:
    table = classes_table(Confusion([[6, 1, 3], [0, 4, 0], [0, 0, 0]], ["cat", "dog", "eel"], ""))

    assert [tuple(cell.replace(NBSP, " ") for cell in row) for row in table.rows] == [
        ("cat", "10", "60.00 %", "eel (30.00 %)"),
        ("dog", "4", "100.00 %", NOTHING),
        ("eel", "0", "n/a", NOTHING),
    ]


@pytest.mark.parametrize(
    ("cells", "is_numeric"),
    [
        (["1,000", "-3e-05", "85.00\N{NO-BREAK SPACE}%", "1:02:03", NOTHING, "4.2 s", "n/a"], True),
        (["1", "two"], False),
        (["1 (seed 0), 2 (seed 1)"], False),
        ([], True),
    ],
)
def test_a_column_of_numbers_alone_is_numeric(cells: list[str], is_numeric: bool) -> None:
    assert Table(("a",), [(cell,) for cell in cells]).numeric == [is_numeric]
