"""What run.json says of an experiment, and whether another machine or other images would change how it goes on."""

from __future__ import annotations

import contextlib
import tomllib
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lrlab.data import DataError, ImageData
from lrlab.runs import Checkpoint, RunError, read_info
from lrlab.runs.checkpoints import checkpoint_paths
from lrlab.runs.storage import CONFIG, differing_splits

if TYPE_CHECKING:
    from lrlab.experiments.run import Experiment
    from lrlab.training import Evaluation

_EXACT = ("threads", "instructions", "device", "precision", "network", "telemetry", "ranks")
"""Facts of the engine on which a result depends, if only in its last bits."""


def describe(experiment: Experiment) -> dict[str, Any]:
    """Return the facts of an experiment: its data, and how its steps are computed."""
    return {"data": _describe_data(experiment.data), "engine": _describe_engine(experiment)}


def check_same_data(data: ImageData, info: Mapping[str, Any]) -> None:
    """Check that the images are those that a run began with: number, classes, mean and deviation, pixels and labels.

    Args:
        data: as it was loaded now.
        info: the run's run.json.
    Raises: DataError that says what differs.
    """
    made, found = info["data"], _describe_data(data)
    del found["name"]  # of a folder it is the path, and the folder may have moved
    others = differing_splits(made.get("digest", {}), found.pop("digest"))
    changed = [f"{name}: {made[name]} -> {found[name]}" for name in found if name in made and made[name] != found[name]]
    if others and not changed:
        changed = [f"pixels or labels of the {' and '.join(others)} images"]
    if changed:
        hint = " (Another version of Pillow may decode JPEG and WebP differently.)" if others else ""
        raise DataError(
            f"the images differ from those the run began with ({'; '.join(changed)}). Restore the old ones.{hint}"
        )


def check_images_of_run(data: ImageData, directory: Path) -> None:
    """Refuse to go on with a run of other images, before anything of it is touched.

    Raises: DataError.
    """
    with contextlib.suppress(RunError):  # there is none, or none that can be read: said by whoever takes it up
        info = read_info(directory)
        if "data" in info and checkpoint_paths(directory):
            check_same_data(data, info)


def resumed_with_reasons(
    experiment: Experiment,
    before: Mapping[str, Any],
    info: Mapping[str, Any],
    checkpoint: Checkpoint,
    *,
    fell_to: float | None,
) -> list[dict[str, Any]]:
    """Return `resumed` of run.json, in which the last time says why it is not exact; warn of that, and of a new length.

    Args:
        experiment: that is to go on with the run.
        before: run.json as the last process left it.
        info: run.json as it is now.
        checkpoint: that it goes on from, with the configuration that it was saved with.
        fell_to: highest rate, where it is below `stop_below_lr` as the run is taken up; else None.
    """
    *earlier, last = info["resumed"]
    if "longer" in last:
        ends = "" if fell_to is None else f" No update is made: the rate, {fell_to}, is below stop_below_lr even so."
        warnings.warn(
            f"{last['longer']}: the rate was planned for the old length. config.toml alone no longer repeats this run, "
            "and studies and comparisons do not treat it as one that was planned for the new length."
            f"{ends}",
            stacklevel=3,
        )
    reasons = _reasons_against_exactness(experiment, before, info["environment"], checkpoint)
    if reasons:
        warnings.warn(
            f"not bit-exact: the run may differ from one that was never stopped ({'; '.join(reasons)}).",
            stacklevel=3,
        )
    return [*earlier, {**last, "inexact": reasons}]


def _reasons_against_exactness(
    experiment: Experiment, before: Mapping[str, Any], now: Mapping[str, Any], checkpoint: Checkpoint
) -> list[str]:
    """Why a run may differ, if only in the last bits, from one that never stopped: what has changed, or a GPU."""
    engine = _describe_engine(experiment)
    # older runs do not say so
    was = {"ranks": 1, **{name: engine[name] for name in ("instructions", "telemetry")}, **before["engine"]}
    changes = [(name, was.get(name), engine[name]) for name in _EXACT]
    size = experiment.config.evaluate.batch_size
    made = tomllib.loads(checkpoint.files[CONFIG].decode())
    changes += [("evaluate.batch_size", made.get("evaluate", {}).get("batch_size", size), size)]
    changes += [("processor", before["environment"]["processor"], now["processor"])]
    packages = before["environment"]["packages"]
    changes += [(name, packages.get(name), now["packages"][name]) for name in ("torch", "lrlab")]
    reasons = [f"{name}: {old} -> {new}" for name, old, new in changes if old != new]
    if experiment.engine.device.type != "cpu" and not torch.backends.cudnn.deterministic:
        reasons.append("convolutions on a GPU are not deterministic")
    return reasons


def evaluation_figures(experiment: Experiment, found: Evaluation | None) -> dict[str, float | None]:
    """Return the figures of the last evaluation, under the name of its split; None for what was not measured."""
    split, _ = experiment.data.evaluated
    figures = dict.fromkeys(("test_accuracy", "test_loss"))  # promised, whatever is evaluated
    figures |= {f"{split}_accuracy": found and found.accuracy, f"{split}_loss": found and found.loss}
    if experiment.config.evaluate.mirror:
        figures[f"{split}_accuracy_mirror"] = found.mirror.accuracy if found and found.mirror else None
    return figures


def evaluation_record(
    experiment: Experiment, evaluation: Evaluation, step: int, times: Mapping[str, float]
) -> dict[str, Any]:
    """Return what is written of an evaluation after an update, with the seconds that went before it."""
    epoch, (split, _) = -(-step // experiment.batches.steps_per_epoch), experiment.data.evaluated
    record = {"step": step, "epoch": epoch, **times, "split": split, **asdict(evaluation)}
    if evaluation.mirror is None:
        del record["mirror"]
    return record


def _describe_data(data: ImageData) -> dict[str, Any]:
    splits = {"training": data.train, "validation": data.validation, "test": data.test}
    return {
        "name": data.name,
        "classes": list(data.classes),
        "num_train": len(data.train),
        "num_test": len(data.test),
        "num_validation": len(data.validation or ()),
        "image_shape": list(data.train.images.shape[1:]),
        "mean": list(data.mean),
        "std": list(data.std),
        "digest": {name: split.digest for name, split in splits.items() if split is not None},
    }


def _describe_engine(experiment: Experiment) -> dict[str, Any]:
    engine = experiment.engine
    return {
        "device": engine.device_name,
        "precision": engine.precision,
        "ranks": experiment.ranks.size,
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "memory": engine.memory,
        "network": "compiled" if engine.compile is True else "eager",
        "telemetry": experiment.network.telemetry,
        "num_parameters": sum(parameter.numel() for parameter in experiment.model.parameters()),
        "num_steps": experiment.num_steps,
    }
