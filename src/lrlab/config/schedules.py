"""The schedules by name, each with its own keys: functions of the step here, those that listen in rules.py."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from lrlab.config.parts import Count, Fraction, NotNegative, Part, unknown
from lrlab.config.rules import (
    ArticleSchedule,
    GreedySchedule,
    PlateauSchedule,
    SlopeSchedule,
    SnrSchedule,
    StationaritySchedule,
)


def _is_class_name(name: str) -> str:
    if not re.fullmatch(r"torch:[A-Za-z]+", name):
        raise ValueError(f"schedule.name: must be torch:<Class>, as in torch:StepLR, got {name!r}.")
    return name


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return isinstance(value, bool | str | int) or (isinstance(value, float) and math.isfinite(value))


class ConstantSchedule(Part):
    """The base rate throughout."""

    name: Literal["constant"] = "constant"
    """Name of the schedule."""


class StepSchedule(Part):
    """Multiply the rate by a factor at regular intervals."""

    name: Literal["step"] = "step"
    """Name of the schedule."""
    step_size: Count = 1000
    """Updates between two decays."""
    factor: Fraction = 0.1
    """The rate is multiplied by this at a decay."""


class CosineSchedule(Part):
    """Half a cosine from the base rate to the least one, over the whole run."""

    name: Literal["cosine"] = "cosine"
    """Name of the schedule."""
    min_lr: NotNegative = 0.0
    """Rate at the end of the run."""


class LinearSchedule(Part):
    """A straight line from the base rate to the least one, over the whole run."""

    name: Literal["linear"] = "linear"
    """Name of the schedule."""
    min_lr: NotNegative = 0.0
    """Rate at the end of the run."""


class WsdSchedule(Part):
    """Warm-up, stable, decay: up in a line, constant, and down at the end."""

    name: Literal["wsd"] = "wsd"
    """Name of the schedule."""
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """Share of the run's updates spent rising to the base rate."""
    cooldown_fraction: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of the run's updates spent falling at the end."""
    cooldown_shape: Literal["1-sqrt", "linear", "cosine"] = "1-sqrt"
    """How the rate falls."""
    min_lr: NotNegative = 0.0
    """Rate at the end of the run."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.warmup_fraction + self.cooldown_fraction > 1:
            raise ValueError(
                "schedule: warmup_fraction + cooldown_fraction must be at most 1, "
                f"got {self.warmup_fraction} + {self.cooldown_fraction}."
            )
        return self


class OneCycleSchedule(Part):
    """Up by a cosine to the base rate, then down by a cosine to far below where it started."""

    name: Literal["one_cycle"] = "one_cycle"
    """Name of the schedule."""
    warmup_fraction: Fraction = 0.3
    """Share of the run's updates spent rising (pct_start in PyTorch's OneCycleLR)."""
    div_factor: Annotated[float, Field(ge=1)] = 25.0
    """The rate starts at the base rate divided by this."""
    final_div_factor: Annotated[float, Field(ge=1)] = 1e4
    """The rate ends at its start divided by this."""


class RefinedSchedule(Part):
    """The schedule that the gradients of an earlier run call for: `lrlab refine RUN` writes its table."""

    name: Literal["refined"] = "refined"
    """Name of the schedule."""
    multipliers: Annotated[tuple[NotNegative, ...], Field(strict=False)] = ()
    """Multipliers of the base rate, evenly spaced over the run; at least two."""

    @model_validator(mode="after")
    def _has_a_table(self) -> Self:
        if len(self.multipliers) < 2:
            raise ValueError(
                f"schedule.multipliers: needs at least two values, got {len(self.multipliers)}. "
                "lrlab refine RUN writes them: lrlab train --config RUN/refined.toml."
            )
        return self


class TorchSchedule(Part):
    """A scheduler of torch.optim.lr_scheduler, by its class name; its arguments are further keys."""

    model_config = ConfigDict(extra="allow")

    name: Annotated[str, AfterValidator(_is_class_name)]
    """torch:<Class>, as in torch:StepLR. Its arguments count updates, not epochs."""

    @model_validator(mode="after")
    def _arguments_fit_into_a_file(self) -> Self:
        for key, value in (self.model_extra or {}).items():
            if not _is_plain(value):
                raise ValueError(
                    f"schedule.{key}: must be a finite number, a string, true, false or a list of these, got {value!r}."
                )
        return self


SCHEDULES: Mapping[str, type[BaseModel]] = {
    "article": ArticleSchedule,
    "slope": SlopeSchedule,
    "snr": SnrSchedule,
    "stationarity": StationaritySchedule,
    "greedy": GreedySchedule,
    "plateau": PlateauSchedule,
    "constant": ConstantSchedule,
    "step": StepSchedule,
    "cosine": CosineSchedule,
    "linear": LinearSchedule,
    "wsd": WsdSchedule,
    "one_cycle": OneCycleSchedule,
    "refined": RefinedSchedule,
}


OVER_THE_RUN = frozenset({"cosine", "linear", "wsd", "one_cycle", "refined"})
"""Schedules whose rate at an update depends on how many there are to be."""


OWN_RATES = frozenset({"torch:OneCycleLR", "torch:CyclicLR"})
"""Schedules whose rates are keys of their own, so that optimizer.lr changes nothing."""


DEFAULT_SCHEDULE = "article"
"""Of a configuration that names none."""


def schedule_tag(value: Any) -> str:
    """Return which entry of the union a table is of: its name, or torch for any of torch's own."""
    name = str(value.get("name", DEFAULT_SCHEDULE) if isinstance(value, Mapping) else value.name)
    return "torch" if name.startswith("torch:") else name


def _known_schedule(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value
    if not isinstance(value, Mapping):
        raise ValueError(f"schedule: must be a table, as in schedule.name = 'cosine', got {value!r}.")
    tag = schedule_tag(value)
    if tag != "torch" and tag not in SCHEDULES:
        raise ValueError(unknown("schedule", tag, [*SCHEDULES, "torch:<Class>"]))
    return value


ScheduleConfig = Annotated[
    Annotated[ArticleSchedule, Tag("article")]
    | Annotated[SlopeSchedule, Tag("slope")]
    | Annotated[SnrSchedule, Tag("snr")]
    | Annotated[StationaritySchedule, Tag("stationarity")]
    | Annotated[GreedySchedule, Tag("greedy")]
    | Annotated[PlateauSchedule, Tag("plateau")]
    | Annotated[ConstantSchedule, Tag("constant")]
    | Annotated[StepSchedule, Tag("step")]
    | Annotated[CosineSchedule, Tag("cosine")]
    | Annotated[LinearSchedule, Tag("linear")]
    | Annotated[WsdSchedule, Tag("wsd")]
    | Annotated[OneCycleSchedule, Tag("one_cycle")]
    | Annotated[RefinedSchedule, Tag("refined")]
    | Annotated[TorchSchedule, Tag("torch")],
    Discriminator(schedule_tag),
    BeforeValidator(_known_schedule),
]
