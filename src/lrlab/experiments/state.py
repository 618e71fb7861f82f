"""All that an experiment has learnt between two updates, as the files of a checkpoint, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch.optim.lr_scheduler import LambdaLR

from lrlab.schedulers.layerwise import planned_rates
from lrlab.training.checkpoint import CheckpointError, load_model, load_state, model_bytes, state_bytes

if TYPE_CHECKING:
    from lrlab.experiments.run import Experiment

MODEL, STATE = "model.safetensors", "state.pt"


def checkpoint_files(experiment: Experiment, session: Mapping[str, Any]) -> dict[str, bytes]:
    """Return what a checkpoint holds of an experiment.

    model.safetensors is what is evaluated and used: the weights, or their average. state.pt is the rest: optimizer,
    scheduler, probes, where there is an average the weights themselves, and where the session stands. The order of the
    examples and their augmentation are functions of the step, so there is nothing of them to keep.

    Args:
        experiment: between two updates, all rows taken.
        session: its own state, of plain values.
    """
    average = experiment.average
    state: dict[str, Any] = {
        "session": dict(session),
        "optimizer": experiment.optimizer.state_dict(),
        "scheduler": experiment.scheduler.state_dict(),
        "probes": [probe.state_dict() for probe in experiment.probes],
    }
    if average is not None:
        state |= {"num_averaged": int(average.n_averaged), "weights": experiment.model.state_dict()}
    return {MODEL: model_bytes(experiment.evaluated_model), STATE: state_bytes(state)}


def restore(experiment: Experiment, files: Mapping[str, bytes]) -> dict[str, Any]:
    """Put an experiment where a checkpoint left it, and return the session's state.

    Args:
        experiment: built from the same configuration.
        files: of the checkpoint, as they were checked.
    Raises: CheckpointError if they are those of something else.
    """
    if missing := {MODEL, STATE} - files.keys():
        raise CheckpointError(f"The checkpoint lacks {', '.join(sorted(missing))}: a run cannot be resumed from it.")
    state, average = load_state(files[STATE]), experiment.average
    try:
        if average is None:
            load_model(experiment.model, files[MODEL])
        else:
            experiment.model.load_state_dict(state["weights"])
            average.n_averaged.fill_(state["num_averaged"])
            if state["num_averaged"]:  # else the file is of the weights themselves
                load_model(average.module, files[MODEL])
        experiment.optimizer.load_state_dict(state["optimizer"])
        scheduler = experiment.scheduler
        scheduler.load_state_dict(state["scheduler"])  # after the optimizer, which has the rates
        if isinstance(scheduler, LambdaLR):
            for group, lr in zip(experiment.optimizer.param_groups, planned_rates(scheduler), strict=True):
                group["lr"] = lr
        for probe, learnt in zip(experiment.probes, state["probes"], strict=True):
            probe.load_state_dict(learnt)
        return dict(state["session"])
    except (KeyError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise CheckpointError(f"The checkpoint is not of this run: {error!r}") from error
