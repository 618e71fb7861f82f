"""What the files of a run may hold, as far as something reads it; what is not named here is let be.

A field without a default must be there. One with a default may be absent, as it is from runs of an older lrlab and from
those made elsewhere, but not null unless its kind says so.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, ValidationError

ABSENT: Any = Field(default=None)


class _Kinds(BaseModel, strict=True):
    pass


class _Environment(_Kinds):
    command: list[str]
    packages: dict[str, str | None] = ABSENT
    torchrun: str = ABSENT


class _Data(_Kinds):
    name: str = ABSENT
    classes: list[str] = ABSENT
    num_train: int = ABSENT
    num_test: int = ABSENT
    num_validation: int | None = ABSENT
    image_shape: list[int] = ABSENT
    mean: list[float] = ABSENT
    std: list[float] = ABSENT
    digest: dict[str, str] = ABSENT


class _Engine(_Kinds):
    precision: str = ABSENT
    ranks: int = ABSENT
    threads: int = ABSENT
    num_parameters: int = ABSENT
    num_steps: int = ABSENT


class _Resumed(_Kinds):
    step: int
    precision: str = ABSENT
    ranks: int = ABSENT
    longer: str = ABSENT


class _Diverged(_Kinds):
    step: int = ABSENT
    message: str = ABSENT


class _Probe(_Kinds):
    accuracy: float


class _Generalisation(_Kinds):
    step: int = ABSENT
    split: str = ABSENT
    images: int = ABSENT
    linear_probe: _Probe | None = ABSENT


class _Elsewhere(_Kinds):
    split: str


class _Result(_Kinds):
    steps: int = ABSENT
    epochs: float | None = ABSENT
    test_accuracy: float | None = ABSENT
    test_loss: float | None = ABSENT
    test_accuracy_mirror: float | None = ABSENT
    validation_accuracy: float | None = ABSENT
    validation_loss: float | None = ABSENT
    validation_accuracy_mirror: float | None = ABSENT
    train_seconds: float | None = ABSENT
    images_per_second: float | None = ABSENT
    fell_to_lr: float = ABSENT


class Info(_Kinds):
    """run.json."""

    environment: _Environment
    data: _Data = ABSENT
    engine: _Engine = ABSENT
    result: _Result | None = ABSENT
    checkpoint: int | None = ABSENT
    diverged: _Diverged = ABSENT
    resumed: list[_Resumed] = ABSENT
    sharpness: dict[str, Any] | None = ABSENT
    generalisation: _Generalisation | None = ABSENT
    elsewhere: _Elsewhere = ABSENT


class _Named(_Kinds):
    name: str


class _DataConfig(_Named):
    dir: str = ABSENT
    validation_fraction: float = ABSENT


class _OptimizerConfig(_Kinds):
    name: str = ABSENT
    lr: float = ABSENT


class _EngineConfig(_Kinds):
    precision: str = ABSENT


class Config(_Kinds):
    """config.toml; whoever goes on with a run checks all of it."""

    seed: int
    data: _DataConfig
    model: _Named
    schedule: _Named
    optimizer: _OptimizerConfig = ABSENT
    engine: _EngineConfig = ABSENT
    elsewhere: dict[str, Any] = ABSENT


class _Mirror(_Kinds):
    loss: float | None = ABSENT
    accuracy: float


class EvaluationLine(_Kinds):
    """A line of evaluations.jsonl; what was not finite is null."""

    step: int
    split: str
    accuracy: float
    loss: float | None
    seconds: float = ABSENT
    evaluation_seconds: float = ABSENT
    class_accuracy: list[float | None] = ABSENT
    confusion: list[list[int]] = ABSENT
    mean_probabilities: list[list[float | None] | None] = ABSENT
    mirror: _Mirror | None = ABSENT


class DecisionLine(_Kinds):
    """A line of decisions.jsonl."""

    step: int
    decision: str
    lr_before: list[float]
    lr_after: list[float]


_WORDS = {
    "missing": "must be there",
    "model_type": "must be a table",
    "dict_type": "must be a table",
    "int_type": "must be an integer",
}


def fault(kinds: type[BaseModel], content: Any) -> str | None:
    """Say which key of a file's content is of the wrong kind; None if none is."""
    try:
        kinds.model_validate(content)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(map(str, problem["loc"])) or "it"
        is_missing = problem["type"] == "missing"
        must = _WORDS.get(problem["type"], problem["msg"].replace("Input should be a valid", "must be a"))
        return f"{key} {must}" + ("" if is_missing else f", got {problem['input']!r:.40}")
    return None
