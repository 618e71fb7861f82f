"""Run directories to report on, written as a run writes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrlab.config import parse_config
from lrlab.runs import Run, RunWriter, Status, read_run

PNG = b"\x89PNG\r\n\x1a\n" + bytes(24)
"""As much of a picture as the writer looks at."""

CLASSES = ("cat", "dog")
CONFUSION = [[6, 2], [1, 11]]


def make_row(step: int, **values: float | None) -> dict[str, float | None]:
    """A row with the columns that every run has; further ones by name."""
    return {"step": step, "epoch": 1, "train/loss": 1.0, "lr/stem": 1e-3, **values}


def column(values: Sequence[float | None]) -> np.ma.MaskedArray[Any, Any]:
    """Values by row, masked where there is none."""
    return np.ma.array([0 if value is None else value for value in values], mask=[value is None for value in values])


def make_decision(step: int, name: str, *, before: float, after: float) -> dict[str, Any]:
    return {
        "step": step,
        "rule": "article",
        "mean_diff": -0.00012345,
        "num_losses": step,
        "threshold": 0.0005,
        "decision": name,
        "lr_before": [before, before],
        "lr_after": [after, after],
    }


def make_evaluation(step: int, confusion: Sequence[Sequence[int]] = CONFUSION, *, loss: float = 0.5) -> dict[str, Any]:
    counts = [sum(counts) for counts in confusion]
    correct = [counts[index] for index, counts in enumerate(confusion)]
    return {
        "step": step,
        "epoch": 1,
        "split": "test",
        "loss": loss,
        "accuracy": sum(correct) / sum(counts),
        "class_accuracy": [hits / count if count else None for hits, count in zip(correct, counts, strict=True)],
        "confusion": [list(counts) for counts in confusion],
        "mean_probabilities": [None] * len(counts),
    }


def write_run(
    directory: Path,
    *,
    rows: Sequence[Mapping[str, float | None]] = (),
    evaluations: Sequence[dict[str, Any]] = (),
    decisions: Sequence[dict[str, Any]] = (),
    classes: Sequence[str] = CLASSES,
    status: Status = "complete",
    config: Mapping[str, Any] | None = None,
    seed: int = 0,
    num_ranks: int = 1,
) -> Run:
    with RunWriter(directory, parse_config({"steps": 10, **(config or {}), "seed": seed})) as writer:
        engine = {"device": "cpu", "threads": 2, "ranks": num_ranks}
        writer.describe(data={"name": "digits", "classes": list(classes)}, engine=engine)
        if rows:
            writer.write_rows({name: column([row[name] for row in rows]) for name in rows[0]})
        for record in evaluations:
            writer.write_evaluation(record, png=PNG)
        writer.write_decisions(list(decisions))
        if status != "running":
            last = evaluations[-1]["accuracy"] if evaluations else None
            steps = evaluations[-1]["step"] if evaluations else len(rows)
            result = {"steps": steps, "epochs": 0.5, "test_accuracy": last, "train_seconds": 75.0}
            writer.finish(status, {**result, "test_loss": None, "images_per_second": 1234.5})
    return read_run(directory)


@pytest.fixture(scope="session")
def row() -> Callable[..., dict[str, float | None]]:
    return make_row


@pytest.fixture(scope="session")
def decision() -> Callable[..., dict[str, Any]]:
    return make_decision


@pytest.fixture(scope="session")
def evaluation() -> Callable[..., dict[str, Any]]:
    return make_evaluation


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    """Write a run under a name, and read it."""

    def make(name: str = "trial", **content: Any) -> Run:
        return write_run(tmp_path / name, **content)

    return make


def write_study(folder: Path, arms: Mapping[str, Sequence[dict[str, Any]]]) -> list[Run]:
    """Write the runs of a study, given as arm -> content of its seeds from 0 on."""
    folder.mkdir()
    (folder / "study.toml").write_text(f"name = '{folder.name}'\n")
    return [
        write_run(folder / arm / f"seed{seed}", seed=seed, **content)
        for arm, contents in arms.items()
        for seed, content in enumerate(contents)
    ]


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., list[Run]]:
    """Write a study under a name, and read its runs."""

    def make(arms: Mapping[str, Sequence[dict[str, Any]]], *, name: str = "trials") -> list[Run]:
        return write_study(tmp_path / name, arms)

    return make


@pytest.fixture(scope="session")
def study_writer() -> Callable[..., list[Run]]:
    """What `make_study` does, in any folder and for as long as a session lasts."""
    return write_study
