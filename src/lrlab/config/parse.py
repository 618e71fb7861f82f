"""From files and the command line to a configuration, and back: tables are layered, then checked once."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args

import tomli_w
from pydantic import BaseModel, ValidationError

from lrlab.config.parts import ConfigError, did_you_mean, nearest
from lrlab.config.rates import MeasuredRate, PlannedRate
from lrlab.config.run import RunConfig
from lrlab.config.schedules import DEFAULT_SCHEDULE, SCHEDULES, schedule_tag

Table = dict[str, Any]
HARMLESS = (
    "telemetry.flush_every",
    "evaluate.batch_size",
    "checkpoint",
    "data.dir",  # that it holds the same images is checked apart
    "device",
    "engine.threads",
    "engine.keep_memory",
)
"""Keys that a run may go on with changed: they say when and where it is computed and written, not what."""

TABLES = frozenset(name for name, field in RunConfig.model_fields.items() if isinstance(field.default, BaseModel))
"""Keys of a run's configuration that are tables, those of layer_rates apart, which may be numbers."""

ELSEWHERE = "elsewhere"
"""Of a run that was made elsewhere: where from, in run.json; its settings, in config.toml; names that it has not."""

_SYNONYMS = {"learning_rate": "lr", "wd": "weight_decay", "num_epochs": "epochs", "max_steps": "steps"}
"""What other programs call a key -> its last word here."""

PartT = TypeVar("PartT", bound=BaseModel)


def read_setting(text: str) -> Table:
    """Read one KEY=VALUE of the command line: 'schedule.multiplier=0.2' -> {'schedule': {'multiplier': 0.2}}.

    The value is TOML; what is not valid TOML is a string, so that names need no quotes.
    """
    key, equals, value = text.partition("=")
    names = [name.strip() for name in key.split(".")]
    if not equals or not all(names):
        raise ConfigError(f"--set {text}: must be KEY=VALUE, as in --set schedule.multiplier=0.2.")
    try:
        parsed = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        parsed = {"value": value}
    if len(parsed) > 1:
        raise ConfigError(f"--set {text!r}: must be one KEY=VALUE; repeat --set for the next.")
    setting = parsed["value"]
    for name in reversed(names):
        setting = {name: setting}
    return dict(setting)


def merge(base: Table, over: Table) -> Table:
    """Lay one table over another.

    A table that names another schedule than the one below it replaces that table whole, since the keys of one
    schedule mean nothing to another; and a horizon in steps replaces one in epochs, and the other way round.

    Raises: ConfigError where a table would replace what should be one, and be taken for all of it.
    """
    merged = dict(base)
    for horizon, other in (("steps", "epochs"), ("epochs", "steps")):
        if horizon in over and other not in over:
            merged.pop(other, None)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, dict) and below is not None and not isinstance(below, dict) and key in TABLES:
            raise ConfigError(_no_table(key, below))
        if isinstance(below, dict) and isinstance(value, dict) and not _another_schedule(key, below, value):
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


def _another_schedule(key: str, below: Table, over: Table) -> bool:
    return key == "schedule" and "name" in over and over["name"] != below.get("name", DEFAULT_SCHEDULE)


def check(part: type[PartT], table: Table) -> PartT:
    """Check a table against what it should be, and fill in the defaults.

    Raises: ConfigError with one line for each thing that is wrong.
    """
    try:
        return part.model_validate(table)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(dict(problem), part, table) for problem in error.errors())) from None


def parse_config(table: Table) -> RunConfig:
    """Check the table of a run, and fill in the defaults.

    Raises: ConfigError with one line for each thing that is wrong.
    """
    if ELSEWHERE in table:
        raise ConfigError(
            "The run was imported, so how it was trained is not known: it can only be replayed, compared and shown in "
            "a report."
        )
    return check(RunConfig, table)


def to_table(config: RunConfig) -> Table:
    """Return the configuration as plain values, defaults included; what is left open (None) is left out."""
    return config.model_dump(mode="json", exclude_none=True)


def to_toml(config: RunConfig) -> str:
    """Return the configuration as TOML, defaults included."""
    return tomli_w.dumps(to_table(config))


def differences(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> list[str]:
    """List the keys in which two tables differ, as 'key: one value -> other value'."""
    lines = []
    for key in [*one, *(key for key in other if key not in one)]:
        left, right = one.get(key), other.get(key)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            lines += differences(left, right, f"{prefix}{key}.")
        elif left != right:
            lines.append(f"{prefix}{key}: {left} -> {right}")
    return lines


def without_harmless(table: Mapping[str, Any], prefix: str = "") -> Table:
    """Return the table of a run without the keys of `HARMLESS`."""
    return {
        key: without_harmless(value, f"{prefix}{key}.") if isinstance(value, Mapping) else value
        for key, value in table.items()
        if f"{prefix}{key}" not in HARMLESS
    }


def changes_that_matter(made: Table, config: RunConfig) -> list[str]:
    """List the keys by which a run would go on as another: all but those of `HARMLESS`, and what makes it longer.

    Longer it is made by more steps or epochs, and by a lower stop_below_lr or none.

    Args:
        made: configuration that the run was begun with; a key it does not have came later, and is as by default.
        config: the one that it is to go on with.
    """
    before, after = without_harmless(to_table(parse_config(made))), without_harmless(to_table(config))
    horizons = [(name, table.pop(name)) for table in (before, after) for name in ("steps", "epochs") if name in table]
    (name, earlier), (other, later) = horizons
    is_longer = name == other and later >= earlier
    stop, lower = before.get("stop_below_lr"), after.get("stop_below_lr", 0.0)
    if stop is not None and lower < stop:
        for table in (before, after):
            table.pop("stop_below_lr", None)
    shorter = f"{name}: {earlier} -> {later}, but a run can only be made longer"
    apart = [] if is_longer else [shorter if name == other else f"{name}: {earlier} -> {other}: {later}"]
    return [*differences(before, after), *apart]


def _explain(problem: dict[str, Any], part: type[BaseModel], table: Table) -> str:
    names = [str(part) for part in problem["loc"]]
    tag = {"schedule": 1, "layer_rates": 2}.get(names[0]) if names else None
    if tag is not None and len(names) > tag:
        del names[tag]  # the tag of the union is no key
    key = ".".join(names)
    if problem["type"] == "extra_forbidden":
        known = _known_keys(part, names[:-1], table)
        return f"Unknown key '{key}'. Known: {', '.join(known)}.{_meant(key, known, part, table)}"
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    if problem["type"] == "too_short":
        return f"{key}: must have at least {problem['ctx']['min_length']}, got {problem['ctx']['actual_length']}."
    if problem["type"] == "missing":
        return f"{key}: must be given."
    if problem["type"] in ("model_type", "dict_type"):
        return _no_table(key, problem["input"])
    message = problem["msg"].removeprefix("Input ").replace("should be", "must be")
    text = f"{key}: {message}, got {problem['input']!r}."
    if problem["type"] == "literal_error":
        text += did_you_mean(str(problem["input"]), re.findall(r"'([^']+)'", problem["ctx"]["expected"]))
    return text


def _no_table(key: str, value: Any) -> str:
    return f"{key}: must be a table of keys, as in {key}.name, got {value!r}."


def _meant(key: str, known: list[str], part: type[BaseModel], table: Table) -> str:
    """Ask after the key that was meant: that name beside it or elsewhere, whatever it is called there, or one alike."""
    name = key.rpartition(".")[2]
    name = _SYNONYMS.get(name.casefold(), name.casefold())
    beside = {one.rpartition(".")[2]: one for one in known}
    if name in beside:
        return f" Did you mean '{beside[name]}'?"
    elsewhere = [one for one in _keys(part) if one.rpartition(".")[2] == name]
    if "base" in part.model_fields:  # of a study
        elsewhere += [f"base.{one}" for one in _keys(RunConfig) if one.rpartition(".")[2] == name]
    schedule = table.get("schedule", {})
    if "schedule" in part.model_fields and isinstance(schedule, dict):  # a union, whose keys are those of the one named
        of_schedule = SCHEDULES.get(schedule_tag(schedule))
        elsewhere += [f"schedule.{name}"] if of_schedule is not None and name in of_schedule.model_fields else []
    if elsewhere:
        return f" Did you mean {' or '.join(map(repr, elsewhere))}?"
    found = nearest(name, beside)  # of last words: what comes before them is the same for all
    return "" if found is None else f" Did you mean '{beside[found]}'?"


def _keys(part: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Full names of the keys of a part and of the parts in it, but for those of a union."""
    for name, field in part.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _known_keys(part: type[BaseModel], parents: list[str], table: Table) -> list[str]:
    """Full names of the keys that may stand where an unknown one was found."""
    for name in parents:
        if name == "schedule":
            part = SCHEDULES[schedule_tag(table["schedule"])]
        elif name == "layer_rates":
            part = MeasuredRate if "measured" in table["layer_rates"][parents[1]] else PlannedRate
            break
        else:
            annotation = part.model_fields[name].annotation
            (part,) = (
                kind
                for kind in (annotation, *get_args(annotation))  # a part, or a part that may be left out
                if isinstance(kind, type) and issubclass(kind, BaseModel)
            )
    return [".".join([*parents, name]) for name in part.model_fields]
