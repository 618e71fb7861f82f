"""The rate of an arm is found on images set aside, by the same means for every arm."""

import json
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

from lrlab.config import read_study
from lrlab.experiments import Experiment
from lrlab.report import write_report
from lrlab.report.tuning import tuning_remarks
from lrlab.runs import RunError, RunWriter, find_runs, read_run
from lrlab.studies import Choice, Ended, run_study, tuning_members
from lrlab.studies.tuning import choose

pytestmark = pytest.mark.usefixtures("blank_pictures")

PLAN = """
name = "tuned"
seeds = [0]
[base]
steps = 30
batch_size = 16
model.width = 2
schedule.name = "constant"
engine.threads = 1
[arms]
adam = {}
sgd = { optimizer.name = "sgd" }
[tune]
rates = [1e-9, 3e-2, 1e30]
seeds = [1000]
"""


def write(folder: Path, text: str = PLAN) -> Path:
    path = folder / "tuned.toml"
    path.write_text(text)
    return path


def play(path: Path) -> tuple[list[Choice], list[tuple[str, str]]]:
    """The choices, and the outcome of each run."""
    choices, outcomes = [], []
    for happening in run_study(read_study(path), path, root=path.parent / "runs"):
        if isinstance(happening, Choice):
            choices.append(happening)
        elif isinstance(happening[1], Ended):
            outcomes.append((happening[0].name, happening[1].outcome + " before" * happening[1].was_there))
    return choices, outcomes


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Choice], list[tuple[str, str]]]:
    path = write(tmp_path_factory.mktemp("tuned"))
    return path, *play(path)


Tuned = tuple[Path, list[Choice], list[tuple[str, str]]]


def test_of_an_idle_a_good_and_an_absurd_rate_the_good_one_is_taken(tuned: Tuned) -> None:
    path, choices, outcomes = tuned
    assert [(choice.arm, choice.lr, choice.remark) for choice in choices] == [("adam", 0.03, ""), ("sgd", 0.03, "")]
    assert dict(outcomes)["adam at 1e+30 seed 1000"] == "diverged"
    runs = find_runs(path.parent / "runs" / "tuned")
    assert [(run.arm, run.seed, run.config["optimizer"]["lr"]) for run in runs] == [("adam", 0, 0.03), ("sgd", 0, 0.03)]


def test_tuning_leaves_the_test_images_alone_and_the_study_has_all_training_images(tuned: Tuned) -> None:
    path, _, _ = tuned
    for member in tuning_members(read_study(path), path.parent / "runs"):
        run = read_run(member.directory)
        assert run.result["test_accuracy"] is None and run.result["test_loss"] is None
        assert {record["split"] for record in run.evaluations()} <= {"validation"}
    tried = read_run(path.parent / "runs" / "tuned" / "tuning" / "adam" / "lr0.03" / "seed1000")
    (run, _) = find_runs(path.parent / "runs" / "tuned")
    aside = tried.info["data"]["num_validation"]
    assert aside == pytest.approx(0.1 * run.info["data"]["num_train"], abs=5)
    assert tried.info["data"]["num_train"] == run.info["data"]["num_train"] - aside
    assert {record["split"] for record in run.evaluations()} == {"test"}


def test_choices_and_their_cost_are_written(tuned: Tuned) -> None:
    path, choices, _ = tuned
    written = json.loads((path.parent / "runs" / "tuned" / "tuning.json").read_text())
    assert {arm: found["lr"] for arm, found in written["arms"].items()} == {"adam": 0.03, "sgd": 0.03}
    assert [one["lr"] for one in written["arms"]["adam"]["tried"]] == [1e-9, 0.03, 1e30]
    assert written["arms"]["adam"]["tried"][2]["validation_accuracy"] == [None]
    assert written["cost"]["runs"] == 6
    assert written["cost"]["steps"] == sum(choice.cost.steps for choice in choices)
    assert 2 * 60 < written["cost"]["steps"] < 2 * 90  # the absurd rate ended early


def test_of_a_plan_that_no_longer_tunes_the_page_says_no_rates(tuned: Tuned, tmp_path: Path) -> None:
    folder = tuned[0].parent / "runs" / "tuned"
    for name in ("study.toml", "tuning.json"):
        shutil.copy(folder / name, tmp_path / name)
    assert tuning_remarks(tmp_path)[0].startswith("The rates were chosen by [tune] among ")
    (tmp_path / "study.toml").write_text('name = "tuned"\n')
    assert tuning_remarks(tmp_path) == []


def test_repeated_a_tuned_study_runs_nothing_and_touches_nothing(tuned: Tuned) -> None:
    path, choices, _ = tuned
    before = {file: file.read_bytes() for file in (path.parent / "runs").rglob("*") if file.is_file()}
    again, outcomes = play(path)
    assert again == choices
    assert {outcome for _, outcome in outcomes} == {"complete before", "diverged before"}
    assert {file: file.read_bytes() for file in (path.parent / "runs").rglob("*") if file.is_file()} == before


def test_more_seeds_come_later_at_the_same_rate(tuned: Tuned) -> None:
    path, choices, _ = tuned
    again, outcomes = play(write(path.parent, PLAN.replace("seeds = [0]", "seeds = [0, 1]")))
    assert again == choices
    assert {name for name, outcome in outcomes if outcome == "complete"} == {"adam seed 1", "sgd seed 1"}


def test_the_rates_of_an_arm_can_be_laid_over_each_other(tuned: Tuned) -> None:
    folder = tuned[0].parent / "runs" / "tuned" / "tuning" / "adam"
    assert [run.arm for run in find_runs(folder)] == ["lr0.03", "lr1e+30", "lr1e-09"]
    assert "lr0.03" in write_report(folder).read_text()


def test_the_page_of_a_tuned_study_says_how_the_rates_were_found(tuned: Tuned) -> None:
    page = write_report(tuned[0].parent / "runs" / "tuned").read_text()
    assert "adam 0.03 (3 runs, " in page
    assert "[tune]" in page


def test_a_plan_that_is_edited_while_rates_are_tuned_is_kept_as_it_is_run(tmp_path: Path) -> None:
    path = write(tmp_path, PLAN.replace("rates = [1e-9, 3e-2, 1e30]", "rates = [3e-2, 1e-1]"))
    text = path.read_text()
    for happening in run_study(read_study(path), path, root=tmp_path / "runs"):
        if isinstance(happening, Choice):
            path.unlink(missing_ok=True)
    for folder in (tmp_path / "runs" / "tuned", tmp_path / "runs" / "tuned" / "tuning" / "adam"):
        assert (folder / "study.toml").read_text() == text


def test_a_plan_by_which_another_rate_is_chosen_is_refused_and_leaves_what_is_said_of_the_runs(tmp_path: Path) -> None:
    path = write(tmp_path, PLAN.replace("rates = [1e-9, 3e-2, 1e30]", "rates = [1e-9, 1e-8]"))
    play(path)
    folder = tmp_path / "runs" / "tuned"
    files = [folder / "study.toml", folder / "tuning.json", folder / "tuning" / "adam" / "study.toml"]
    before = [file.read_bytes() for file in files]
    write(tmp_path, PLAN.replace("rates = [1e-9, 3e-2, 1e30]", "rates = [1e-9, 1e-8, 3e-2]"))
    with pytest.raises(RunError, match=r"optimizer\.lr: 1e-0[89] -> 0\.03"):
        play(path)
    assert [file.read_bytes() for file in files] == before


def test_another_plan_that_came_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    path = write(tmp_path, PLAN.replace("rates = [1e-9, 3e-2, 1e30]", "rates = [3e-2, 1e-1]"))
    folder = tmp_path / "runs" / "tuned"
    theirs = path.read_text().replace("seeds = [", "seeds = [7, ")
    with pytest.raises(RunError, match="another process replaced the plan while the rates were tuned"):
        for _ in run_study(read_study(path), path, root=tmp_path / "runs"):
            if folder.exists():  # not yet while the arms are checked
                (folder / "study.toml").write_text(theirs)
    assert (folder / "study.toml").read_text() == theirs


def test_a_tuning_run_that_another_process_ends_meanwhile_counts(tmp_path: Path) -> None:
    path = write(tmp_path, PLAN.replace("rates = [1e-9, 3e-2, 1e30]", "rates = [1e-3, 3e-2]"))
    member = tuning_members(read_study(path), tmp_path / "runs")[0]
    choices = []
    with ExitStack() as other:
        other.enter_context(RunWriter(member.directory, member.config))
        for happening in run_study(read_study(path), path, root=tmp_path / "runs"):
            if isinstance(happening, Choice):
                choices.append(happening.arm)
            elif isinstance(happening[1], Ended) and happening[1].outcome == "locked":
                other.close()  # after it was looked at for the last time
                list(Experiment(member.config).run(member.directory, resumes=True))
    assert choices == ["adam", "sgd"]


def test_an_arm_whose_tuning_is_elsewhere_is_passed_over_and_the_others_are_run(tmp_path: Path) -> None:
    path = write(tmp_path, PLAN.replace("rates = [1e-9, 3e-2, 1e30]", "rates = [1e-3, 3e-2]"))
    member = tuning_members(read_study(str(path)), str(tmp_path / "runs"))[0]
    with RunWriter(member.directory, member.config):
        choices, outcomes = play(path)
    assert [choice.arm for choice in choices] == ["sgd"]
    assert dict(outcomes)["adam seed 0"] == "locked"
    assert dict(outcomes)["sgd seed 0"] == "complete"
    assert not (tmp_path / "runs" / "tuned" / "adam").exists()


def chosen(tmp_path: Path, accuracies: dict[float, list[float | None]]) -> Choice:
    """What is chosen where runs at each rate ended with these accuracies, one a seed; None for one that diverged."""
    seeds = list(range(1, 1 + len(next(iter(accuracies.values())))))
    path = write(tmp_path, PLAN.replace("rates = [1e-9, 3e-2, 1e30]", f"rates = {list(accuracies)}").replace(
        "seeds = [1000]", f"seeds = {seeds}"))  # fmt: skip
    ended = []
    for member in tuning_members(read_study(path), tmp_path / "runs"):
        assert member.rate is not None
        with RunWriter(member.directory, member.config) as writer:
            writer.finish("complete", {"steps": 10, "train_seconds": 0.5})
        found = accuracies[member.rate][member.seed - 1]
        ended.append((member, Ended("diverged") if found is None else Ended("complete", accuracy=found)))
    return choose("adam", ended)


@pytest.mark.parametrize(
    ("accuracies", "lr", "remark"),
    [
        ({0.1: [0.5, 0.7], 0.01: [0.6, 0.8], 0.001: [0.1, 0.1]}, 0.01, ""),
        ({0.001: [0.1], 0.01: [0.7], 0.1: [0.7], 1.0: [0.2]}, 0.01, ""),  # of equal ones the lower
        ({0.001: [0.4, 0.4], 0.01: [0.7, None], 0.1: [0.1, 0.1]}, 0.001, "this is the lowest rate of the grid"),
        ({0.001: [0.1], 0.01: [0.2]}, 0.01, "this is the highest rate of the grid"),
        ({0.001: [None], 0.01: [None]}, 0.001, "every run diverged: add lower rates to tune.rates"),
    ],
)
def test_the_best_mean_is_taken_and_doubts_are_said(
    tmp_path: Path, accuracies: dict[float, list[float | None]], lr: float, remark: str
) -> None:
    choice = chosen(tmp_path, accuracies)
    assert choice.lr == lr
    assert remark in choice.remark and bool(remark) == bool(choice.remark)
    assert [one.lr for one in choice.tried] == sorted(accuracies)
    assert choice.cost.steps == 10 * choice.cost.runs
