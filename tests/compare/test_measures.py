"""What runs are compared by beside their evaluations: columns of the rows, and how they generalise."""

import json
from pathlib import Path

import numpy as np
import pytest

from lrlab.compare import CompareError, compare_runs, sentence
from lrlab.compare.choosing import choose_measure
from lrlab.config import parse_config
from lrlab.runs import Run, RunWriter, read_run
from lrlab.runs.afterwards import later_rows


def write(directory: Path, *, seed: int, cosines: list[float], ece: float | None = None) -> Run:
    with RunWriter(directory, parse_config({"steps": len(cosines), "seed": seed})) as writer:
        writer.describe(data={"name": "digits"})
        steps = np.arange(1, len(cosines) + 1)
        writer.write_rows({"step": steps, "grad_cosine/stem": np.array(cosines)})
        result = {"test_accuracy": 0.5, "test_loss": 1.0, "steps": len(cosines), "train_seconds": 1.0}
        writer.finish("complete", result)
    if ece is not None:
        info = json.loads((directory / "run.json").read_text())
        finding = {"ece": ece, "images": 10, "linear_probe": {"data": "digits", "accuracy": 0.25}}
        (directory / "run.json").write_text(json.dumps({**info, "generalisation": finding}))
    return read_run(directory)


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    made = []
    for seed in range(3):
        rising = [0.0] * 27 + [1.0, 2.0, 3.0 + seed]
        made.append(write(tmp_path / f"up-seed{seed}", seed=seed, cosines=rising, ece=0.1 + seed / 100))
        made.append(write(tmp_path / f"flat-seed{seed}", seed=seed, cosines=[0.01 * seed] * 30, ece=0.2))
    return made


def test_a_column_counts_by_the_mean_of_its_last_tenth(runs: list[Run]) -> None:
    comparison = compare_runs(runs, measure="grad_cosine/stem")

    arms = {arm.name: list(arm.values.values()) for arm in comparison.arms}
    assert arms["up"] == pytest.approx([2, 7 / 3, 8 / 3])
    assert arms["flat"] == pytest.approx([0, 0.01, 0.02])
    (found,) = comparison.differences
    assert found.verdict == "different"
    # neither more nor less is better
    assert "up has a larger grad_cosine/stem than flat" in sentence(found, comparison) or (
        "flat has a smaller grad_cosine/stem than up" in sentence(found, comparison)
    )


def test_how_a_run_generalises_is_compared_under_the_tag_that_tensorboard_has(runs: list[Run]) -> None:
    comparison = compare_runs(runs, measure="generalisation/ece")
    arms = {arm.name: list(arm.values.values()) for arm in comparison.arms}
    assert arms == {"up": pytest.approx([0.1, 0.11, 0.12]), "flat": [0.2, 0.2, 0.2]}
    assert choose_measure("generalisation/linear_probe_accuracy", runs).final(runs[0]) == 0.25


def test_what_is_lost_in_noise_is_no_value(tmp_path: Path) -> None:
    runs = [
        write(tmp_path / f"{arm}-seed{seed}", seed=seed, cosines=values)
        for seed in range(2)
        for arm, values in {"lost": [1.0] * 18 + [float("nan")] * 2, "half": [1.0] * 18 + [float("nan"), 3.0]}.items()
    ]
    comparison = compare_runs(runs, measure="grad_cosine/stem")
    arms = {arm.name: arm for arm in comparison.arms}
    assert list(arms["half"].values.values()) == [3, 3]
    assert not arms["lost"].values
    assert [out.reason for out in arms["lost"].left_out] == ["grad_cosine/stem not finite"] * 2


def test_a_column_that_is_not_finite_at_its_end_is_no_value(tmp_path: Path) -> None:
    values = {"lost": [1.0] * 29 + [float("nan")], "kept": [1.0] * 28 + [float("nan"), 3.0]}
    for arm, losses in values.items():
        with RunWriter(tmp_path / f"{arm}-seed0", parse_config({"steps": len(losses)})) as writer:
            writer.describe(data={"name": "digits"})
            writer.write_rows({"step": np.arange(1, len(losses) + 1), "val_loss": np.array(losses)})
            writer.finish("complete", {"steps": len(losses), "train_seconds": 1.0})
    comparison = compare_runs([read_run(tmp_path / f"{arm}-seed0") for arm in values], measure="val_loss")
    lost, kept = comparison.arms
    assert (lost.values, [out.reason for out in lost.left_out]) == ({}, ["val_loss not finite"])
    assert kept.values == {0: 2.0}, "of its last tenth what is finite"
    assert "no seed has a complete run of both with a finite val_loss" in sentence(
        comparison.differences[0], comparison
    )
    with pytest.raises(CompareError, match=r"^No run ends in a val_loss that is finite\.$"):
        compare_runs([read_run(tmp_path / "lost-seed0")], measure="val_loss")


def test_what_was_measured_otherwise_is_not_compared(runs: list[Run]) -> None:
    info = json.loads((runs[0].directory / "run.json").read_text())
    info["generalisation"]["images"] = 20
    (runs[0].directory / "run.json").write_text(json.dumps(info))
    with pytest.raises(CompareError, match=r"generalisation/ece was measured differently: .*10.* and .*20"):
        compare_runs([read_run(run.directory) for run in runs], measure="generalisation/ece")


def measure_later(runs: list[Run], at: dict[str, list[int]]) -> list[Run]:
    """Write a sharpness that is the update it is of."""
    for run in runs:
        with later_rows(run.directory, "sharpness", how={"samples": 2}) as (_, add):
            for step in at.get(run.arm, []):
                add(step, {"hessian_max/whole": float(step)})
    return [read_run(run.directory) for run in runs]


def test_what_was_measured_afterwards_at_other_updates_is_not_compared(runs: list[Run]) -> None:
    found = measure_later(runs, {"up": [15, 30], "flat": [15]})
    with pytest.raises(
        CompareError,
        match=r"hessian_max/whole was not measured at the same updates of all runs: that of .*up-seed0 is of update 30 "
        r"of 30 and that of .*flat-seed0 is of update 15 of 30\. Measure all at the same ones, or all at their last\.",
    ):
        compare_runs(found, measure="hessian_max/whole")
    measured = compare_runs(measure_later(found, {"flat": [30]}), measure="hessian_max/whole")
    assert [list(arm.values.values()) for arm in measured.arms] == [[30] * 3, [30] * 3]


def test_a_mean_of_other_updates_is_not_compared_either(runs: list[Run]) -> None:
    found = measure_later(runs, {"up": list(range(11, 31)), "flat": [30]})
    with pytest.raises(CompareError, match=r"up-seed0 is of update 29, 30 of 30 and that of .* of update 30 of 30"):
        compare_runs(found, measure="hessian_max/whole")


def test_runs_of_other_lengths_are_compared_where_all_were_measured_at_their_end(tmp_path: Path) -> None:
    lengths = {"long": 30, "short": 20}
    runs = [
        write(tmp_path / f"{arm}-seed{seed}", seed=seed, cosines=[0.5] * length)
        for seed in range(2)
        for arm, length in lengths.items()
    ]
    comparison = compare_runs(measure_later(runs, {"long": [30], "short": [20]}), measure="hessian_max/whole")
    assert {arm.name: list(arm.values.values()) for arm in comparison.arms} == {"long": [30, 30], "short": [20, 20]}


def test_where_a_run_that_is_left_out_was_measured_is_no_matter(runs: list[Run]) -> None:
    info = json.loads((runs[0].directory / "run.json").read_text())
    (runs[0].directory / "run.json").write_text(json.dumps({**info, "status": "diverged"}))
    found = measure_later(runs[:1], {"up": [10]}) + measure_later(runs[1:], {"up": [30], "flat": [30]})
    arms = {arm.name: arm for arm in compare_runs(found, measure="hessian_max/whole").arms}
    assert [(out.seed, out.reason) for out in arms["up"].left_out] == [(0, "diverged")]


def test_how_runs_generalise_at_other_updates_is_not_compared(runs: list[Run]) -> None:
    info = json.loads((runs[0].directory / "run.json").read_text())
    info["generalisation"]["step"] = 20  # the newest checkpoint that was sound
    (runs[0].directory / "run.json").write_text(json.dumps(info))
    with pytest.raises(CompareError, match=r"up-seed0 is of update 20 of 30 and that of .* is of update 30 of 30"):
        compare_runs([read_run(run.directory) for run in runs], measure="generalisation/ece")


def test_what_no_run_has_measured_is_refused_with_the_nearest(runs: list[Run]) -> None:
    with pytest.raises(CompareError, match=r"No run has measured 'grad_cosin/stem'.*Did you mean 'grad_cosine/stem'"):
        compare_runs(runs, measure="grad_cosin/stem")
    with pytest.raises(CompareError, match=r"Unknown measure 'acuracy'. There are: test_accuracy, .*grad_cosine/"):
        compare_runs(runs, measure="acuracy")
    with pytest.raises(CompareError, match=r"Unknown measure 'stem'.* Did you mean 'grad_cosine/stem'\?"):
        compare_runs(runs, measure="stem")
    with pytest.raises(CompareError, match=r"--target: grad_cosine/stem can have none"):
        compare_runs(runs, measure="grad_cosine/stem", targets=["0.5"])
