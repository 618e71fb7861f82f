"""Runs to compare: in memory as they are read, and run directories written as a run writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lrlab.config import parse_config, to_table
from lrlab.runs import Run, RunWriter, Status, read_run

PNG = b"\x89PNG\r\n\x1a\n" + bytes(24)


def make_run(arm: str, seed: int, accuracy: float | None, *, status: Status = "complete", **config: Any) -> Run:
    """A run that belongs to no study, with no files behind it."""
    table = to_table(parse_config({"steps": 10, **config, "seed": seed}))
    result = {"test_accuracy": accuracy, "test_loss": None if accuracy is None else 1 - accuracy}
    return Run(Path("nowhere") / f"{arm}-seed{seed}", {"status": status, "result": result}, table)


def make_arms(arms: Mapping[str, Sequence[float]]) -> list[Run]:
    """One complete run for each value, its seed the place of it."""
    return [make_run(arm, seed, value) for arm, values in arms.items() for seed, value in enumerate(values)]


def evaluation(step: int, accuracy: float, **more: Any) -> dict[str, Any]:
    """What a run writes of an evaluation, half a second of training for each update."""
    return {
        "step": step, "epoch": 1, "split": "test", "loss": 1 - accuracy, "accuracy": accuracy, "seconds": step / 2,
        "evaluation_seconds": 0.1, "class_accuracy": [accuracy], "confusion": [[1]], "mean_probabilities": [None],
        **more,
    }  # fmt: skip


def write_run(
    directory: Path,
    accuracies: Sequence[float],
    *,
    seed: int,
    status: Status = "complete",
    every: int = 10,
    **config: Any,
) -> Run:
    """Write a run with an evaluation every so many updates, and read it."""
    evaluations = [evaluation(every * (index + 1), value) for index, value in enumerate(accuracies)]
    settings = parse_config({"steps": every * max(1, len(accuracies)), **config, "seed": seed})
    with RunWriter(directory, settings) as writer:
        writer.describe(data={"name": "digits", "classes": ["0", "1"], "num_train": 80, "num_test": 20})
        for record in evaluations:
            writer.write_evaluation(record, png=PNG)
        if status != "running":
            last = evaluations[-1] if evaluations else {}
            result = {
                "test_accuracy": last.get("accuracy"),
                "test_loss": last.get("loss"),
                "steps": last.get("step", 0),
            }
            writer.finish(status, {**result, "train_seconds": 5.0})
    return read_run(directory)


def write_study(
    folder: Path, arms: Mapping[str, Mapping[int, Any]], *, name: str = "trials", **config: Any
) -> list[Run]:
    """Write the runs of a study, given as arm -> seed -> accuracies, or a table with them, and read them."""
    (folder / name).mkdir()
    (folder / name / "study.toml").write_text(f"name = '{name}'\n")
    found = []
    for arm, members in arms.items():
        for seed, content in members.items():
            given = content if isinstance(content, dict) else {"accuracies": content}
            found.append(write_run(folder / name / arm / f"seed{seed}", seed=seed, **{**config, **given}))
    return found
