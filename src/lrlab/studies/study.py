"""A study: tunes the arms' rates if it is to, runs what is missing of the plan, and is safe to repeat."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from lrlab.config import StudyConfig
from lrlab.runs.storage import STUDY, RunError, StorageError, storage_errors, write_whole
from lrlab.studies.members import Ended, Executor, Member, StudyEvent, check_same_config, ended_before
from lrlab.studies.processes import Processes
from lrlab.studies.ray import ONE_CPU, Cluster, Resources
from lrlab.studies.tuning import Choice, choose, lacks, mark_tuning, tuning_members, write_choices

Happening = tuple[Member, StudyEvent] | Choice
"""Something that befell a member, or the rate that was chosen for an arm."""


def study_members(study: StudyConfig, root: Path | str, rates: Mapping[str, float] | None = None) -> list[Member]:
    """Return the runs of a study, which live in root/<study>/<arm>/seed<k>/.

    Args:
        study: the plan.
        root: folder of the study's folder.
        rates: optimizer.lr of each arm, where they are tuned.
    """
    folder, configs = Path(root) / study.name, study.configs(rates)
    return [Member(arm, seed, config, folder / arm / f"seed{seed}") for (arm, seed), config in configs.items()]


def run_study(
    study: StudyConfig,
    source: Path | str,
    *,
    root: Path | str,
    workers: int | None = None,
    ray: str | None = None,
    resources: Resources = ONE_CPU,
) -> Generator[Happening, None, None]:
    """Run what is missing of a study, and yield what happens in each run.

    A run that is complete or diverged is left as it is: both are results. One that was cut short goes on from its
    newest checkpoint. One that another process is at work on is passed over, and looked at again in the end, so that
    several processes may share a study. A run that fails does not stop the others.

    Whoever iterates may stop early, by `close()`; the runs under way are then saved.

    Args:
        study: the plan.
        source: its file, a copy of which marks the study's folder.
        root: folder of the study's folder.
        workers: processes that train side by side, each with its share of the processor's threads; None: the runs are
            made one after another in this process.
        ray: address of a Ray cluster whose tasks train instead, or local.
        resources: of the cluster, for each run.
    Raises: ConfigError or DataError for an arm that cannot be built, before any is run; RunError if a run that is
        there was made with another configuration, or another process puts another plan there while rates are tuned;
        StorageError if the study's own folder cannot be written; ClusterError for a cluster that cannot be reached, or
        has no room for a run.
    """
    folder, source = Path(root) / study.name, Path(source)
    if source.exists() and not source.is_file():
        raise StorageError(f"{source}: not a regular file, so it could be read only once. Save the plan as a file.")
    with storage_errors(source):
        plan = source.read_bytes()  # once: it may be edited while the rates are tuned
    executor = _executor(workers) if ray is None else Cluster(ray, resources=resources, folder=folder)
    with closing(executor):
        rates, untuned, choices = None, dict[str, Ended](), list[Choice]()
        if study.tune is not None:
            tuning = tuning_members(study, root)
            # the plan of what was run stays until it is known that this one goes with it
            before = _plan_of(folder) or plan
            ended = yield from _complete(tuning, executor, folder=folder, plan=before)
            if _plan_of(folder) not in (before, plan):
                raise RunError(
                    f"{folder}: another process replaced the plan while the rates were tuned. The runs are kept: "
                    "repeat the command with the intended plan."
                )
            # another process may have come to the end of what it had
            ended = [(member, (end.outcome == "locked" and ended_before(member)) or end) for member, end in ended]
            untuned = {arm: problem for arm in study.arms if (problem := lacks(arm, ended)) is not None}
            choices = [choose(arm, ended) for arm in study.arms if arm not in untuned]
            # an arm without a choice is not run; its configuration is that of any rate
            rates = dict.fromkeys(untuned, study.tune.rates[0]) | {choice.arm: choice.lr for choice in choices}
        members = study_members(study, root, rates)
        tuned = [member for member in members if member.arm not in untuned]
        if study.tune is not None:
            for member in tuned:
                check_same_config(member)
            mark_tuning(study, folder, plan)
            write_choices(study.tune, choices, folder)
            yield from choices
        yield from ((member, untuned[member.arm]) for member in members if member.arm in untuned)
        yield from _complete(tuned, executor, folder=folder, plan=plan)


def _plan_of(folder: Path) -> bytes | None:
    with storage_errors(folder):
        return (folder / STUDY).read_bytes() if (folder / STUDY).exists() else None


def _executor(workers: int | None) -> Executor:
    if workers is not None:
        return Processes(workers)
    from lrlab.studies.here import Here  # loads torch

    return Here()


def _complete(
    members: Sequence[Member], executor: Executor, *, folder: Path, plan: bytes
) -> Generator[tuple[Member, StudyEvent], None, list[tuple[Member, Ended]]]:
    """Run those members that have not ended; return how each of all of them ended."""
    for member in members:
        check_same_config(member)
    found = [(member, ended_before(member)) for member in members]
    missing = [member for member, ended in found if ended is None]
    if missing:
        first_of_arm = {member.arm: member for member in reversed(missing)}
        yield from executor.check([*reversed(first_of_arm.values())], num_to_come=len(missing))
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / STUDY, plan)
    ends = [(member, ended) for member, ended in found if ended is not None]
    yield from ends
    locked: list[Member] = []
    for todo in (missing, locked):  # the second time the other process may be through with them
        for member, event in executor.run(todo):
            if isinstance(event, Ended):
                if event.outcome == "locked" and todo is missing:
                    locked.append(member)
                    continue
                ends.append((member, event))
            yield member, event
    return ends
