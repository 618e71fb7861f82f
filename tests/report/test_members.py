from __future__ import annotations

import math

from lrlab.report.members import MOST_DECISIONS, by_arm, read_members


def test_a_run_is_read_with_its_accuracy_on_the_test_set(make_run, evaluation) -> None:
    on_training_set = {**evaluation(5, [[1, 0], [0, 1]]), "split": "train"}
    run = make_run(evaluations=[evaluation(5), on_training_set, evaluation(10, [[8, 0], [2, 10]])])

    (member,) = read_members([run])

    assert member.accuracy.steps.tolist() == [5, 10]
    assert member.accuracy.values.tolist() == [17 / 20, 18 / 20]
    assert member.last["step"] == 10
    assert member.is_counted and member.label == "trial, seed 0"


def test_a_run_that_was_never_evaluated_counts_for_nothing(make_run) -> None:
    (member,) = read_members([make_run()])

    assert (member.is_counted, member.last, member.mirror_accuracy, len(member.accuracy.steps)) == (False, {}, None, 0)


def test_a_decay_at_the_floor_is_told_from_one_that_moves_the_rate(make_run, decision) -> None:
    decisions = [
        decision(1000, "keep", before=1e-3, after=1e-3),
        decision(2000, "decay", before=1e-3, after=1e-4),
        decision(3000, "decay", before=1e-6, after=1e-6),
    ]

    (member,) = read_members([make_run(decisions=decisions)])

    assert (member.decays.moved, member.decays.at_floor) == ([2000], [3000])
    assert [decay["step"] for decay in member.decays.first] == [2000, 3000]


def test_of_very_many_decisions_the_first_are_kept_and_all_are_counted(make_run, decision) -> None:
    decisions = [decision(step, "decay", before=1e-6, after=1e-6) for step in range(1, 251)]

    (member,) = read_members([make_run(decisions=decisions)])

    assert member.num_decisions == 250 and len(member.decays.at_floor) == 250
    assert len(member.decisions) == len(member.decays.first) == MOST_DECISIONS


def test_runs_are_grouped_by_arm_in_the_order_of_the_arms(make_study) -> None:
    arms = by_arm(read_members(make_study({"slow": [{}, {}], "fast": [{}]})))

    assert {arm: [member.seed for member in members] for arm, members in arms.items()} == {"slow": [0, 1], "fast": [0]}


def test_arms_of_several_studies_have_the_name_of_their_study_before_their_own(make_study, make_run) -> None:
    runs = [*make_study({"a": [{}]}, name="one"), *make_study({"a": [{}]}, name="two"), make_run("alone")]

    assert list(by_arm(read_members(runs))) == ["one/a", "two/a", "alone"]


def test_the_last_step_counts_a_row_whose_loss_is_nan(make_run, row) -> None:
    assert make_run(rows=[row(1), row(2, **{"train/loss": math.nan})]).last_step == 2
    assert make_run("empty").last_step == 0
