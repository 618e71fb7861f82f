"""What is put around a schedule: a warm-up and a cooldown, and rates per layer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, Discriminator, Field, Tag, model_validator

from lrlab.config.parts import Count, NotNegative, Part, Positive, Share, Whole


class PhasesConfig(Part):
    """A warm-up before the schedule, and a cooldown after it that ends with the run; neither unless asked for.

    Each is given in updates or as a share of the run's updates.
    """

    warmup_steps: Whole | None = None
    """Updates spent rising in a line to the base rate."""
    warmup_fraction: Share | None = None
    """The same, as a share of the run."""
    cooldown_steps: Whole | None = None
    """Updates spent falling at the end, from where the schedule has brought the rate."""
    cooldown_fraction: Annotated[float, Field(ge=0, le=1)] | None = None
    """The same, as a share of the run."""
    cooldown_shape: Literal["1-sqrt", "linear", "cosine"] = "1-sqrt"
    """How the rate falls."""
    end: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the rate that is left at the end of the cooldown."""

    @model_validator(mode="after")
    def _one_length_each(self) -> Self:
        for phase in ("warmup", "cooldown"):
            steps, fraction = getattr(self, f"{phase}_steps"), getattr(self, f"{phase}_fraction")
            if steps is not None and fraction is not None:
                raise ValueError(
                    f"phases: give {phase}_steps or {phase}_fraction, not both: got {steps} and {fraction}."
                )
        if (self.warmup_fraction or 0) + (self.cooldown_fraction or 0) > 1:
            raise ValueError(
                "phases: warmup_fraction + cooldown_fraction must be at most 1, "
                f"got {self.warmup_fraction} + {self.cooldown_fraction}."
            )
        return self

    def lengths(self, num_steps: int) -> tuple[int, int]:
        """Return the updates of the warm-up and of the cooldown in a run of `num_steps`."""
        warmup = self._length(self.warmup_steps, self.warmup_fraction, num_steps)
        cooldown = self._length(self.cooldown_steps, self.cooldown_fraction, num_steps)
        if self.warmup_steps is None and self.cooldown_steps is None:  # shares that fit may be one too long if rounded
            cooldown = min(cooldown, num_steps - warmup)
        return warmup, cooldown

    @staticmethod
    def _length(steps: int | None, fraction: float | None, num_steps: int) -> int:
        return steps if steps is not None else round((fraction or 0.0) * num_steps)


class PlannedRate(Part):
    """A multiplier of a group's rate that goes from one number to another over the run."""

    shape: Literal["linear", "cosine", "1-sqrt"] = "linear"
    """How it goes."""
    start: Positive
    """Multiplier at the first update."""
    end: NotNegative
    """Multiplier at the last."""


class MeasuredRate(Part):
    """A multiplier that is high where the group's gradient is weak, as measured, and fades to 1 as the rate decays."""

    measured: Literal["weak_gradients"]
    """What is measured: the root mean square of the gradient, beside that of the other groups that say so."""
    strength: Annotated[float, Field(ge=0, le=1)] = 0.5
    """0: all the same; 1: rate times gradient is the same in all groups."""
    every: Count = 100
    """Updates between two measurements."""
    memory: Share = 0.9
    """Share of the average that is kept at a measurement."""
    limit: Annotated[float, Field(ge=1)] = 10.0
    """No multiplier is above it, or below 1 / limit."""


def _is_pattern(name: str) -> str:
    try:
        re.compile(name)
    except (re.error, OverflowError) as error:
        raise ValueError(f"layer_rates: {name!r} is not a valid regular expression ({error}).") from error
    return name


Pattern = Annotated[str, AfterValidator(_is_pattern)]
"""Name of layer groups, or a regular expression for the whole of it."""


def _kind(value: Any) -> str:
    if not isinstance(value, Mapping | BaseModel):
        return "number"
    return "measured" if "measured" in (value if isinstance(value, Mapping) else vars(value)) else "planned"


LayerRate = Annotated[
    Annotated[NotNegative, Tag("number")]
    | Annotated[PlannedRate, Tag("planned")]
    | Annotated[MeasuredRate, Tag("measured")],
    Discriminator(_kind),
]
