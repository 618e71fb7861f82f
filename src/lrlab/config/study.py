"""The plan of a study: arms times seeds on one base configuration, and how the arms' rates are found before it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from lrlab.config.files import read_toml
from lrlab.config.parse import check, merge, parse_config
from lrlab.config.parts import ConfigError, Fraction, Part, Positive, Seed
from lrlab.config.run import RunConfig
from lrlab.config.schedules import OWN_RATES


def _is_folder_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", name):
        raise ValueError(
            f"{name!r} cannot name a folder: use up to 80 letters, digits, '.', '_', '-', a letter or digit first."
        )
    return name


def _differ_by_more_than_case(arms: dict[str, Any]) -> dict[str, Any]:
    known: dict[str, str] = {}
    for arm in arms:
        if known.setdefault(arm.casefold(), arm) != arm:
            raise ValueError(
                f"arms '{known[arm.casefold()]}' and '{arm}' differ only in case, and some file systems would "
                "give them one folder; rename one."
            )
    return arms


FolderName = Annotated[str, AfterValidator(_is_folder_name)]
Seeds = Annotated[list[Seed], Field(min_length=1)]

TUNING = "tuning"
"""Folder of the runs by which rates are found, among those of the arms."""


class TuneConfig(Part):
    """How the rate of each arm is found before the study: every arm on the same grid, with the same seeds.

    A rate is as good as the accuracy, averaged over the seeds, on training images set aside. The test images are left
    alone.
    """

    rates: Annotated[list[Positive], Field(min_length=2)]
    """Values of optimizer.lr, each of which every arm is trained with."""
    seeds: Seeds
    """Seeds of these runs; the study itself may have none of them."""
    validation_fraction: Fraction = 0.1
    """Share of the training images set aside in these runs; the study itself trains on all of them."""


class StudyConfig(Part):
    """A study file as it is written."""

    name: FolderName
    """Name of the study and of its folder: letters, digits, '.', '_' and '-'."""
    seeds: Seeds
    """Seeds; each arm is run once with each, and runs of one seed share weights, order and augmentation."""
    base: dict[str, Any] = Field(default_factory=dict)
    """Configuration that all runs have in common."""
    arms: Annotated[dict[FolderName, dict[str, Any]], Field(min_length=1), AfterValidator(_differ_by_more_than_case)]
    """Name of an arm -> what its runs have besides, or instead; names differ by more than case."""
    tune: TuneConfig | None = None
    """How the rate of each arm is found before the study; without it, the base and the arms say which it is."""

    def configs(self, rates: Mapping[str, float] | None = None) -> dict[tuple[str, int], RunConfig]:
        """Return the configuration of each run by (arm, seed), seed by seed so that the arms advance together.

        Args:
            rates: optimizer.lr of each arm, where they are tuned.
        Raises: ConfigError for a configuration that cannot be; `problems` says which.
        """
        return {
            (arm, seed): self._config(arm, seed, rate=None if rates is None else rates[arm])
            for seed in self.seeds
            for arm in self.arms
        }

    def tuning_configs(self) -> dict[tuple[str, float, int], RunConfig]:
        """Return the configuration of each run by which rates are found, by (arm, rate, seed); none without [tune].

        Raises: ConfigError for a configuration that cannot be; `problems` says which.
        """
        if self.tune is None:
            return {}
        return {
            (arm, rate, seed): self._config(arm, seed, rate=rate, is_tuning=True)
            for seed in self.tune.seeds
            for rate in self.tune.rates
            for arm in self.arms
        }

    def problems(self) -> list[str]:
        """Say all that is wrong with the configurations of its runs, once for all the arms and rates where it is so."""
        rates = [None] if self.tune is None else self.tune.rates
        found: dict[str, dict[str, dict[float | None, None]]] = {}
        for arm, rate, is_tuning in product(self.arms, rates, (False, True)):
            try:
                self._config(arm, self.seeds[0], rate=rate, is_tuning=is_tuning)
            except ConfigError as error:
                for line in str(error).splitlines():
                    found.setdefault(line, {}).setdefault(arm, {})[rate] = None
        try:
            parse_config(merge(self.base, {"seed": self.seeds[0]}))
            of_base = []
        except ConfigError as error:
            of_base = [line for line in str(error).splitlines() if len(found.get(line, ())) == len(self.arms)]
        return [f"base: {line}" for line in of_base] + [
            ", ".join(
                f"arm '{arm}'" + (f" at optimizer.lr {', '.join(map(str, at))}" if len(at) < len(rates) else "")
                for arm, at in where.items()
            )
            + f": {line}"
            for line, where in found.items()
            if line not in of_base
        ]

    def _config(self, arm: str, seed: int, *, rate: float | None = None, is_tuning: bool = False) -> RunConfig:
        table = merge(merge(self.base, self.arms[arm]), {"seed": seed})
        if rate is not None:
            table = merge(table, {"optimizer": {"lr": rate}})
        if is_tuning and self.tune is not None:
            table = merge(table, {"data": {"validation_fraction": self.tune.validation_fraction}})
        config = parse_config(table)
        if rate is not None and config.schedule.name in OWN_RATES:
            raise ConfigError(
                f"schedule.name: [tune] chooses optimizer.lr, and {config.schedule.name} has rates of its own, so that "
                "its runs would all be the same. Leave [tune] out and make an arm of each schedule.max_lr, or take a "
                "schedule that multiplies optimizer.lr, as one_cycle does."
            )
        return config


def read_study(path: Path | str) -> StudyConfig:
    """Read a study file, and check every configuration in it.

    Raises: ConfigError with the file's name in each line.
    """
    table = read_toml(Path(path))
    if "arms" not in table and {"model", "optimizer", "schedule"} <= table.keys():
        raise ConfigError(f"{path}: this is the configuration of one run, without arms. Use lrlab train --config.")
    try:
        study = check(StudyConfig, table)
        _check_seeds(study)
        if study.tune is not None:
            _check_tune(study, study.tune)
        if problems := study.problems():
            raise ConfigError("\n".join(problems))
    except ConfigError as error:
        raise ConfigError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from None
    return study


def _check_seeds(study: StudyConfig) -> None:
    _check_once("seeds", study.seeds)
    if "seed" in study.base or any("seed" in table for table in study.arms.values()):
        raise ConfigError("seed: list it in 'seeds', not in the base or an arm, so that the arms stay paired.")


def _check_tune(study: StudyConfig, tune: TuneConfig) -> None:
    _check_once("tune.rates", tune.rates)
    _check_once("tune.seeds", tune.seeds)
    if shared := sorted({*study.seeds} & {*tune.seeds}):
        raise ConfigError(
            f"tune.seeds: must differ from the study's seeds, got {shared} in both. A rate tuned on a seed suits that "
            "seed; use others, as in tune.seeds = [1000]."
        )
    for arm in study.arms:
        if arm.casefold() == TUNING:  # some file systems do not tell their folders apart by case
            raise ConfigError(f"arm '{arm}': this name is reserved for the runs of [tune]; rename the arm.")
    tables = {"base": study.base, **{f"arm '{arm}'": table for arm, table in study.arms.items()}}
    for name, table in tables.items():
        for part, key, what in (
            ("optimizer", "lr", "[tune] chooses the rate of every arm"),
            ("data", "validation_fraction", "[tune] sets images aside itself, and the study trains on all of them"),
        ):
            if isinstance(table.get(part), dict) and key in table[part]:
                raise ConfigError(f"{name}: {part}.{key}: {what}; leave it out.")


def _check_once(name: str, values: Sequence[float]) -> None:
    doubled = sorted({value for value in values if values.count(value) > 1})
    if doubled:
        raise ConfigError(f"{name}: must not repeat a value, got {doubled} more than once.")
