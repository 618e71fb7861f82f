"""Which runs may be laid side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lrlab.compare import CompareError, compare_runs
from lrlab.compare.tasks import group_runs
from written_runs import make_run, write_run, write_study


def places(tasks: list) -> dict[str, dict[str, list[int]]]:  # type: ignore[type-arg]
    return {task.name: {arm: list(seeds) for arm, seeds in task.arms.items()} for task in tasks}


def test_studies_are_tasks_and_loose_runs_are_one(tmp_path: Path) -> None:
    study = write_study(tmp_path, {"a": {0: [0.5], 1: [0.5]}, "b": {0: [0.5]}}, name="first")
    loose = [write_run(tmp_path / name, [0.5], seed=seed) for name, seed in (("c-seed3", 3), ("c-seed4", 4), ("d", 3))]
    assert places(group_runs([*study, *loose])) == {
        "first": {"a": [0, 1], "b": [0]},
        "runs": {"c": [3, 4], "d": [3]},
    }


def test_a_run_named_twice_counts_once(tmp_path: Path) -> None:
    study = write_study(tmp_path, {"a": {0: [0.5]}, "b": {0: [0.5]}})
    assert places(group_runs([*study, study[0]])) == {"trials": {"a": [0], "b": [0]}}


def test_two_runs_cannot_have_one_place() -> None:
    runs = [make_run("a", 0, 0.5), make_run("b", 0, 0.5)]
    moved = type(runs[0])(Path("elsewhere/a-seed0"), runs[0].info, runs[0].config)
    with pytest.raises(CompareError, match="nowhere/a-seed0 and elsewhere/a-seed0 are both arm 'a' with seed 0"):
        group_runs([*runs, moved])


def test_an_arm_is_one_configuration() -> None:
    runs = [make_run("a", 0, 0.5), make_run("a", 1, 0.5, batch_size=64, optimizer={"lr": 0.5})]
    differing = r"a-seed0 and .*a-seed1 differ in optimizer\.lr \(0\.001 and 0\.5\), batch_size \(128 and 64\)\. "
    with pytest.raises(CompareError, match=f"{differing}Name the runs of one of them\\."):
        group_runs(runs)


def test_where_a_run_was_made_does_not_matter() -> None:
    runs = [make_run("a", 0, 0.5), make_run("a", 1, 0.5, device="cpu", engine={"threads": 3}, checkpoint={"every": 9})]
    assert places(group_runs(runs)) == {"runs": {"a": [0, 1]}}


def test_what_is_evaluated_beside_the_accuracy_does_not_matter_to_it() -> None:
    runs = [
        make_run(arm, seed, 0.5 + seed / 10, evaluate={"mirror": arm == "b" or seed > 0})
        for arm in "ab"
        for seed in range(3)
    ]
    for run in runs:
        if run.config["evaluate"]["mirror"]:
            run.info["result"]["test_accuracy_mirror"] = 0.75
    assert places(tasks := group_runs(runs)) == {"runs": {"a": [0, 1, 2], "b": [0, 1, 2]}}
    assert tasks[0].differing(["a", "b"]) == []
    mirrored = {arm.name: arm for arm in compare_runs(runs, measure="test_accuracy_mirror").arms}
    assert {name: list(arm.values) for name, arm in mirrored.items()} == {"a": [1, 2], "b": [0, 1, 2]}
    assert [out.reason for out in mirrored["a"].left_out] == ["no test_accuracy_mirror"]


def test_auto_precision_is_what_the_machine_made_of_it() -> None:
    runs = [make_run("a", seed, 0.5, engine={"precision": "auto"}) for seed in (0, 1)]
    half, single = (
        replace(run, info={**run.info, "engine": {"precision": found}})
        for run, found in zip(runs, ("bf16", "fp32"), strict=True)
    )
    with pytest.raises(CompareError, match=r"Arm 'a' has several configurations: .* differ in engine\.precision"):
        group_runs([half, single])
    assert places(group_runs([single, make_run("a", 0, 0.5)])) == {"runs": {"a": [1, 0]}}, "fp32 without being asked"
    resumed = replace(single, info={**single.info, "resumed": [{"step": 3, "precision": "bf16"}]})
    with pytest.raises(
        CompareError, match=r'engine\.precision \("bf16 then fp32" and "fp32"\).*, since auto depends on the machine'
    ):
        group_runs([resumed, make_run("a", 0, 0.5)])
    assert places(group_runs([half, runs[1]])) == {"runs": {"a": [0, 1]}}, "the second has not begun"


@pytest.mark.parametrize(
    ("resumed", "last", "expected"),
    [
        ([], "bf16", "bf16"),
        ([(10, "bf16")], "fp32", "bf16 then fp32"),
        ([(10, "bf16"), (10, "fp32")], "bf16", "bf16"),  # nothing of the second stretch is left
        ([(10, "bf16"), (20, "fp32")], "bf16", "bf16 then fp32 then bf16"),
        ([(10, "bf16"), (20, "fp32"), (5, "bf16")], "bf16", "bf16"),
        ([(10, "fp32"), (0, "bf16")], "bf16", "bf16"),
        ([(10, None), (20, "fp32")], "fp32", "fp32"),
    ],
)
def test_the_arithmetic_of_a_run_is_that_of_the_updates_that_are_left(
    resumed: list[tuple[int, str | None]], last: str, expected: str
) -> None:
    run = make_run("a", 0, 0.5)
    entries = [{"step": step, **({"precision": made} if made else {})} for step, made in resumed]
    assert replace(run, info={**run.info, "engine": {"precision": last}, "resumed": entries}).precision == expected


@pytest.mark.parametrize(("batchnorm", "matters"), [("per_rank", True), ("synchronised", False)])
@pytest.mark.parametrize(
    ("before", "last", "ranks"), [(None, 2, "2"), (2, 1, "2 then 1"), (1, 2, "1 then 2"), (2, 2, "2")]
)
def test_the_number_of_ranks_matters_where_each_normalises_its_own_part(
    batchnorm: str, matters: bool, before: int | None, last: int, ranks: str
) -> None:
    alone, shared = (make_run("a", seed, 0.5, model={"batchnorm": batchnorm}) for seed in (0, 1))
    resumed = [] if before is None else [{"step": 5, "ranks": before}]
    shared = replace(shared, info={**shared.info, "engine": {"ranks": last}, "resumed": resumed})
    if matters:
        with pytest.raises(CompareError, match=rf"differ in ranks \(1 and {ranks}\)"):
            group_runs([alone, shared])
    else:
        assert places(group_runs([alone, shared])) == {"runs": {"a": [0, 1]}}


def test_a_run_from_before_its_ranks_were_on_record_is_of_those_it_ended_with() -> None:
    alone, resumed = (make_run("a", seed, 0.5) for seed in (0, 1))
    resumed = replace(resumed, info={**resumed.info, "resumed": [{"step": 5, "precision": "fp32"}]})
    assert places(group_runs([alone, resumed])) == {"runs": {"a": [0, 1]}}


def test_a_key_that_an_older_run_does_not_have_is_at_its_default() -> None:
    new = make_run("a", 0, 0.5)
    older = {name: value for name, value in make_run("a", 1, 0.5).config.items() if name != "label_smoothing"}
    assert places(group_runs([new, type(new)(Path("nowhere/a-seed1"), new.info, older)])) == {"runs": {"a": [0, 1]}}


def test_arms_that_differ_in_more_than_the_schedule_are_told_apart_key_by_key() -> None:
    (task,) = group_runs(
        [make_run("a", 0, 0.5), make_run("b", 0, 0.5, steps=20, model={"width": 8}, schedule={"name": "constant"})]
    )
    differing = task.differing(["a", "b"])
    assert {"steps", "model.width", "schedule.name"} <= set(differing)
    assert task.differing(["a", "a"]) == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"name": "cifar10"}, r'data\.name: "digits" and "cifar10"'),
        ({"name": "digits", "test_fraction": 0.5}, r"data\.test_fraction: None and 0\.5"),
    ],
)
def test_results_on_other_images_are_refused(data: dict[str, object], message: str) -> None:
    with pytest.raises(
        CompareError, match=f"'a' seed 0 and 'b' seed 0 were not trained and evaluated on the same images \\({message}"
    ):
        group_runs([make_run("a", 0, 0.5), make_run("b", 0, 0.5, data=data)])


def test_two_folders_are_told_apart_by_what_was_found_in_them() -> None:
    runs = [make_run(arm, 0, 0.5, data={"name": "folder", "dir": "/x"}) for arm in ("a", "b")]
    for run, num_train in zip(runs, (80, 90), strict=True):
        run.info["data"] = {"num_train": num_train}  # type: ignore[index]
    with pytest.raises(CompareError, match="num_train: 80 and 90"):
        group_runs(runs)
    for run, mean in zip(runs, (0.4, 0.41), strict=True):
        run.info["data"] = {"num_train": 80, "mean": [mean, 0.5]}  # type: ignore[index]
    with pytest.raises(CompareError, match=r"mean: \[0.4, 0.5\] and \[0.41, 0.5\]"):
        group_runs(runs)
    for run, mean in zip(runs, (0.4, 0.4 + 1e-9), strict=True):
        run.info["data"]["mean"] = [mean, 0.5]
    group_runs(runs)


def test_images_that_differ_in_pixels_or_labels_alone_are_told_apart() -> None:
    runs = [make_run(arm, 0, 0.5, data={"name": "folder", "dir": "/x"}) for arm in ("a", "b")]
    for run, of_test in zip(runs, ("aa", "bb"), strict=True):
        run.info["data"] = {"num_train": 80, "digest": {"training": "cc", "test": of_test}}  # type: ignore[index]
    with pytest.raises(CompareError, match=r"same images \(pixels or labels of the test images\): their results"):
        group_runs(runs)
    old = make_run("old", 0, 0.5, data={"name": "folder", "dir": "/x"})  # from before there were any
    old.info["data"] = {"num_train": 80}  # type: ignore[index]
    for order in ([old, *runs], [runs[0], old, runs[1]]):
        with pytest.raises(CompareError, match="pixels or labels of the test images"):
            group_runs(order)
    group_runs([old, runs[0]])
    group_runs([runs[0], old])


def test_a_run_of_an_arm_that_saw_other_images_is_refused() -> None:
    runs = [make_run(arm, seed, 0.5, data={"name": "folder", "dir": "/x"}) for arm in ("a", "b") for seed in (0, 1)]
    for run, num_train in zip(runs, (80, 80, 80, 90), strict=True):
        run.info["data"] = {"num_train": num_train}  # type: ignore[index]
    with pytest.raises(CompareError, match=r"'a' seed 0 and 'b' seed 1 were not trained .* \(num_train: 80 and 90\)"):
        group_runs(runs)
