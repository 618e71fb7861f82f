"""From runs to a comparison: which are paired, what is left out, what is said."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lrlab.compare import CompareError, Comparison, compare_runs, notes, race_sentence, sentence, to_document, write_csv
from lrlab.compare.listing import list_limits, list_times
from lrlab.compare.sentences import p_text
from lrlab.compare.statistics import sign_flip_floor
from lrlab.compare.tasks import Selection
from written_runs import make_arms, make_run, write_run, write_study

BASE = [0.900, 0.910, 0.905, 0.890, 0.915]
BETTER = [0.921, 0.929, 0.926, 0.908, 0.938]  # 2.1, 1.9, 2.1, 1.8, 2.3 points above
NO_BETTER = [0.905, 0.900, 0.915, 0.885, 0.916]  # 0.5, -1.0, 1.0, -0.5, 0.1 points above


def only(comparison: Comparison) -> tuple[Any, str]:
    (found,) = comparison.differences
    return found, sentence(found, comparison)


def test_arms_are_paired_by_seed_not_by_place() -> None:
    runs = [make_run("a", seed, value) for seed, value in ((7, 0.5), (3, 0.6), (5, 0.7))]
    runs += [make_run("b", seed, value) for seed, value in ((3, 0.7), (5, 0.9), (7, 0.8))]
    found, _ = only(compare_runs(runs))
    assert (found.arm, found.reference, list(found.seeds)) == ("b", "a", [3, 5, 7])
    assert found.differences == pytest.approx([0.1, 0.2, 0.3])
    assert (found.mean, found.std) == pytest.approx((0.2, 0.1))
    assert found.interval == pytest.approx((0.2 - 4.3027 * 0.1 / 3**0.5, 0.2 + 4.3027 * 0.1 / 3**0.5), abs=1e-4)


def test_a_difference_that_is_there_is_said_with_all_its_numbers() -> None:
    found, text = only(compare_runs(make_arms({"constant": BASE, "cosine": BETTER})))
    trusted = stats.ttest_rel(BETTER, BASE)
    low, high = (100 * end for end in trusted.confidence_interval(0.95))
    assert found.p == found.p_holm == pytest.approx(trusted.pvalue)
    assert found.verdict == "different" and found.num_above == 5
    assert text == (
        f"cosine is better than constant: test accuracy +2.04 points (95 % interval +{low:.2f} to +{high:.2f}, "
        f"n = 5 paired seeds, p < 0.0001)."
    )


def test_less_loss_is_better() -> None:
    _, text = only(compare_runs(make_arms({"constant": BASE, "cosine": BETTER}), measure="test_loss"))
    assert text.startswith("cosine is better than constant: test loss -0.0204 (95 % interval -0.02")


def test_no_evidence_is_said_with_what_could_have_been_shown() -> None:
    found, text = only(compare_runs(make_arms({"constant": BASE, "cosine": NO_BETTER})))
    assert found.verdict == "no evidence"
    assert text == (
        "No evidence of a difference between cosine and constant: test accuracy +0.02 points with cosine (95 % "
        f"interval {100 * found.interval.low:+.2f} to {100 * found.interval.high:+.2f}, n = 5 paired seeds, p = 0.96). "
        f"Four in five studies of 5 seeds would find one of {100 * found.detectable:.2f} points; one as small as this "
        "needs more than 10,000 seeds."
    )


def test_a_detectable_difference_that_cannot_be_is_said_to_be_none() -> None:
    found, text = only(comparison := compare_runs(make_arms({"a": [0.5, 0.5], "b": [0.1, 0.9]})))
    assert found.detectable > 1
    assert text.endswith("With 2 seeds that scatter so widely, no possible difference could have been found.")
    assert list_limits(comparison, found.task).rows[0][-2] == ">100"


def test_one_run_of_each_proves_nothing() -> None:
    found, text = only(comparison := compare_runs(make_arms({"a": [0.5], "b": [0.9]})))
    assert (found.verdict, found.interval, found.p) == ("too few", None, None)
    assert text == (
        "One run of each proves nothing: b and a differ by +40.00 points of test accuracy with seed 0, as two runs of "
        "the same arm may."
    )
    assert notes(comparison) == ["1 seed is too few for: an interval or a test of any kind."]


@pytest.mark.parametrize("num_seeds", range(2, 13))
@pytest.mark.parametrize("gain", [1 / 360, 0.5])
def test_one_seed_that_differs_is_no_evidence_with_however_many(num_seeds: int, gain: float) -> None:
    found, _ = only(compare_runs(make_arms({"a": [0.5] * num_seeds, "b": [0.5] * (num_seeds - 1) + [0.5 + gain]})))
    assert found.verdict == "no evidence" and found.p_sign_flip == 1
    assert found.detectable > abs(found.mean) and found.seeds_needed > num_seeds


def test_arms_that_do_the_same_are_identical() -> None:
    found, text = only(compare_runs(make_arms({"a": BASE, "b": BASE})))
    assert (found.verdict, found.interval, found.p) == ("identical", None, 1.0)
    assert text == "b and a have the same test accuracy in all 5 seeds."


@pytest.mark.parametrize(("num_seeds", "verdict"), [(2, "no evidence"), (5, "no evidence"), (6, "different")])
def test_differences_that_are_all_alike_leave_the_exact_test(num_seeds: int, verdict: str) -> None:
    values = np.linspace(0.5, 0.6, num_seeds)
    found, text = only(compare_runs(make_arms({"a": list(values), "b": list(values + 0.01)})))
    assert (found.verdict, found.interval, found.p) == (verdict, None, pytest.approx(2 / 2**num_seeds))
    assert "95 % interval" not in text
    assert ("nothing is known of their spread" in text) == (verdict == "no evidence")


def test_p_values_are_adjusted_for_all_pairs_of_all_studies(tmp_path: Path) -> None:
    arms = {name: {seed: [value] for seed, value in enumerate(values)} for name, values in
            (("a", BASE), ("b", BETTER), ("c", NO_BETTER))}  # fmt: skip
    runs = write_study(tmp_path, arms, name="one") + write_study(tmp_path, arms, name="two")
    comparison = compare_runs(runs)
    assert [(found.task, found.arm, found.reference) for found in comparison.differences] == [
        (task, *pair) for task in ("one", "two") for pair in (("b", "a"), ("c", "a"), ("c", "b"))
    ]
    assert comparison.num_tested == 6
    first = comparison.differences[0]
    assert first.p_holm == pytest.approx(min(1.0, 6 * first.p))  # the smallest of them
    assert sentence(first, comparison).startswith("one: b is better than a: ")
    assert "adjusted for 6 pairs" in sentence(first, comparison)


def test_a_control_leaves_the_pairs_with_it() -> None:
    comparison = compare_runs(make_arms({"a": BASE, "b": BETTER, "c": NO_BETTER}), control="b")
    assert [(found.arm, found.reference) for found in comparison.differences] == [("a", "b"), ("c", "b")]
    assert comparison.num_tested == 2
    assert sentence(comparison.differences[0], comparison).startswith("a is worse than b: test accuracy -2.04 points")


def test_a_pair_that_would_be_different_by_itself_is_said_to_be() -> None:
    rng = np.random.default_rng(0)
    gains = (0.02, 0.03, 0.01, 0.025, 0.005)  # p = 0.018
    arms = {"a": BASE, "b": [value + gain for value, gain in zip(BASE, gains, strict=True)]}
    alone, _ = only(compare_runs(make_arms(arms)))
    assert alone.verdict == "different"
    others = {f"c{index}": list(0.9 + 0.01 * rng.normal(size=5)) for index in range(4)}
    comparison = compare_runs(make_arms({**arms, **others}))
    found = comparison.differences[0]
    assert found.p == pytest.approx(alone.p) and found.p_holm > 0.05
    assert "By itself this pair would count as different; among 15 pairs chance alone" in sentence(found, comparison)


def test_where_the_exact_test_sees_more_than_students_it_is_said() -> None:
    differences = [0.010, 0.011, 0.012, 0.013, 0.012, 0.011, 0.010, 0.3]
    found, text = only(compare_runs(make_arms({"a": [0.5] * 8, "b": [0.5 + one for one in differences]})))
    assert found.verdict == "no evidence" and found.p_sign_flip == pytest.approx(2 / 2**8)
    assert "point the same way" not in text  # that would contradict what follows
    assert "The sign-flip test, which assumes no normal distribution, does find one (p = 0.0078)" in text


def test_a_difference_that_three_seeds_show_rests_on_what_they_cannot_show() -> None:
    found, text = only(compare_runs(make_arms({"a": BASE[:3], "b": BETTER[:3]})))
    assert found.verdict == "different"
    assert "normally distributed, which 3 seeds cannot show." in text
    _, text = only(compare_runs(make_arms({"a": BASE, "b": BETTER})))
    assert "cannot show" not in text


def test_seeds_that_all_point_one_way_are_not_enough_where_no_test_finds_it_so() -> None:
    _, text = only(compare_runs(make_arms({"a": [0.5] * 4, "b": [0.51, 0.52, 0.51, 0.8]})))
    assert "All 4 seeds point the same way, which is not enough by itself." in text


def test_runs_that_did_not_come_to_their_end_are_counted_and_named() -> None:
    runs = [make_run("a", seed, value) for seed, value in enumerate(BASE)]
    runs += [make_run("b", seed, value) for seed, value in enumerate(BETTER[:3])]
    runs += [make_run("b", 3, None, status="diverged"), make_run("b", 4, None, status="running"), make_run("b", 9, 0.9)]
    comparison = compare_runs(runs)
    found, text = only(comparison)
    assert list(found.seeds) == [0, 1, 2]
    assert [(out.arm, out.seed, out.reason) for out in found.left_out] == [
        ("b", 3, "diverged"), ("b", 4, "running"), ("a", 9, "not run"),
    ]  # fmt: skip
    assert "Diverged, and therefore in no difference: b seed 3. The difference is one between runs that" in text
    assert "Left out: b seed 4 (running); a seed 9 (not run)." in text
    assert [len(arm.values) for arm in comparison.arms] == [5, 4]
    assert [(out.seed, out.reason) for out in comparison.arms[1].left_out] == [(3, "diverged"), (4, "running")]


def test_an_arm_that_always_diverges_is_a_result_and_no_error() -> None:
    runs = make_arms({"a": BASE}) + [make_run("b", seed, None, status="diverged") for seed in range(5)]
    found, text = only(compare_runs(runs))
    assert (found.verdict, found.mean) == ("too few", None)
    assert text.startswith("b and a cannot be compared: no seed has a complete run of both. Diverged")
    assert "b seeds 0, 1, 2, 3, 4." in text


def test_arms_that_differ_in_more_than_the_schedule_are_said_to() -> None:
    runs = make_arms({"a": BASE}) + [make_run("b", seed, one, model={"width": 8}) for seed, one in enumerate(BETTER)]
    assert only(compare_runs(runs))[1].endswith("The arms differ in more than the schedule: model.width.")
    runs = make_arms({"a": BASE}) + [
        make_run("b", seed, one, schedule={"name": "cosine"}, optimizer={"lr": 0.1}) for seed, one in enumerate(BETTER)
    ]
    assert "more than the schedule" not in only(compare_runs(runs))[1]


@pytest.mark.parametrize(
    ("num_seeds", "words"),
    [
        (2, ["2/2^2 = 0.5;", "normally distributed", "an effect size", "0.45 to 32 times"]),
        (4, ["2/2^4 = 0.12;", "normally distributed", "their spread"]),
        (5, ["2/2^5 = 0.062;", "0.6 to 2.9 times"]),
        (9, ["their spread"]),
    ],
)
def test_what_so_many_seeds_are_too_few_for(num_seeds: int, words: list[str]) -> None:
    rng = np.random.default_rng(0)
    (note,) = notes(compare_runs(make_arms({arm: list(rng.random(num_seeds)) for arm in "ab"})))
    assert note.startswith(f"{num_seeds} seeds are too few for: ")
    assert all(word in note for word in words)
    assert ("sign-flip" in note) == (num_seeds < 6)


def test_many_seeds_are_too_few_for_nothing_but_many_pairs_raise_the_floor() -> None:
    rng = np.random.default_rng(0)
    assert notes(compare_runs(make_arms({arm: list(rng.random(20)) for arm in "ab"}))) == []
    (note,) = notes(compare_runs(make_arms({arm: list(rng.random(6)) for arm in "abc"})))
    assert "2/2^6 = 0.031, 0.094 among 3 pairs" in note


def test_random_flips_have_a_floor_of_their_own() -> None:
    assert sign_flip_floor(14) == 2 / 10_000
    rng = np.random.default_rng(0)
    arms = {f"arm{arm}": list(arm + 0.01 * rng.normal(size=14)) for arm in range(24)}  # 276 pairs, far apart
    comparison = compare_runs(make_arms(arms))
    assert {found.verdict for found in comparison.differences} == {"different"}
    assert not any("does not bear it out" in sentence(found, comparison) for found in comparison.differences)
    assert "that of 9,999 random flips = 0.0002, 0.055 among 276 pairs" in notes(comparison)[0]


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.0504, "p = 0.0504"), (0.0496, "p = 0.0496"), (0.05004, "p > 0.05"), (0.05, "p <= 0.05"), (0.0512, "p = 0.051"),
     (0.5, "p = 0.50"),
     (0.04999996, "p <= 0.05"), (0.00123, "p = 0.0012"), (0.00001, "p < 0.0001")],
)  # fmt: skip
def test_a_p_shows_on_which_side_of_the_level_it_lies(p: float, text: str) -> None:
    assert p_text(p) == text


def test_what_was_chosen_of_a_study_is_said(tmp_path: Path) -> None:
    arms = {name: {seed: [value] for seed, value in enumerate(BASE)} for name in "abc"}
    runs = write_study(tmp_path, arms)
    assert not any("compared" in note for note in notes(compare_runs(runs)))
    chosen = [run for run in runs if run.arm != "b" and run.seed > 1]
    assert notes(compare_runs(chosen))[0] == (
        "Of trials only 2 of its 3 arms and 3 of its 5 seeds are compared: p is adjusted for these alone, and means "
        "nothing if they were chosen by their results."
    )
    assert notes(compare_runs(runs[:-2]))[0].startswith("Of trials only 13 of its 15 runs are compared:")
    # an arm that the plan has no more is none that was left out
    (tmp_path / "trials" / "study.toml").write_text("seeds = [0, 1, 2, 3, 4]\n[arms]\na = {}\nc = {}\n")
    (note,) = [note for note in notes(compare_runs(chosen)) if note.startswith("Of trials")]
    assert note.startswith("Of trials only 3 of its 5 seeds are compared")


def test_that_rates_were_tuned_and_by_how_many_seeds_is_said(tmp_path: Path) -> None:
    runs = write_study(tmp_path, {name: {seed: [value] for seed, value in enumerate(BASE)} for name in "ab"})
    (tmp_path / "trials" / "study.toml").write_text("[tune]\nseeds = [1000]\n[arms]\na = {}\nb = {}\n")
    assert notes(compare_runs(runs))[0] == (
        "The rates of trials were chosen by 1 seed each: intervals and p are of the arms at these rates, and do "
        "not include the luck of that choice."
    )


def test_runs_by_which_a_rate_is_found_are_not_said_to_have_one_that_was_chosen(tmp_path: Path) -> None:
    rates = {name: {seed: [value] for seed, value in enumerate(BASE)} for name in ("lr0.1", "lr1.0")}
    runs = write_study(tmp_path, rates, name="adam")
    (tmp_path / "adam" / "study.toml").write_text("[tune]\nseeds = [0, 1, 2, 3, 4]\n[arms]\nadam = {}\nsgd = {}\n")
    assert not [note for note in notes(compare_runs(runs)) if "were chosen" in note]


def test_runs_of_other_lengths_are_said_to_be(tmp_path: Path) -> None:
    arms = {"short": {0: [0.5] * 2, 1: [0.6] * 3}, "long": {0: [0.5] * 5, 1: [0.7] * 5}}
    runs = write_study(tmp_path, arms, steps=2000)
    found, text = only(compare_runs(runs))
    assert (found.arm_updates, found.reference_updates) == ([50, 50], [20, 30])
    assert "Runs of long ended at update 50, those of short at 20 to 30." in text
    arms = {"one": {0: [0.5] * 2, 1: [0.6] * 3}, "other": {0: [0.5] * 3, 1: [0.7] * 2}}
    crossed = only(compare_runs(write_study(tmp_path, arms, name="crossed", steps=2000)))[1]
    assert "In seeds 0, 1 the two runs ended at different updates." in crossed
    same = {name: {seed: [0.5 + seed] * 5 for seed in range(2)} for name in "ab"}
    assert "ended at" not in only(compare_runs(write_study(tmp_path, same, name="same")))[1]


VALUES = st.lists(st.tuples(*[st.integers(0, 360)] * 2), min_size=2, max_size=8)


@settings(deadline=None, max_examples=10)
@given(VALUES)
def test_swapping_the_arms_flips_the_signs_and_nothing_else(pairs: list[tuple[int, int]]) -> None:
    one, other = ([hits / 360 for hits in values] for values in zip(*pairs, strict=True))
    found, _ = only(compare_runs(make_arms({"a": one, "b": other})))
    swapped, _ = only(compare_runs(make_arms({"a": other, "b": one})))
    assert swapped.mean == pytest.approx(-found.mean)
    assert swapped.p == pytest.approx(found.p) and swapped.p_sign_flip == pytest.approx(found.p_sign_flip)
    assert swapped.verdict == found.verdict and swapped.seeds_needed == found.seeds_needed
    if found.interval is not None:
        assert swapped.interval == pytest.approx((-found.interval.high, -found.interval.low))


@settings(deadline=None, max_examples=10)
@given(VALUES, st.floats(-1, 1))
def test_what_both_arms_gain_changes_nothing(pairs: list[tuple[int, int]], gain: float) -> None:
    one, other = ([hits / 360 for hits in values] for values in zip(*pairs, strict=True))
    found, _ = only(compare_runs(make_arms({"a": one, "b": other})))
    moved, _ = only(compare_runs(make_arms({arm: [x + gain for x in values] for arm, values in
                                            (("a", one), ("b", other))})))  # fmt: skip
    assert moved.mean == pytest.approx(found.mean, abs=1e-12)
    assert moved.p == pytest.approx(found.p, rel=1e-6) and moved.verdict == found.verdict


def test_time_to_a_target_counts_those_that_never_get_there(tmp_path: Path) -> None:
    runs = write_study(
        tmp_path,
        {
            "quick": {seed: [0.5, 0.9, 0.9] for seed in range(6)},
            "slow": {**{seed: [0.5, 0.6, 0.9] for seed in range(4)}, 4: [0.5, 0.5, 0.5],
                     5: {"accuracies": [0.5], "status": "diverged", "steps": 30}},
        },
    )  # fmt: skip
    comparison = compare_runs(runs, targets=["0.8"])
    quick, slow = comparison.times
    assert (quick.num_reached, quick.num_runs, quick.updates.value, quick.seconds.value) == (6, 6, 20, 10)
    assert (slow.num_reached, slow.num_runs, slow.updates.value, slow.seconds.value) == (4, 6, 30, 15)
    (found,) = comparison.races
    assert (found.race.first, found.race.second, found.race.p) == (0, 6, pytest.approx(2 / 2**6))
    assert race_sentence(found, comparison) == (
        "quick is sooner at the target than slow: slow first in 0, quick in 6 (exact sign test, p = 0.031)."
    )
    harder = compare_runs(runs, targets=["0.95"])
    assert "No seed shows whether" in race_sentence(harder.races[0], harder)


def test_who_is_looked_at_more_often_is_not_sooner_for_that(tmp_path: Path) -> None:
    rising = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    often = {seed: {"accuracies": rising, "evaluate": {"every": 10}} for seed in range(6)}
    seldom = {seed: {"accuracies": rising[1::2], "every": 20, "evaluate": {"every": 20}} for seed in range(6)}
    comparison = compare_runs(write_study(tmp_path, {"often": often, "seldom": seldom}), targets=["0.3"])
    assert [time.updates.value for time in comparison.times] == [40, 40]
    assert comparison.races[0].race.neither == 6
    assert notes(comparison)[0].startswith("Runs of often (6) first show the target at updates at which not all")
    assert "evaluate.every" not in sentence(comparison.differences[0], comparison)


def test_an_arm_that_shows_the_target_only_where_others_were_not_looked_at_is_said_to(tmp_path: Path) -> None:
    tens = {seed: [0.5, 0.9] for seed in range(2)}
    fifteens = {seed: {"accuracies": [0.5, 0.9], "every": 15} for seed in range(2)}
    comparison = compare_runs(write_study(tmp_path, {"tens": tens, "fifteens": fifteens}), targets=["0.8"])
    listed = list_times(comparison, "trials")
    assert listed is not None
    assert [row[:3] for row in listed.rows] == [("tens", "2 of 2", "not known"), ("fifteens", "2 of 2", "30")]
    assert "No seed shows whether fifteens or tens is sooner at the target" in race_sentence(
        comparison.races[0], comparison
    )
    found = notes(comparison)
    assert any(note.startswith("Runs of tens (2) first show the target at updates at which not all") for note in found)
    assert "The median times of fifteens have no interval, which needs 5 runs." in found
    never = list_times(compare_runs(write_study(tmp_path, {"a": {0: [0.5]}, "b": {0: [0.6]}}, name="no"),
                                    targets=["0.8"]), "no")  # fmt: skip
    assert never is not None and [row[1:] for row in never.rows] == [("0 of 1", "not reached", "not reached")] * 2


def test_a_run_that_was_cut_short_is_not_one_that_never_gets_there(tmp_path: Path) -> None:
    cut = {"accuracies": [0.5], "status": "preempted", "steps": 30}
    arms = {"a": {seed: [0.5, 0.9, 0.9] for seed in range(5)}, "b": {seed: [0.5, 0.5, 0.9] for seed in range(5)}}
    runs = write_study(tmp_path, arms, name="one")
    runs += write_study(tmp_path, arms | {"a": {**arms["a"], 0: cut, 1: cut, 2: cut}}, name="two")
    first, second = compare_runs(runs, targets=["0.8"]).profiles
    assert (first.arm, first.score, second.ratios) == ("a", 1.0, {"one": 1.5, "two": 1.5})


def test_several_studies_have_a_profile_over_those_with_a_target(tmp_path: Path) -> None:
    runs = []
    for name, slow in (("one", [0.5, 0.9, 0.9]), ("two", [0.5, 0.5, 0.9])):
        arms = {"a": {seed: [0.9, 0.9, 0.9] for seed in range(3)}, "b": dict.fromkeys(range(3), slow)}
        runs += write_study(tmp_path, arms, name=name)
    first, second = compare_runs(runs, targets=["0.8"]).profiles
    assert (first.arm, first.score, first.ratios) == ("a", 1.0, {"one": 1.0, "two": 1.0})
    assert (second.arm, second.ratios) == ("b", {"one": 2.0, "two": 3.0})
    assert second.score == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert compare_runs(runs, targets=["one=0.8"]).profiles == []
    own = compare_runs(runs, targets=["0.8", "two=0.4"])
    assert own.profiles[1].ratios == {"one": 2.0, "two": 1.0}


def test_the_document_is_json_and_holds_what_was_said(tmp_path: Path) -> None:
    runs = write_study(tmp_path, {"a": {0: [0.5, 0.9], 1: [0.5, 0.8]}, "b": {0: [0.6, 0.7], 1: [0.6, 0.9]}})
    comparison = compare_runs(runs, targets=["0.85"])
    document = json.loads(json.dumps(to_document(comparison), allow_nan=False))
    (found,) = document["differences"]
    assert found["sentence"] == sentence(comparison.differences[0], comparison)
    assert (found["num_seeds"], found["sign_flip_exact"], found["sign_flip_floor"]) == (2, True, 0.5)
    assert found["interval_low"] == comparison.differences[0].interval.low
    assert document["arms"][0]["values"] == {"0": 0.9, "1": 0.8}
    assert document["measure"] == "test_accuracy" and document["notes"] == notes(comparison)


def test_the_csv_has_a_row_for_each_pair(tmp_path: Path) -> None:
    runs = [*make_arms({"a": BASE, "b": BETTER, "c": NO_BETTER}), make_run("c", 7, None, status="diverged")]
    comparison = compare_runs(runs)
    write_csv(str(tmp_path / "pairs.csv"), comparison)
    with (tmp_path / "pairs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["arm"], row["reference"]) for row in rows] == [("b", "a"), ("c", "a"), ("c", "b")]
    assert float(rows[0]["interval_low"]) == comparison.differences[0].interval.low
    assert rows[0]["seeds"] == "0 1 2 3 4" and rows[1]["left_out"] == "c:7:diverged a:7:not_run"


def test_no_text_in_the_csv_is_a_formula_to_a_spreadsheet_and_numbers_stay_numbers(tmp_path: Path) -> None:
    runs = [*make_arms({"=1+cmd()": BETTER, "-x": BASE}), make_run("@a", 7, None, status="diverged")]
    write_csv(tmp_path / "pairs.csv", compare_runs(runs, control="=1+cmd()"))
    with (tmp_path / "pairs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["arm"], row["reference"]) for row in rows] == [("'-x", "'=1+cmd()"), ("'@a", "'=1+cmd()")]
    assert rows[1]["left_out"].startswith("'")
    assert all(rows[0][name].startswith("-") for name in ("differences", "interval_low"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"control": "costant"}, "Unknown arm 'costant'. Known: constant, cosine. Did you mean 'constant'?"),
        ({"measure": "test_acuracy"}, "Unknown measure 'test_acuracy'. There are: test_accuracy, test_loss"),
        ({"measure": "test_accuracy_mirror"}, "No complete run has a test_accuracy_mirror."),
        ({"targets": ["90"]}, "--target 90: an accuracy must be above 0 and at most 1, as in --target 0.9."),
        ({"targets": ["nan"]}, "--target nan: an accuracy must be above 0"),
        ({"targets": ["high"]}, "--target high: must be a number, or STUDY=NUMBER."),
        ({"targets": ["digit=0.9"]}, "Unknown study 'digit'. Known: runs."),
        ({"targets": ["inf"], "measure": "test_loss"}, "--target inf: a loss must be above 0 and finite."),
    ],
)
def test_what_cannot_be_asked_is_explained(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CompareError) as raised:
        compare_runs(make_arms({"constant": BASE, "cosine": BETTER}), **options)
    assert str(raised.value).startswith(message)
    assert raised.value.exit_code == 2


def test_where_nothing_is_left_no_difference_is_spoken_of() -> None:
    runs = [make_run("a", 0, 0.5), make_run("a", 1, 0.5), make_run("b", 0, None, status="diverged")]
    said = sentence((comparison := compare_runs(runs)).differences[0], comparison)
    assert "cannot be compared" in said and "Diverged, and therefore in no difference: b seed 0." in said
    assert "The difference is" not in said


def test_one_arm_or_no_common_seed_is_nothing_to_compare() -> None:
    with pytest.raises(CompareError, match="'runs' holds one arm, 'a': there is nothing to compare it with"):
        compare_runs(make_arms({"a": BASE}))
    apart = [make_run("a", 0, 0.5), make_run("a", 1, 0.5), make_run("b", 2, 0.5)]
    with pytest.raises(CompareError, match="No seed in common: 'b' was run with 2, 'a' with 0, 1. Arms are paired"):
        compare_runs(apart)


def test_runs_on_validation_images_are_compared_by_those(tmp_path: Path) -> None:
    runs = []
    for arm, value in (("a", 0.5), ("b", 0.6)):
        run = make_run(arm, 0, None, data={"validation_fraction": 0.1})
        run.info["result"]["validation_accuracy"] = value  # type: ignore[index]
        runs.append(run)
    comparison = compare_runs(runs)
    assert comparison.measure.name == "validation_accuracy"
    assert comparison.differences[0].mean == pytest.approx(0.1)
    with pytest.raises(CompareError, match="some on validation images: compare them separately"):
        compare_runs([*runs, write_run(tmp_path / "c-seed0", [0.5], seed=0)])


@pytest.mark.parametrize(
    "plan",
    [
        "arms = 5",
        'arms = "ab"',
        "arms = ['a']",
        'seeds = "0-4"\n[arms]\na = {}\nb = {}',
        "[tune]\nseeds = 3",
        "tune = 1",
        "=",
    ],
)
def test_a_plan_that_is_none_costs_no_comparison(tmp_path: Path, plan: str) -> None:
    runs = write_study(tmp_path, {name: {seed: [value] for seed, value in enumerate(BASE)} for name in "ab"})
    (tmp_path / "trials" / "study.toml").write_text(plan)
    comparison = compare_runs(runs)
    assert comparison.selections == [Selection("trials", 2, 2, 5, 5, 10, 10, 0)]


def test_of_several_studies_each_is_named_in_what_is_said_of_times(tmp_path: Path) -> None:
    arms = {"tens": {0: [0.5, 0.9]}, "fifteens": {0: {"accuracies": [0.5, 0.9], "every": 15}}}
    runs = [run for name in ("one", "two") for run in write_study(tmp_path, arms, name=name)]
    found = notes(compare_runs(runs, targets=["0.8"]))
    assert any("Runs of one: tens (1), two: tens (1) first show the target" in note for note in found)
    assert any(note.startswith("There is no profile over the studies") for note in found)
