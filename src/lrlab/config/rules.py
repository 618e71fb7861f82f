"""The rules by name: schedules that decide from what the run shows, with the defaults of `lrlab.schedulers`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from lrlab.config.parts import Count, Fraction, NotNegative, Part, Positive, Share, Whole

Level = Annotated[float, Field(gt=0, lt=0.5)]

_MOST_KEPT = 10_000_000


def _can_be_kept(number: int, info: ValidationInfo) -> int:
    if number > _MOST_KEPT:
        raise ValueError(
            f"schedule.{info.field_name}: must be at most {_MOST_KEPT:,}, got {number}: so many values are kept in "
            "memory and in checkpoints. For a constant rate, use schedule.name = 'constant'."
        )
    return number


Stretch = Annotated[Count, AfterValidator(_can_be_kept)]
"""Updates whose losses, or samples, are kept until a rule looks at them."""


class ArticleSchedule(Part):
    """Decay once the mean change of the loss is small against the rate: the article's rule."""

    name: Literal["article"] = "article"
    """Name of the schedule."""
    multiplier: Positive = 0.5
    """Decay when |mean(diff(losses))| <= multiplier * lr."""
    check_every: Stretch = 1000
    """Updates between two looks at the rule."""
    factor: Fraction = 0.1
    """The rate is multiplied by this at a decay."""
    min_lr: NotNegative = 1e-6
    """The rate never goes below this."""
    reset_optimizer: bool = True
    """Forget the optimizer's state (Adam's moments) at a decay, as the article did by building it anew."""


class SlopeSchedule(Part):
    """Decay once the losses of a window show that the loss falls no longer."""

    name: Literal["slope"] = "slope"
    """Name of the schedule."""
    test: Literal["t", "dlib"] = "t"
    """Student's t with a standard error corrected for autocorrelation, or dlib's rule exactly."""
    window: Annotated[int, Field(ge=10), AfterValidator(_can_be_kept)] = 1000
    """Losses that are looked at."""
    check_every: Stretch | None = None
    """Updates between two looks (a quarter of the window where it is left out; not for dlib)."""
    level: Level | None = None
    """Share of the windows of a flat loss that make it decay (0.05 where it is left out; not for dlib)."""
    min_progress: Share | None = None
    """Share of the loss that must be gained in a window (0 where it is left out; not for dlib)."""
    forget: Count | None = None
    """Oldest losses that are forgotten at a decay (all where it is left out; not for dlib)."""
    factor: Fraction = 0.1
    """The rate is multiplied by this at a decay."""
    min_lr: NotNegative = 1e-6
    """The rate never goes below this."""

    @model_validator(mode="after")
    def _is_a_rule(self) -> Self:
        ours = ("check_every", "level", "min_progress", "forget")
        if self.test == "dlib" and (given := [name for name in ours if getattr(self, name) is not None]):
            raise ValueError(f"schedule.{given[0]}: it is fixed by schedule.test = 'dlib'; leave the key out.")
        if self.check_every is not None and self.check_every > self.window:
            raise ValueError(
                f"schedule.check_every must be at most schedule.window, got {self.check_every} and {self.window}."
            )
        return self


class SnrSchedule(Part):
    """Decay once Adam's moments show no signal above the noise."""

    name: Literal["snr"] = "snr"
    """Name of the schedule."""
    check_every: Stretch = 500
    """Updates between two looks; at least 5 samples."""
    sample_every: Count = 20
    """Updates between two samples of the moments."""
    min_signal: Share = 0.0
    """Share of the squared gradient that must be signal."""
    level: Level = 0.05
    """Of the t-test that there is such a signal."""
    factor: Fraction = 0.1
    """The rate is multiplied by this at a decay."""
    min_lr: NotNegative = 1e-6
    """The rate never goes below this."""

    @model_validator(mode="after")
    def _has_samples(self) -> Self:
        if self.check_every < 5 * self.sample_every:
            raise ValueError(
                f"schedule.check_every must be at least 5 * schedule.sample_every, got {self.check_every} and "
                f"{self.sample_every}."
            )
        return self


class StationaritySchedule(Part):
    """Decay once the weights' distance from zero drifts no longer."""

    name: Literal["stationarity"] = "stationarity"
    """Name of the schedule."""
    check_every: Stretch = 500
    """Updates between two looks; a multiple of sample_every."""
    sample_every: Count = 10
    """Updates between two measurements of the weights' norm."""
    min_samples: Annotated[int, Field(ge=20)] = 40
    """Stretches between measurements that must count before it decides."""
    leak_ratio: Count = 2
    """The latest 1 / leak_ratio of the stretches since the last decay count."""
    level: Fraction = 0.05
    """Of the t-test that there is a drift; with a larger one it decays later."""
    factor: Fraction = 0.1
    """The rate is multiplied by this at a decay."""
    min_lr: NotNegative = 1e-6
    """The rate never goes below this."""

    @model_validator(mode="after")
    def _has_whole_stretches(self) -> Self:
        if self.check_every % self.sample_every:
            raise ValueError(
                f"schedule.check_every must be a multiple of schedule.sample_every, got {self.check_every} and "
                f"{self.sample_every}."
            )
        return self


class GreedySchedule(Part):
    """Raise the rate while the loss gets better, and lower it while it does not."""

    name: Literal["greedy"] = "greedy"
    """Name of the schedule."""
    check_every: Stretch = 100
    """Updates in one stretch, whose mean loss is compared."""
    factor: Fraction = 0.95
    """The rate is multiplied by this at a decay and divided by it at a raise."""
    patience: Whole = 10
    """Stretches in a row, good or bad, that are let pass."""
    threshold: NotNegative = 1e-6
    """By which a mean loss must be below the best."""
    threshold_mode: Literal["abs", "rel"] = "abs"
    """Whether the threshold is a loss, or a share of the best."""
    cooldown: Whole = 0
    """Stretches after a decay in which nothing is counted."""
    warmup: Whole = 0
    """Stretches after a raise in which nothing is counted."""
    min_lr: NotNegative = 1e-6
    """The rate never goes below this."""
    max_lr: Positive | None = None
    """The rate never goes above this (the base rate where it is left out)."""
    reset_start: Count = 500
    """Decays at the floor after which it starts anew from the base rate."""


class PlateauSchedule(Part):
    """Decay once the mean loss of a stretch has not been below the best for some time: torch's ReduceLROnPlateau."""

    name: Literal["plateau"] = "plateau"
    """Name of the schedule."""
    check_every: Stretch = 1000
    """Updates in one stretch, whose mean loss is compared."""
    factor: Fraction = 0.1
    """The rate is multiplied by this at a decay."""
    patience: Whole = 10
    """Stretches without progress that are let pass."""
    threshold: NotNegative = 1e-4
    """By which a mean loss must be below the best."""
    threshold_mode: Literal["rel", "abs"] = "rel"
    """Whether the threshold is a share of the best, or a loss."""
    cooldown: Whole = 0
    """Stretches after a decay in which nothing is counted."""
    min_lr: NotNegative = 0.0
    """The rate never goes below this."""
