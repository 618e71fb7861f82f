"""Runs that were made elsewhere are brought in as they were recorded, and replayed and compared like ours."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from lrlab.cli import main
from lrlab.compare import compare_runs
from lrlab.integrations.importing import Reading, plan_import
from lrlab.integrations.recorded import RecordedError, read_recordings
from lrlab.report import write_report
from lrlab.runs import RunError, find_runs, read_run
from lrlab.runs.elsewhere import write_elsewhere
from lrlab.schedulers import SlopeLR

pytestmark = pytest.mark.usefixtures("blank_pictures")

STUDY = """
name = "made"
seeds = [0, 1, 2]
[base]
steps = 30
batch_size = 16
model.width = 2
evaluate.every = 10
[arms.constant]
schedule.name = "constant"
[arms.cosine]
schedule.name = "cosine"
"""

LONG = """\
schedule,seed,step,train_loss,val_acc,note
cosine,0,10,2.0,,a
cosine,0,20,1.5,40.5,b
cosine,1,10,2.5,,a
cosine,1,20,1.0,41.5,b
flat,0,10,2.0,,a
flat,0,20,1.75,30,b
flat,1,10,2.25,,a
flat,1,20,1.5,33,b
"""


def bring_in(path: Path, out: Path, **how: Any) -> None:
    reading = Reading(**how)
    recordings = read_recordings(path, keys=reading.keys)
    write_elsewhere(plan_import(recordings, reading, source=path, out=out), study=None if reading.arm is None else out)


@pytest.mark.filterwarnings("ignore")  # of MLflow's
@pytest.mark.parametrize("kind", ["trackio", "mlflow"])
def test_what_was_sent_to_a_tracker_compares_as_before_when_it_is_brought_back(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(kind, reason="pip install 'lrlab[trackers]'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    if kind == "trackio":
        monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path / "trackio")
        monkeypatch.setattr("trackio.utils.TRACKIO_DIR", tmp_path / "trackio")
    Path("made.toml").write_text(STUDY)
    assert main(["study", "made.toml"]) == 0
    assert main(["track", "runs/made", "--to", kind]) == 0
    source = {"trackio": "trackio/made.db", "mlflow": "mlflow.db"}[kind]
    assert main(["import", source, "--out", "runs/back", "--arm", "schedule.name"]) == 0
    ours, theirs = (compare_runs(sorted(find_runs(Path("runs") / name), key=str)) for name in ("made", "back"))
    assert [(arm.name, arm.values) for arm in ours.arms] == [(arm.name, arm.values) for arm in theirs.arms]
    (one,), (other,) = ours.differences, theirs.differences
    assert (one.mean, one.interval, one.p) == (other.mean, other.interval, other.p)
    assert other.differs_in == ["elsewhere.schedule.min_lr"]
    for run in find_runs(Path("runs/made")):
        back = read_run(Path("runs/back") / run.arm / f"seed{run.seed}")
        for column in ("train/loss", "lr/stem", "grad_l2/layer4"):
            np.testing.assert_array_equal(back.series(column), run.series(column))
    assert write_report(Path("runs/back")).exists()


def test_a_long_table_is_a_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log.csv").write_text(LONG)
    out = tmp_path / "study"
    command = ["import", str(tmp_path / "log.csv"), "--out", str(out), "--arm", "schedule", "--percent"]
    assert main([*command, "--json"]) == 0
    said = capsys.readouterr()
    assert [run["run"] for run in json.loads(said.out)["runs"]] == [
        str(out / arm / f"seed{seed}") for arm in ("cosine", "flat") for seed in (0, 1)
    ]
    assert "val_acc as validation accuracy, train_loss as training loss" in said.err
    run = read_run(out / "cosine" / "seed1")
    assert (run.study, run.arm, run.seed, run.evaluated_split) == ("study", "cosine", 1, "validation")
    assert [values.tolist() for values in run.series("train/loss")] == [[10, 20], [2.5, 1.0]]
    assert run.result == {"steps": 20, "validation_accuracy": pytest.approx(0.415)}
    found = compare_runs(find_runs(out))
    assert found.differences[0].mean == pytest.approx(-0.095)
    assert main(["runs", str(out)]) == 0  # of whose rates nothing is known
    assert all(line.split()[3] == "-" for line in capsys.readouterr().out.splitlines()[2:])


def test_one_run_is_replayed_as_its_table_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    losses = 2 * 0.99 ** np.arange(300)
    table = "step,loss\n" + "".join(f"{step},{loss}\n" for step, loss in enumerate(losses, 1))
    (tmp_path / "log.csv").write_text(table)
    assert main(["import", str(tmp_path / "log.csv"), "--out", str(tmp_path / "run"), "--seed", "3"]) == 0
    assert read_run(tmp_path / "run").seed == 3
    found = []
    for path in (tmp_path / "log.csv", tmp_path / "run"):
        how = ["--schedule", "slope", "--set", "schedule.window=50", "--figure", str(tmp_path / "a.png"), "--json"]
        capsys.readouterr()
        assert main(["replay", str(path), *how]) == 0
        found.append(json.loads(capsys.readouterr().out)["decisions"])
    assert found[0] == found[1] != []


def test_what_a_rule_decided_comes_with_the_rows_of_its_loop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    scheduler = SlopeLR(torch.optim.SGD([weight], lr=0.1), window=20, check_every=10)
    losses = (1.0 + 0.1 * np.random.default_rng(0).standard_normal(200)).tolist()
    for loss in losses:
        weight.grad = torch.zeros(1)
        scheduler.observe(loss)
        scheduler.optimizer.step()
        scheduler.step()
    decided = scheduler.take_decisions()
    (tmp_path / "log.csv").write_text("step,loss\n" + "".join(f"{n},{loss}\n" for n, loss in enumerate(losses, 1)))
    (tmp_path / "decided.jsonl").write_text("".join(json.dumps(decision) + "\n" for decision in decided))
    how = ["--out", str(tmp_path / "run"), "--seed", "0", "--decisions", str(tmp_path / "decided.jsonl")]
    assert main(["import", str(tmp_path / "log.csv"), *how]) == 0
    assert f"loss as training loss, {len(decided)} decisions" in " ".join(capsys.readouterr().out.split())
    found = read_run(tmp_path / "run").decisions()
    assert [one["decision"] for one in found] == [one["decision"] for one in decided]
    assert "decay" in {one["decision"] for one in found}
    assert main(["report", str(tmp_path / "run")]) == 0
    page = (tmp_path / "run" / "report.html").read_text()
    decays = [one["step"] for one in decided if one["decision"] == "decay"]
    assert (
        f"{len(decided)} decisions, {len(decays)} decay{'' if len(decays) == 1 else 's'} (at update {decays[0]}" in page
    )


KEPT = {"step": 10, "rule": "slope", "decision": "keep", "lr_before": [0.1], "lr_after": [0.1]}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["", json.dumps(KEPT)], "line 1: must be one decision of take_decisions"),
        ([json.dumps(KEPT), "{"], "line 2: must be one decision .* got '{'"),
        ([json.dumps([KEPT])], "line 1: must be one decision"),
        ([json.dumps({**KEPT, "step": "10"})], "line 1: must be one decision"),
        ([json.dumps({**KEPT, "lr_before": ["x"]})], "line 1: must be one decision"),
        ([json.dumps({**KEPT, "lr_before": [], "lr_after": []})], "line 1: must be one decision"),
        (
            [json.dumps(KEPT), json.dumps({**KEPT, "step": 5})],
            "line 2: decisions must be of one run, oldest first, but",
        ),
    ],
)
def test_what_are_no_decisions_is_said_and_nothing_is_written(lines: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("step,loss\n1,2.0\n")
    (tmp_path / "decided.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(RecordedError, match=message):
        bring_in(tmp_path / "log.csv", tmp_path / "out", seed="0", decisions=tmp_path / "decided.jsonl")
    with pytest.raises(RecordedError, match="--arm for several"):
        bring_in(tmp_path / "log.csv", tmp_path / "out", arm="seed", decisions=tmp_path / "decided.jsonl")
    with pytest.raises(RecordedError, match=r"missing\.jsonl: cannot be read"):
        bring_in(tmp_path / "log.csv", tmp_path / "out", seed="0", decisions=tmp_path / "missing.jsonl")
    assert not (tmp_path / "out").exists()


def test_one_run_whose_table_says_the_seed(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("seed,step,loss\n3,1,2.0\n3,2,1.5\n")
    bring_in(tmp_path / "log.csv", tmp_path / "run")
    run = read_run(tmp_path / "run")
    assert (run.seed, run.series("train/loss")[1].tolist()) == (3, [2.0, 1.5])
    (tmp_path / "two.csv").write_text("seed,step,loss\n3,1,2.0\n4,1,1.5\n")
    with pytest.raises(RecordedError, match=r"2 runs \(3, 4\). Name the setting"):
        bring_in(tmp_path / "two.csv", tmp_path / "runs")


def test_charts_of_weights_and_biases_have_a_column_for_each_run(tmp_path: Path) -> None:
    (tmp_path / "chart.csv").write_text(
        '"Step","cosine-1 - train/loss","cosine-1 - train/loss__MIN","cosine-1 - train/loss__MAX","flat - train/loss"\n'
        "1,2.5,2.5,2.5,\n2,2,2,2,3\n"
    )
    found = {one.name: one.series for one in read_recordings(tmp_path / "chart.csv")}
    assert [values.tolist() for values in found["cosine-1"]["train/loss"]] == [[1, 2], [2.5, 2]]
    assert [values.tolist() for values in found["flat"]["train/loss"]] == [[2], [3]]
    assert set(found["cosine-1"]) == {"train/loss"}
    (tmp_path / "top.csv").write_text('"Step","a-1 - top-1","b - top-1"\n1,0.5,0.25\n')
    bring_in(tmp_path / "top.csv", tmp_path / "out", arm="run", seed="0", accuracy="top-1")
    assert [(run.arm, run.result["test_accuracy"]) for run in find_runs(tmp_path / "out")] == [
        ("a-1", 0.5),
        ("b", 0.25),
    ]


def test_a_table_of_mlflows_has_a_row_for_each_run(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text(
        "run_id,tags.mlflow.runName,params.lr,params.seed,metrics.val_acc,metrics.loss\n"
        "a1,quick,0.1,0,0.5,1.5\na2,slow,0.01,0,0.6,1.25\n"
    )
    bring_in(tmp_path / "runs.csv", tmp_path / "out", arm="lr")
    runs = find_runs(tmp_path / "out")
    assert {run.arm: run.result["validation_accuracy"] for run in runs} == {"0.1": 0.5, "0.01": 0.6}
    assert {run.arm: run.config["elsewhere"] for run in runs}["0.1"] == {
        "run_id": "a1", "tags.mlflow.runName": "quick"
    }  # fmt: skip


def test_of_parquet(tmp_path: Path) -> None:
    rows = {"run_name": ["a", "a", "b"], "step": [1, 2, 1], "loss": [1.0, None, 3.0], "timestamp": ["x", "y", "z"]}
    pq.write_table(pa.table(rows), tmp_path / "project.parquet")
    found = {one.name: one.series["loss"] for one in read_recordings(tmp_path / "project.parquet")}
    assert {name: [values.tolist() for values in curve] for name, curve in found.items()} == {
        "a": [[1], [1.0]], "b": [[1], [3.0]]
    }  # fmt: skip


LIGHTNINGS = """\
epoch,step,train_loss,val_acc
0,1,2.0,
0,3,1.5,
0,3,,0.25
1,5,1.0,
1,7,0.5,
1,7,,0.75
"""
TRANSFORMERS = """\
loss,learning_rate,epoch,step,eval_accuracy
2.0,0.1,0.5,1,
1.5,0.1,1.0,3,
,,1.0,3,0.25
1.0,0.1,1.5,5,
0.5,0.1,2.0,7,
,,2.0,7,0.75
,,2.0,7,0.75
"""


@pytest.mark.parametrize("text", [LIGHTNINGS, TRANSFORMERS])
def test_rows_of_training_and_of_evaluation_may_share_a_step(text: str, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(text)
    bring_in(tmp_path / "log.csv", tmp_path / "run", seed="0")
    run = read_run(tmp_path / "run")
    assert [column.tolist() for column in run.series("train/loss")] == [[1, 3, 5, 7], [2.0, 1.5, 1.0, 0.5]]
    assert run.series("epoch")[0].tolist() == [1, 3, 5, 7]
    assert [(record["step"], record["accuracy"]) for record in run.evaluations()] == [(3, 0.25), (7, 0.75)]


def test_what_lightnings_loggers_wrote(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loggers = pytest.importorskip("lightning.pytorch.loggers", reason="pip install 'lrlab[lightning]'")
        for logger in (loggers.CSVLogger(tmp_path, "csv"), loggers.TensorBoardLogger(tmp_path, "events")):
            for step in range(1, 9):  # as its Trainer does, which adds the epoch to all that is logged
                logger.log_metrics({"train_loss": 1 / step, "epoch": step // 4}, step)
                if step % 4 == 0:
                    logger.log_metrics({"val_acc": step / 10, "epoch": step // 4}, step)
            logger.finalize("success")
    for number, source in enumerate([tmp_path / "csv" / "version_0" / "metrics.csv", tmp_path / "events"]):
        bring_in(source, tmp_path / f"run{number}", seed="0")
        run = read_run(tmp_path / f"run{number}")
        assert run.series("train/loss")[1].tolist() == pytest.approx([1 / step for step in range(1, 9)])
        assert [record["accuracy"] for record in run.evaluations()] == pytest.approx([0.4, 0.8])
        assert run.series("epoch")[1].tolist() == [0, 0, 0, 1, 1, 1, 1, 2]


def test_a_curve_that_cannot_be_is_left_out_and_named(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("step,loss,seconds\n1,2,0.5\n2,1,0.6\n2,,0.7\n")
    with pytest.warns(UserWarning, match="log.csv: the steps of 'seconds' must rise"):
        bring_in(tmp_path / "log.csv", tmp_path / "run", seed="0")
    assert read_run(tmp_path / "run").columns == ("step", "train/loss")


def test_folders_of_tensorboards_are_runs(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    for name in ("one", "two"):
        with SummaryWriter(str(tmp_path / "logs" / name)) as writer:
            writer.add_scalar("loss", 0.5, 1)
            writer.add_text("about", "no number", 1)
    assert [(one.name, list(one.series)) for one in read_recordings(tmp_path / "logs")] == [
        ("one", ["loss"]), ("two", ["loss"])
    ]  # fmt: skip


def test_settings_in_which_the_runs_of_an_arm_differ_are_not_the_arms(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(
        "arm,seed,params.lr,params.folder,step,val_acc\na,0,0.1,x,1,0.5\na,1,0.1,y,1,0.6\nb,0,0.2,x,1,0.5\nb,1,0.2,x,1,0.6\n"
    )
    bring_in(tmp_path / "log.csv", tmp_path / "out", arm="arm")
    one, *_, last = find_runs(tmp_path / "out")
    assert one.config["elsewhere"] == {"lr": "0.1"}
    assert one.info["elsewhere"]["settings_of_this_run"] == {"arm": "a", "seed": "0", "folder": "x"}
    assert last.config["elsewhere"] == {"lr": "0.2", "folder": "x"}
    compare_runs(find_runs(tmp_path / "out"))


@pytest.mark.parametrize("arm", ["opt", "config.opt"])
def test_a_setting_goes_by_its_name_with_its_prefix_and_without(tmp_path: Path, arm: str) -> None:
    (tmp_path / "log.csv").write_text("config.opt,step,loss\na,1,1.5\nb,1,2.5\n")
    bring_in(tmp_path / "log.csv", tmp_path / "out", arm=arm, seed="0")
    assert [run.arm for run in find_runs(tmp_path / "out")] == ["a", "b"]


def test_rows_without_a_step_are_said_to_be_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log.csv").write_text("epoch,loss,acc\n1,1.5,0.3\n2,1.25,0.5\n")
    assert main(["import", str(tmp_path / "log.csv"), "--out", str(tmp_path / "out"), "--seed", "0"]) == 0
    out, _ = capsys.readouterr()
    assert "no column named step or the like holds the update, so the rows are counted" in out
    assert "other columns: acc, epoch. To use one of them, add --accuracy NAME or --loss NAME." in out
    assert read_run(tmp_path / "out").info["elsewhere"]["rows_counted"] is True


def test_runs_of_which_nothing_was_recorded_are_left_out_and_named(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("run,seed,step,loss\na,0,1,1.5\nfailed,1,,\nb,2,1,2.5\n")
    with pytest.warns(UserWarning, match="log.csv: left out, since no numbers were recorded in them: failed."):
        bring_in(tmp_path / "log.csv", tmp_path / "out", arm="run")
    assert [run.arm for run in find_runs(tmp_path / "out")] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "how", "message"),
    [
        ("loss\n1\n", {}, "no setting 'seed' holds its seed. Add --seed N"),
        (LONG, {}, r"2 runs \(0, 1\). Name the setting"),
        (
            LONG,
            {"seed": "0"},
            "the steps of '.*' must rise. If there is more than one run in it, name what distinguishes them",
        ),
        (
            "opt,seed,step,loss\na,0,1,1\nb,0,1,2\na,1,1,1\nb,1,1,2\n",
            {},
            r"2 runs \(0, 1\). Name .* --arm: run, opt, seed.",
        ),
        ("opt,step,loss\na,1,1\nb,1,2\n", {"seed": "0"}, "distinguishes them with --arm or --seed: opt."),
        ("lr,step,loss\n1,1,1\n1,2,3\n2,1,2\n2,2,4\n", {"seed": "0"}, "distinguishes them with --arm or --seed: lr."),
        ("config.opt,step,loss\na,1,1\nb,1,2\n", {"seed": "0"}, "distinguishes them with --arm or --seed: opt."),
        ("config.opt,step,loss\na,1,1\nb,1,2\n", {"seed": "0", "arm": "op"}, "no setting 'op'. It has: opt."),
        (LONG, {"arm": "schedul"}, "no setting 'schedul'. It has: "),
        (LONG, {"arm": "schedule"}, "'val_acc' has 40.5. Add --percent if it is in per cent"),
        (LONG, {"arm": "schedule", "accuracy": "acc"}, "no quantity 'acc'. It has: train_loss, val_acc"),
        ("run,loss\na,1\nb,2\n", {}, r"2 runs \(a, b\). Name the setting that distinguishes the arms with --arm: run"),
        ("run,loss\na,1\nb,2\n", {"arm": "run"}, "run 'a': no setting 'seed'. It has: run"),
        ("run,seed,loss\na,x,1\nb,y,2\n", {"arm": "run"}, "its seed must be a whole number, got 'x'"),
        ("arm,seed,loss\na/b,0,1\na b,0,2\n", {"arm": "arm"}, "arms 'a/b' and 'a b' would have one folder, a-b"),
        (
            "arm,seed,loss\nAdam,0,1\nadam,0,2\n",
            {"arm": "arm"},
            "and 'adam' would have one folder, adam, on file systems",
        ),
        ("step,loss\n0.5,1\n1,2\n", {"seed": "0"}, "must be whole numbers from 0"),
        ("loss,loss\n1,2\n", {"seed": "0"}, "two columns are called 'loss'"),
        ("loss,metrics.loss\n1,2\n", {"seed": "0"}, "two columns are called 'loss'"),
        ("step,loss,train/loss\n1,5,9\n", {"seed": "0", "loss": "loss"}, "'loss' would become 'train/loss'"),
        ("run,step,loss\n", {"seed": "0"}, "there are no rows below the header"),
        (
            "step,loss,acc\n1,2,0.5\n2,1,nan\n",
            {"seed": "0", "accuracy": "acc"},
            "'acc' is not a number at step 2. If the",
        ),
        ("step,loss\n1,2\n", {"seed": "0", "accuracy": "loss"}, "'loss' cannot be both the loss and the accuracy"),
        ("step;loss\n1;2\n", {"seed": "0"}, "no numbers were recorded here. .* separated by commas"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_written(
    text: str, how: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(RecordedError, match=message):
        bring_in(tmp_path / "log.csv", tmp_path / "out", **how)
    assert not (tmp_path / "out").exists()


def test_runs_that_end_at_different_updates_are_warned_of(tmp_path: Path) -> None:
    rows = [
        (arm, seed, step) for arm in "ab" for seed in (0, 1) for step in (1, 2, 3) if (arm, seed, step) != ("b", 1, 3)
    ]
    lines = [f"{arm}{seed},{arm},{seed},{step},0.5" for arm, seed, step in rows]
    (tmp_path / "log.csv").write_text("\n".join(["run,opt,seed,step,accuracy", *lines, ""]))
    with pytest.warns(
        UserWarning, match="the longest runs have a last accuracy at update 3, but b1 at 2. If those were"
    ):
        bring_in(tmp_path / "log.csv", tmp_path / "out", arm="opt")


def test_two_runs_of_one_arm_and_seed_are_refused(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("run,arm,seed,loss\nfirst,a,0,1\nsecond,a,0,2\n")
    with pytest.raises(RunError, match="'first' and 'second' would both be .*seed0: runs of one arm need different"):
        bring_in(tmp_path / "log.csv", tmp_path / "out", arm="arm")
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("loss\n1\n")
    bring_in(tmp_path / "log.csv", tmp_path / "out", seed="0")
    with pytest.raises(RunError, match="is not empty. Choose another folder with --out"):
        bring_in(tmp_path / "log.csv", tmp_path / "out", seed="0")


def test_a_study_that_is_there_keeps_its_plan(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "study.toml").write_text("mine")
    (tmp_path / "log.csv").write_text("arm,seed,loss\na,0,1\n")
    with pytest.raises(RunError, match="is a study already. Choose another folder with --out"):
        bring_in(tmp_path / "log.csv", tmp_path / "runs", arm="arm")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["study.toml"]


def test_columns_without_a_value_are_not_taken_for_what_they_are_called(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("run,test_acc,val_acc,loss,train_loss\na,0.5,,1,\nb,,0.25,,3\n")
    bring_in(tmp_path / "log.csv", tmp_path / "out", arm="run", seed="0")
    a, b = find_runs(tmp_path / "out")
    assert (a.result["test_accuracy"], b.result["validation_accuracy"]) == (0.5, 0.25)
    assert [run.series("train/loss")[1].tolist() for run in (a, b)] == [[1], [3]]


def test_a_quantity_called_step_is_no_update(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("params.lr,metrics.lr,metrics.step,metrics.loss\n1,0.5,1.5,2\n")
    bring_in(tmp_path / "log.csv", tmp_path / "run", seed="0")
    run = read_run(tmp_path / "run")
    assert [values.tolist() for values in run.series("train/loss")] == [[1], [2]]
    assert run.series("recorded/step")[1].tolist() == [1.5]


def test_a_table_in_another_encoding_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes("step,loss,é\n1,2,3\n".encode("latin-1"))
    with pytest.raises(RecordedError, match="cannot be read as CSV"):
        bring_in(tmp_path / "log.csv", tmp_path / "run", seed="0")


def test_names_do_not_leave_the_folder(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("arm,seed,loss\n../../outside,0,1\n..,1,1\n")
    bring_in(tmp_path / "log.csv", tmp_path / "out", arm="arm")
    assert {run.arm for run in find_runs(tmp_path / "out")} == {"outside", "run"}


@pytest.mark.parametrize("verb", ["resume", "verify", "sharpness", "generalisation", "refine", "predict", "export"])
def test_what_needs_more_than_rows_says_that_it_was_made_elsewhere(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {"predict": ["photo.png"], "export": ["--format", "safetensors"]}.get(verb, [])
    (tmp_path / "log.csv").write_text("loss\n1\n")
    bring_in(tmp_path / "log.csv", tmp_path / "run", seed="0")
    assert main([verb, str(tmp_path / "run"), *more]) == 2
    assert "The run was imported, so how it was trained is not known" in capsys.readouterr().err


def test_what_is_no_database_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_text("no database, whatever it is called: " + "x" * 1000)
    with pytest.raises(RecordedError, match=r"a.db: cannot be read as a database \(file is not a database\)"):
        read_recordings(tmp_path / "a.db")


@pytest.mark.filterwarnings("ignore")  # of MLflow's
def test_of_a_folder_of_mlflows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="pip install 'lrlab[trackers]'")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())
    for experiment in ("first", "second"):
        number = client.create_experiment(experiment)
        run = client.create_run(number, run_name="only").info.run_id
        client.log_param(run, "lr", 0.1)
        for step in (1, 2):
            client.log_metric(run, "loss", step / 4, step=step)
        client.set_terminated(run, "FAILED")
        if experiment == "second":  # as a run of ours that was sent there says
            client.set_tag(run, "lrlab.status", "diverged")
    with pytest.raises(RecordedError, match="name one experiment with --project. Those with runs: "):
        read_recordings(tmp_path / "mlruns")
    (found,) = read_recordings(tmp_path / "mlruns", project="second")
    assert (found.name, found.settings) == ("only", {"lr": "0.1"})
    (other,) = read_recordings(tmp_path / "mlruns", project="first")
    assert (other.status, found.status) == ("failed", "diverged")
    assert [values.tolist() for values in found.series["loss"]] == [[1, 2], [0.25, 0.5]]
