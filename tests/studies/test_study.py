"""A study runs what is missing, and nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lrlab.config import ConfigError, read_study
from lrlab.data import DataError
from lrlab.runs import RunError, RunWriter, StorageError, find_runs, read_run
from lrlab.studies import Ended, Waiting, run_study

PLAN = """
name = "plan"
seeds = [0, 1]
[base]
steps = 6
batch_size = 8
model.width = 2
schedule.check_every = 2
[arms]
wide = { schedule.multiplier = 1e3 }
narrow = { schedule.multiplier = 1e-9 }
"""


def write(folder: Path, text: str = PLAN) -> Path:
    path = folder / "plan.toml"
    path.write_text(text)
    return path


def play(path: Path) -> list[tuple[str, int, Ended]]:
    happenings = run_study(read_study(path), path, root=path.parent / "runs")
    return [(member.arm, member.seed, event) for member, event in happenings if isinstance(event, Ended)]


def outcomes(played: list[tuple[str, int, Ended]]) -> dict[str, str]:
    return {f"{arm}/{seed}": f"{ended.outcome}{' before' * ended.was_there}" for arm, seed, ended in played}


def test_a_study_makes_every_run_and_marks_its_folder(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert outcomes(play(path)) == {
        "wide/0": "complete",
        "narrow/0": "complete",
        "wide/1": "complete",
        "narrow/1": "complete",
    }
    runs = find_runs(tmp_path / "runs" / "plan")
    assert [(run.arm, run.seed, run.status) for run in runs] == [
        ("wide", 0, "complete"),
        ("wide", 1, "complete"),
        ("narrow", 0, "complete"),
        ("narrow", 1, "complete"),
    ]
    assert (tmp_path / "runs" / "plan" / "study.toml").read_text() == PLAN


def test_arms_of_one_seed_are_paired_until_their_rates_part(tmp_path: Path) -> None:
    play(write(tmp_path))
    wide, _, narrow, _ = find_runs(tmp_path / "runs" / "plan")
    losses, other = (list(run.series("train/loss")[1]) for run in (narrow, wide))
    assert losses[:2] == other[:2]  # same weights, order and images; the first decay comes after update 2
    assert losses[3:] != other[3:]


def test_repeated_a_study_runs_nothing_and_touches_nothing(tmp_path: Path) -> None:
    path = write(tmp_path)
    play(path)
    before = {file: file.read_bytes() for file in (tmp_path / "runs").rglob("*") if file.is_file()}
    assert set(outcomes(play(path)).values()) == {"complete before"}
    assert {file: file.read_bytes() for file in (tmp_path / "runs").rglob("*") if file.is_file()} == before


def test_a_run_from_before_a_setting_was_there_has_it_at_its_default(tmp_path: Path) -> None:
    path = write(tmp_path)
    play(path)
    for config in (tmp_path / "runs").rglob("config.toml"):
        lines = config.read_text().splitlines(keepends=True)
        config.write_text("".join(line for line in lines if not line.startswith(("label_smoothing", "cutout"))))
    assert set(outcomes(play(path)).values()) == {"complete before"}
    with pytest.raises(RunError, match="made with another configuration .label_smoothing: 0.0 -> 0.1"):
        play(write(tmp_path, PLAN.replace("steps = 6", "steps = 6\nlabel_smoothing = 0.1")))


def test_a_run_that_was_cut_short_is_made_again(tmp_path: Path) -> None:
    path = write(tmp_path)
    play(path)
    directory = tmp_path / "runs" / "plan" / "wide" / "seed1"
    info = json.loads((directory / "run.json").read_text())
    (directory / "run.json").write_text(json.dumps({**info, "status": "running", "result": {}}))
    assert outcomes(play(path))["wide/1"] == "complete"
    assert read_run(directory).status == "complete"


def test_a_run_that_another_process_has_is_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path)
    config = read_study(path).configs()["wide", 0]
    with RunWriter(tmp_path / "runs" / "plan" / "wide" / "seed0", config):
        played = outcomes(play(path))
    assert played == {"wide/0": "locked", "narrow/0": "complete", "wide/1": "complete", "narrow/1": "complete"}


def test_two_processes_share_a_study_even_where_runs_were_cut_short(tmp_path: Path) -> None:
    text = PLAN.replace("seeds = [0, 1]", "seeds = [0, 1, 2, 3]").replace("[arms]", "telemetry.every = 100\n[arms]")
    path = write(tmp_path, text)
    for (arm, seed), config in read_study(path).configs().items():
        with RunWriter(tmp_path / "runs" / "plan" / arm / f"seed{seed}", config):
            pass  # as a process leaves it that was killed
    command = [sys.executable, "-m", "lrlab", "study", str(path)]
    processes = [subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in processes:
        _, err = process.communicate(timeout=240)
        assert (process.returncode, err) == (0, "")
    runs = find_runs(tmp_path / "runs" / "plan")
    assert [run.status for run in runs] == ["complete"] * 8
    assert all(len(run.series("train/loss")[0]) == 6 for run in runs)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ('schedule.name = "torch:NoLR"', "arm 'narrow': Unknown scheduler 'torch:NoLR'"),
        ("batch_size = 5000", "arm 'narrow': batch_size must be at most"),
        ('schedule = { name = "torch:StepLR", step_size = 0 }', "arm 'narrow': torch:StepLR: ZeroDivisionError"),
    ],
)
def test_an_arm_that_cannot_be_built_is_refused_before_any_is_run(tmp_path: Path, wrong: str, message: str) -> None:
    path = write(tmp_path, PLAN.replace("schedule.multiplier = 1e-9", wrong))
    with pytest.raises(ConfigError, match=message):
        play(path)
    assert not (tmp_path / "runs" / "plan" / "wide").exists()


def test_a_diverged_run_is_a_result_and_the_others_go_on(tmp_path: Path) -> None:
    text = PLAN.replace("schedule.multiplier = 1e-9", 'optimizer = { name = "sgd", lr = 1e30 }')
    path = write(tmp_path, text)
    assert [ended.outcome for _, _, ended in play(path)] == ["complete", "diverged", "complete", "diverged"]
    assert outcomes(play(path))["narrow/0"] == "diverged before"


@pytest.mark.parametrize(
    ("old", "new", "difference"),
    [("steps = 6", "steps = 7", "steps: 6 -> 7"), ("1e-9", "1e-8", "schedule.multiplier: 1e-09 -> 1e-08")],
)
def test_a_changed_plan_is_refused_with_the_difference(tmp_path: Path, old: str, new: str, difference: str) -> None:
    play(write(tmp_path))
    with pytest.raises(RunError, match=f"made with another configuration .{difference}"):
        play(write(tmp_path, PLAN.replace(old, new)))


def test_a_plan_may_change_in_what_changes_no_result(tmp_path: Path) -> None:
    play(write(tmp_path))
    run = tmp_path / "runs" / "plan" / "wide" / "seed1"
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**info, "status": "running", "result": {}}))
    harmless = "[base]\ncheckpoint.keep = 5\nevaluate.batch_size = 7\nengine.threads = 1\ndevice = 'cpu'\n"
    with pytest.warns(UserWarning, match="not bit-exact"):
        played = outcomes(play(write(tmp_path, PLAN.replace("[base]", harmless))))
    assert (played["wide/0"], played["wide/1"]) == ("complete before", "complete")
    assert read_run(run).config["checkpoint"]["keep"] == 5


def test_a_run_that_another_process_made_by_another_plan_meanwhile_has_failed(tmp_path: Path) -> None:
    path = write(tmp_path)
    happenings = run_study(read_study(path), str(path), root=str(tmp_path / "runs"))
    ends = [next(one for _, one in happenings if isinstance(one, Ended))]  # of the first; the others are not begun
    (tmp_path / "other").mkdir()
    play(write(tmp_path / "other", PLAN.replace("1e-9", "1e-8")))
    (tmp_path / "other" / "runs" / "plan" / "narrow").rename(tmp_path / "runs" / "plan" / "narrow")
    ends += [one for _, one in happenings if isinstance(one, Ended)]
    assert [ended.outcome for ended in ends] == ["complete", "failed", "complete", "failed"]
    assert "was made with another configuration (schedule.multiplier: 1e-08 -> 1e-09)" in ends[1].message


def test_more_seeds_add_to_a_study(tmp_path: Path) -> None:
    play(write(tmp_path))
    played: dict[str, Any] = outcomes(play(write(tmp_path, PLAN.replace("[0, 1]", "[0, 1, 2]"))))
    assert played["wide/0"] == "complete before"
    assert played["wide/2"] == "complete"


@pytest.mark.parametrize("workers", [None, 1])
def test_a_study_that_is_stopped_while_its_arms_are_checked_makes_no_run(tmp_path: Path, workers: int | None) -> None:
    path = write(tmp_path)
    happenings = run_study(read_study(path), path, root=tmp_path / "runs", workers=workers)
    _, event = next(happenings)
    assert isinstance(event, Waiting)
    happenings.close()
    assert not (tmp_path / "runs").exists()


def test_a_plan_from_a_pipe_is_refused_before_any_run(tmp_path: Path) -> None:
    path = write(tmp_path)
    read, written = os.pipe()
    with (
        os.fdopen(read),
        os.fdopen(written, "w") as file,
        pytest.raises(StorageError, match="not a regular file, so it could be read only once"),
    ):
        file.write(PLAN)
        file.flush()
        list(run_study(read_study(path), f"/dev/fd/{read}", root=tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for part, name, number in ((p, n, k) for p in ("train", "test") for n in ("cat", "dog") for k in range(8)):
        (tmp_path / "images" / part / name).mkdir(parents=True, exist_ok=True)
        pixels = Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8))
        pixels.save(tmp_path / "images" / part / name / f"{number}.png")
    return tmp_path / "images"


def of_images(folder: Path, *, seeds: str) -> str:
    plan = PLAN.replace("[base]", f'[base]\ndata = {{ name = "folder", dir = "{folder}" }}')
    return plan.replace("seeds = [0, 1]", f"seeds = {seeds}")


@pytest.mark.parametrize("workers", [None, 1])
@pytest.mark.parametrize("place", ["images", "moved"])
def test_a_study_does_not_go_on_with_other_images(
    tmp_path: Path, images: Path, place: str, workers: int | None
) -> None:
    play(write(tmp_path, of_images(images, seeds="[0]")))

    one, other = images / "test/cat/0.png", images / "test/dog/0.png"  # a label that is corrected
    for old, new in ((one, tmp_path / "aside"), (other, one), (tmp_path / "aside", other)):
        old.rename(new)
    path = write(tmp_path, of_images(images.rename(tmp_path / place), seeds="[0, 1]"))
    with pytest.raises(DataError, match=r"seed0: the images differ from .* \(pixels or labels of the test images\)"):
        list(run_study(read_study(path), path, root=tmp_path / "runs", workers=workers))
    assert {run.seed for run in find_runs(tmp_path / "runs" / "plan")} == {0}


def test_a_study_goes_on_where_its_images_were_moved_to(tmp_path: Path, images: Path) -> None:
    play(write(tmp_path, of_images(images, seeds="[0]")))
    played = outcomes(play(write(tmp_path, of_images(images.rename(tmp_path / "moved"), seeds="[0, 1]"))))
    assert (played["wide/0"], played["wide/1"]) == ("complete before", "complete")
