"""What is read from a run directory is what was written, or an error in one line that names the file."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lrlab.config import ConfigError, parse_config, read_toml
from lrlab.report import write_report
from lrlab.runs import Run, RunError, RunWriter, StorageError, find_runs, list_runs, read_run
from lrlab.runs.rows import read_feet, read_part, write_part

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x02\x00\x00\x00\x03" + b"\x00" * 8
GROUPS = ("stem", "layer1", "layer2")
Spoil = Callable[[dict[str, Any]], object]


def write_run(directory: Path) -> Path:
    """A complete run of 20 updates, evaluated at 10 and at 20."""
    generator, steps = np.random.default_rng(0), np.arange(1, 21)
    with RunWriter(directory, parse_config({"steps": 20})) as writer:
        writer.describe(data={"num_validation": 0, "digest": {"test": "ab"}}, engine={"precision": "fp32", "ranks": 1})
        rows = {f"{what}/{group}": generator.normal(size=20) for what in ("lr", "grad_l2") for group in GROUPS}
        writer.write_rows({"step": steps, "train/loss": generator.normal(size=20).astype(np.float32), **rows})
        for step, accuracy in ((10, 0.25), (20, 0.75)):
            writer.write_evaluation({"step": step, "split": "test", "loss": 1.0, "accuracy": accuracy}, png=PNG)
        writer.write_decisions([{"step": 10, "decision": "keep", "lr_before": [0.1], "lr_after": [0.1]}])
        writer.finish("complete", {"steps": 20, "test_accuracy": 0.75})
    return directory


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


def part_of(run: Path) -> Path:
    return run / "metrics" / "part-000000001.parquet"


def everything(run: Path) -> dict[str, Any]:
    made = read_run(run)
    series = {name: [pair.tolist() for pair in made.series(name)] for name in made.columns}
    return {"last": made.last_step, "num": dict(made.num_measured), **series}


def test_a_flipped_bit_in_the_rows_is_noticed_or_changes_nothing(run: Path) -> None:
    expected, content, chance = everything(run), part_of(run).read_bytes(), random.Random(0)
    num_noticed = 0
    for _ in range(200):
        damaged = bytearray(content)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        part_of(run).write_bytes(damaged)
        try:
            assert everything(run) == expected
        except StorageError as error:
            num_noticed += 1
            assert str(error).startswith(f"{part_of(run)}: ") and "\n" not in str(error)
    assert num_noticed > 100


def test_every_bit_of_what_a_part_says_of_itself_is_checked(run: Path) -> None:
    content = part_of(run).read_bytes()
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    for place in range(start, len(content) - 8, 7):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        part_of(run).write_bytes(damaged)
        with pytest.raises(
            StorageError, match=r"part-000000001.parquet: damaged \(its footer differs from what was written\)"
        ):
            read_part(part_of(run))


def test_other_programs_read_a_part_and_parts_without_checksums_are_read(run: Path) -> None:
    expected, table = everything(run), pq.read_table(part_of(run))
    assert table.num_rows == 20 and pq.read_table(part_of(run), page_checksum_verification=True).equals(table)
    pq.write_table(table, part_of(run), compression="zstd", use_dictionary=False)
    assert everything(run) == expected


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"step": [1, 2], "train/loss": ["0.5", "0.4"]}, "its column train/loss must hold numbers, and holds string"),
        ({"train/loss": [0.5, 0.4]}, "it must have a column step, and each column once"),
        ({"step": [1.0, 2.0]}, "its column step must hold integers, and holds double"),
        ({"step": [1, None]}, "its column step must have no nulls"),
    ],
)
def test_rows_are_numbers_at_steps(columns: dict[str, Any], message: str, run: Path) -> None:
    write_part(run / "metrics" / "sharpness.parquet", pa.table({"step": [20], "hessian_max/whole": [1.0]}))
    write_part(part_of(run), pa.table(columns))
    with pytest.raises(StorageError, match=rf"part-000000001.parquet: damaged \({message}"):
        read_run(run).all_series(["step", "hessian_max/whole"])


def replaced(key: str, value: Any) -> Spoil:
    *parents, last = key.split(".")

    def spoil(info: dict[str, Any]) -> None:
        for parent in parents:
            info = info[parent]
        info[last] = value

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (replaced("data", None), "data must be a table, got None"),
        (replaced("data", "digits"), "data must be a table, got 'digits'"),
        (replaced("data.digest", "ab"), "data.digest must be a table"),
        (replaced("result", "x"), "result must be a table"),
        (replaced("result.steps", "20"), "result.steps must be an integer, got '20'"),
        (replaced("result.test_accuracy", "0.75"), "result.test_accuracy must be a number"),
        (replaced("engine", []), "engine must be a table"),
        (replaced("engine.precision", 32), "engine.precision must be a string, got 32"),
        (replaced("engine.ranks", "two"), "engine.ranks must be an integer"),
        (replaced("environment", 3), "environment must be a table"),
        (replaced("environment.command", "lrlab train"), "environment.command must be a list"),
        (replaced("resumed", 1), "resumed must be a list"),
        (replaced("resumed", [{}]), "resumed.0.step must be there"),
        (lambda info: info.pop("environment"), "environment must be there"),
    ],
)
def test_a_run_json_of_another_shape_is_refused_by_name_and_leaves_other_runs_alone(
    spoil: Spoil, message: str, run: Path
) -> None:
    write_run(run.parent / "other")
    info = json.loads((run / "run.json").read_text())
    spoil(info)
    (run / "run.json").write_text(json.dumps(info))
    with pytest.raises(RunError, match=rf"run/run.json: damaged, {message}"):
        read_run(run)
    with pytest.warns(UserWarning, match="left out"):
        assert [one.directory.name for one in list_runs(run.parent)] == ["other"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[model]", "[models]", "model must be there"),
        ("lr = 0.001", "lr = 'x'", "optimizer.lr must be a number, got 'x'"),
        ("seed = 0", "seed = true", "seed must be an integer, got True"),
    ],
)
def test_a_configuration_of_another_shape_is_refused_by_name(old: str, new: str, message: str, run: Path) -> None:
    text = (run / "config.toml").read_text()
    assert old in text
    (run / "config.toml").write_text(text.replace(old, new))
    with pytest.raises(RunError, match=f"run/config.toml: damaged, {message}"):
        read_run(run)


@pytest.mark.parametrize("value", ["[" * 3000, "1" * 5001], ids=["brackets", "digits"])
def test_toml_that_is_too_much_for_its_reader_is_no_toml(value: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(f"seed = {value}\n")
    with pytest.raises(ConfigError, match="config.toml: not valid TOML"):
        read_toml(tmp_path / "config.toml")


@pytest.mark.parametrize("kept", [0, 1, 1.5])
def test_a_complete_run_without_the_evaluation_of_its_result_is_incomplete(kept: float, run: Path) -> None:
    content = (run / "evaluations.jsonl").read_bytes()
    (run / "evaluations.jsonl").write_bytes(content[: int(len(content) * kept / 2)])
    with pytest.raises(StorageError, match=r"evaluations.jsonl: incomplete"):
        read_run(run).evaluations()


def test_evaluations_that_lead_nowhere_or_are_gone_are_an_error(run: Path) -> None:
    path = run / "evaluations.jsonl"
    path.unlink()
    with pytest.raises(StorageError, match=r"evaluations.jsonl: incomplete, it lacks the evaluation .* 75.00% on the"):
        read_run(run).evaluations()
    for target in (path, run / "nowhere"):
        path.symlink_to(target)
        with pytest.raises(StorageError, match=r"evaluations.jsonl: "):
            read_run(run).evaluations()
        path.unlink()


@pytest.mark.parametrize("line", ['{"step": 50}', "[1]", "[" * 100_000, '{"step": "x"}', "null"])
@pytest.mark.parametrize("name", ["evaluations", "decisions"])
def test_a_line_of_another_shape_is_named_with_its_number(name: str, line: str, run: Path) -> None:
    path = run / f"{name}.jsonl"
    path.write_text(path.read_text() + line + "\n")
    number = len(path.read_text().splitlines())
    with pytest.raises(StorageError, match=rf"{name}.jsonl, line {number}: damaged, ") as caught:
        getattr(read_run(run), name)()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["figures", "confusion", "metrics", "checkpoints", "evaluations.jsonl", "events"])
def test_nothing_is_written_through_a_link_out_of_a_run(name: str, run: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    linked = next(path for path in run.iterdir() if path.name.startswith(name))
    linked.rename(elsewhere)
    linked.symlink_to(elsewhere)
    files = [elsewhere, *elsewhere.glob("*")]
    before = [(path, path.stat().st_size) for path in files]
    with pytest.raises(StorageError, match="must not be a link"):
        RunWriter(run, parse_config({"steps": 30}), resumes=True)
    if name == "figures":
        with pytest.raises(StorageError, match="run/figures: must not be a link"):
            write_report(run)
    else:
        write_report(run)  # it writes nothing but figures and the page
    assert [(path, path.stat().st_size) for path in [elsewhere, *elsewhere.glob("*")]] == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter every folder")
def test_a_folder_that_may_not_be_entered_hides_no_run(run: Path) -> None:
    closed = run.parent / "lost+found"
    closed.mkdir(mode=0)
    with pytest.warns(UserWarning, match="left out: .*lost.found: Permission denied"):
        assert [one.directory for one in list_runs(run.parent)] == [run]
    with pytest.raises(StorageError, match="lost.found/run.json: Permission denied"):
        find_runs(closed)
    closed.chmod(0o700)


def test_rows_may_be_none(tmp_path: Path) -> None:
    part = tmp_path / "metrics" / "part-000000001.parquet"
    part.parent.mkdir()
    write_part(part, pa.table({"step": pa.array([], pa.int64()), "train/loss": pa.array([], pa.float32())}))
    (foot,) = read_feet(tmp_path)
    assert (dict(foot.num_measured), foot.last_step) == ({"step": 0, "train/loss": 0}, 0)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders there")
@pytest.mark.parametrize("name", ["run.json", "config.toml", "evaluations.jsonl", "metrics/part-000000001.parquet"])
def test_a_pipe_in_a_run_is_not_waited_for(name: str, run: Path) -> None:
    (run / name).unlink()
    os.mkfifo(run / name)

    def read(made: Run) -> None:
        made.evaluations()
        made.series("train/loss")

    with pytest.raises((StorageError, ConfigError), match="Not a regular file, but a pipe or a device"):
        read(read_run(run))


@pytest.mark.parametrize("target", ["run.json", "nowhere"])
def test_a_run_whose_run_json_leads_nowhere_is_warned_of(target: str, tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / "arm" / f"seed{seed}")
    spoilt = tmp_path / "arm" / "seed1" / "run.json"
    spoilt.unlink()
    spoilt.symlink_to(target)
    with pytest.warns(UserWarning, match=r"left out: .*seed1/run.json: "):
        assert len(list_runs(tmp_path)) == 1
    with pytest.raises((RunError, StorageError), match=r"seed1/run.json: "):
        find_runs(tmp_path)
