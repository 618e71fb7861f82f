"""The plan of a study: arms times seeds on one base configuration."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from lrlab.config.parse import check, merge, parse_config, read_toml
from lrlab.config.parts import ConfigError, Part
from lrlab.config.run import RunConfig


def _is_folder_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", name):
        raise ValueError(
            f"{name!r} cannot name a folder: use up to 80 letters, digits, '.', '_', '-', the first no sign."
        )
    return name


FolderName = Annotated[str, AfterValidator(_is_folder_name)]


class StudyConfig(Part):
    """A study file as it is written."""

    name: FolderName
    """Name of the study and of its folder: letters, digits, '.', '_' and '-'."""
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    """Seeds; each arm is run once with each, and runs of one seed share weights, order and augmentation."""
    base: dict[str, Any] = Field(default_factory=dict)
    """Configuration that all runs have in common."""
    arms: Annotated[dict[FolderName, dict[str, Any]], Field(min_length=1)]
    """Name of an arm -> what its runs have besides, or instead."""

    def configs(self) -> dict[tuple[str, int], RunConfig]:
        """Return the configuration of each run by (arm, seed), seed by seed so that the arms advance together.

        Raises: ConfigError, naming the arm, for a configuration that cannot be.
        """
        found = {}
        for seed in self.seeds:
            for arm, table in self.arms.items():
                try:
                    found[arm, seed] = parse_config(merge(merge(self.base, table), {"seed": seed}))
                except ConfigError as error:
                    raise ConfigError("\n".join(f"arm '{arm}': {line}" for line in str(error).splitlines())) from None
        return found


def read_study(path: Path) -> StudyConfig:
    """Read a study file, and check every configuration in it.

    Raises: ConfigError with the file's name in each line.
    """
    table = read_toml(path)
    try:
        study = check(StudyConfig, table)
        _check_seeds(study)
        study.configs()
    except ConfigError as error:
        raise ConfigError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from None
    return study


def _check_seeds(study: StudyConfig) -> None:
    doubled = sorted({seed for seed in study.seeds if study.seeds.count(seed) > 1})
    if doubled:
        raise ConfigError(f"seeds: each must stand once, got {doubled} more than once.")
    if "seed" in study.base or any("seed" in table for table in study.arms.values()):
        raise ConfigError("seed: write it into 'seeds', not into the base or an arm, so that the arms stay paired.")
