"""Reads run directories."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from lrlab.config import read_toml
from lrlab.config.schedules import OWN_RATES
from lrlab.runs import rows, storage
from lrlab.runs.kinds import Config, DecisionLine, EvaluationLine, Info, fault
from lrlab.runs.lock import is_written
from lrlab.runs.rows import Series

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """One run as it stands on disk, whether it is over or not."""

    directory: Path
    info: Mapping[str, Any]
    """Content of run.json."""
    config: Mapping[str, Any]
    """Content of config.toml."""

    @property
    def status(self) -> str:
        """One of running, complete, preempted, diverged, failed."""
        return str(self.info["status"])

    @property
    def is_abandoned(self) -> bool:
        """Whether it says running and no process writes it: its own was killed, or this is a copy of the directory."""
        if self.status != "running" or is_written(self.directory):
            return False
        return bool(read_info(self.directory)["status"] == "running")  # it may have ended since it was read

    @property
    def result(self) -> Mapping[str, Any]:
        """Figures at the end: steps, epochs, test_accuracy, ...; empty before it."""
        return self.info.get("result") or {}

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return int(self.config["seed"])

    @property
    def base_lr(self) -> float | None:
        """Rate that its schedule multiplies or decays; None where it has rates of its own, or nothing is on record."""
        if self.config["schedule"]["name"] in OWN_RATES:
            return None
        found: float | None = self.config.get("optimizer", {}).get("lr")  # of a run made elsewhere nothing is known
        return found

    @property
    def num_ranks(self) -> int:
        """How many processes made its last updates together."""
        return int(self.info.get("engine", {}).get("ranks", 1))  # runs of an older lrlab do not say

    @property
    def num_ranks_in_turn(self) -> tuple[int, ...]:
        """How many processes made its updates together, of one number after the other where it went on with another."""
        return self._stretches("ranks", self.num_ranks)

    @property
    def precision(self) -> str:
        """Arithmetic of its updates, of one after the other where it went on in another; auto before it has begun."""
        last = {"precision": "fp32", **self.config.get("engine", {}), **self.info.get("engine", {})}["precision"]
        return " then ".join(self._stretches("precision", last))

    def _stretches(self, key: str, last: T) -> tuple[T, ...]:
        """A fact of its updates, in turn where it went on with another one, of those that are left."""
        stretches: list[tuple[int, T]] = []  # the update before each, and how it was made
        begun = 0
        for resume in self.info.get("resumed", []):
            if key in resume:  # runs of an older lrlab do not say
                stretches.append((begun, resume[key]))
            begun = resume["step"]
            stretches = [(before, made) for before, made in stretches if before < begun]
        return tuple(made for made, _ in groupby([*(made for _, made in stretches), last]))

    @property
    def lengthened(self) -> str:
        """How it was made longer than its rate was planned for, and where; empty for a run that was not."""
        resumed = self.info.get("resumed", [])
        longer = [f"{one['longer']} at update {one['step']}" for one in resumed if "longer" in one]
        return ", ".join(dict.fromkeys(longer))  # a process that is killed before it saves has it said again

    @property
    def place(self) -> Path:
        """Whole path, in which links stay what they are called."""
        return Path(os.path.abspath(self.directory))  # noqa: PTH100, since resolve() follows links

    @property
    def study(self) -> str | None:
        """Name of the study that it is a member of, None for a run by itself."""
        folder = self.place.parent.parent
        is_member = self.place.name == f"seed{self.seed}" and (folder / storage.STUDY).exists()
        return folder.name if is_member else None

    @property
    def arm(self) -> str:
        """What it and its like of other seeds are called: its study's arm, or its directory without -seed<k>."""
        if self.study is not None:
            return self.place.parent.name
        return re.sub(rf"[-_]?seed{self.seed}$", "", self.place.name) or self.place.name

    @property
    def evaluated_split(self) -> str:
        """What its evaluations are of: the test images, or those set aside for validation."""
        if storage.ELSEWHERE in self.info:
            return str(self.info[storage.ELSEWHERE]["split"])
        aside = self.info.get("data", {}).get("num_validation")  # images of one's own may come with some set aside
        if aside is None:  # it has not begun
            aside = self.config["data"].get("validation_fraction")
        return "validation" if aside else "test"

    @cached_property
    def num_measured(self) -> Mapping[str, int]:
        """Recorded quantity -> how often it was measured; nothing before the first rows are written."""
        counts: Counter[str] = Counter()
        for foot in self._feet:
            counts.update(foot.num_measured)
        return counts

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the recorded quantities, in order; none before the first rows are written."""
        return tuple(self.num_measured)

    @property
    def later_columns(self) -> frozenset[str]:
        """Those of the recorded quantities that were measured once the run was made: see `lrlab.runs.afterwards`."""
        later = [foot.num_measured for foot in self._feet if not storage.is_of_training(foot.part)]
        return frozenset(name for names in later for name in names) - {"step"}

    @property
    def last_step(self) -> int:
        """The last update on record, 0 if there is none."""
        return max((foot.last_step for foot in self._feet), default=0)

    def series(self, column: str) -> tuple[Series, Series]:
        """Return one quantity as (steps, values), at the steps where it was measured; a measured nan is one.

        Raises: RunError if the run has no such column.
        """
        return self.all_series([column])[column]

    def all_series(self, columns: Sequence[str]) -> dict[str, tuple[Series, Series]]:
        """Return several quantities, each as `series` does; the files are read once.

        Raises: RunError if the run has no such column.
        """
        missing = [column for column in columns if column not in self.columns]
        if missing:
            raise storage.RunError(f"{self.directory}: no column '{missing[0]}'. It has: {', '.join(self.columns)}.")
        return rows.read_series(self.directory, columns)

    def rows_after(self, step: int) -> list[dict[str, float]]:
        """Return the rows of the training beyond an update, oldest first: `step`, and what was measured there."""
        return rows.read_rows_after(self.directory, step)

    def evaluations(self) -> list[dict[str, Any]]:
        """Return the evaluations, oldest first.

        Raises: StorageError if one is damaged, or if that is not there which a complete run's result is of.
        """
        path = self.directory / storage.EVALUATIONS
        records = storage.read_json_lines(path, partial(fault, EvaluationLine), is_over=self._is_over)
        accuracy = self.result.get(f"{self.evaluated_split}_accuracy")
        if self.status == "complete" and accuracy is not None and not any(map(self._is_result, records)):
            raise storage.StorageError(
                f"{path}: incomplete, it lacks the evaluation behind the result, {accuracy:.2%} on the "
                f"{self.evaluated_split} images. Copy it again from the original run."
            )
        return records

    def _is_result(self, evaluation: Mapping[str, Any]) -> bool:
        """Whether the result of the run, which is complete, is of an evaluation."""
        key = "accuracy" if storage.ELSEWHERE in self.info else "step"  # there the last update may have had none
        wanted = self.result[f"{self.evaluated_split}_accuracy" if key == "accuracy" else "steps"]
        return bool(evaluation["split"] == self.evaluated_split and evaluation[key] == wanted)

    def decisions(self) -> list[dict[str, Any]]:
        """Return the schedulers' decisions, oldest first.

        Raises: StorageError if one is damaged.
        """
        path = self.directory / storage.DECISIONS
        return storage.read_json_lines(path, partial(fault, DecisionLine), is_over=self._is_over)

    @property
    def _is_over(self) -> bool:
        """Whether it has come to an end that it does not go on from as it is."""
        return self.status in ("complete", "diverged")

    @cached_property
    def _feet(self) -> list[rows.Foot]:
        return rows.read_feet(self.directory)


def read_run(directory: Path | str) -> Run:
    """Read a run directory.

    Raises: RunError if there is none, one of another format, or not all of one; ConfigError if its config.toml cannot
        be read.
    """
    directory = Path(directory)
    info, config = read_info(directory), read_toml(directory / storage.CONFIG)
    if problem := fault(Config, config):
        raise storage.RunError(f"{directory / storage.CONFIG}: damaged, {problem}.")
    return Run(directory, info, config)


def read_info(directory: Path) -> Mapping[str, Any]:
    """Read run.json alone, which is there from the first moment of a run to the last of its directory.

    Raises: RunError if there is none, one of another format, or a damaged one; StorageError if it may not be read.
    """
    with storage.storage_errors(directory):
        try:
            content = storage.read_file(directory / storage.INFO)
        except (FileNotFoundError, NotADirectoryError):
            if (directory / storage.INFO).is_symlink():
                raise storage.RunError(f"{directory / storage.INFO}: damaged, a broken link.") from None
            what = f"holds no run: there is no {storage.INFO} in it" if directory.exists() else "does not exist"
            if (directory / storage.STUDY).exists():
                what = "is a study, not a run: name one of its runs, or continue it with lrlab study"
            raise storage.RunError(f"{directory} {what}. lrlab runs lists what there is.") from None
    try:
        info = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise storage.RunError(f"{directory / storage.INFO}: damaged ({error}).") from error
    if not isinstance(info, dict):
        raise storage.RunError(f"{directory / storage.INFO}: damaged, it must be a JSON object.")
    if info.get("format_version") != storage.FORMAT_VERSION:
        raise storage.RunError(
            f"{directory}: its format_version is {info.get('format_version')}, this lrlab reads "
            f"{storage.FORMAT_VERSION}. Use the lrlab that wrote it."
        )
    if info.get("status") not in storage.STATUSES:
        among = ", ".join(storage.STATUSES)
        raise storage.RunError(f"{directory / storage.INFO}: damaged, its status must be one of {among}.")
    if problem := fault(Info, info):
        raise storage.RunError(f"{directory / storage.INFO}: damaged, {problem}.")
    return info
