"""The verbs to and from other people's programs; no logic. Each imports what it needs in its body."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from lrlab.cli.parameters import RECORDS, Json

WHERE = Group.create_ordered("Destination")


READ = Group.create_ordered("How to read the file")


def track(
    path: Annotated[Path, Parameter(name="PATH", help="A run, a study, or a folder with runs.")],
    /,
    *,
    to: Annotated[
        Literal["trackio", "mlflow", "wandb"],
        Parameter(metavar="trackio|mlflow|wandb", group=WHERE, help="Tracker, set up as its own documentation says."),
    ],
    project: Annotated[
        str | None,
        Parameter(metavar="NAME", group=WHERE, help="Project or experiment there [the study's name, or lrlab]."),
    ] = None,
    follow: Annotated[
        bool, Parameter(group=RECORDS, help="Keep sending while runs train, until none is in progress.")
    ] = False,
    json: Json = False,
) -> int:
    """Send runs to an experiment tracker; repeating it sends only what is new."""
    from lrlab.cli.output import Output
    from lrlab.integrations.tracking import send_runs

    screen = Output(json=json)
    totals: dict[str, int] = {}
    for run, number in send_runs(path, to, project=project, until_over=follow):
        name = str(run.directory)
        if number or name not in totals:
            screen.say(f"{name}: {run.status}, {number:,} rows sent to {to}" if number else f"{name}: nothing new")
        totals[name] = totals.get(name, 0) + number
    screen.document({"tracker": to, "runs": [{"run": name, "sent": number} for name, number in totals.items()]})
    return 0


def import_runs(
    path: Annotated[
        Path,
        Parameter(name="PATH", help="CSV or Parquet file, TensorBoard events, or a database of MLflow or trackio."),
    ],
    /,
    *,
    out: Annotated[
        Path, Parameter(metavar="DIR", group=WHERE, help="Directory of the run, or with --arm folder of a study.")
    ],
    project: Annotated[
        str | None, Parameter(metavar="NAME", group=READ, help="MLflow experiment, if there are several.")
    ] = None,
    arm: Annotated[
        str | None,
        Parameter(metavar="KEY", group=READ, help="Setting that distinguishes the arms [none: a single run]."),
    ] = None,
    seed: Annotated[
        str, Parameter(metavar="KEY|N", group=READ, help="Setting that holds the seed, or the seed itself [seed].")
    ] = "seed",
    accuracy: Annotated[
        str | None, Parameter(metavar="NAME", group=READ, help="Quantity to compare runs by [the usual names].")
    ] = None,
    loss: Annotated[
        str | None, Parameter(metavar="NAME", group=READ, help="Training loss of the updates [the usual names].")
    ] = None,
    split: Annotated[
        Literal["test", "validation"] | None,
        Parameter(metavar="test|validation", group=READ, help="Split on which accuracy was measured [from its name]."),
    ] = None,
    percent: Annotated[bool, Parameter(group=READ, help="Accuracies are in per cent.")] = False,
    decisions: Annotated[
        Path | None, Parameter(metavar="FILE", group=READ, help="Decisions of a rule in a single run, as JSON lines.")
    ] = None,
    json: Json = False,
) -> int:
    """Import runs that other programs recorded, to replay and compare them."""
    from lrlab.cli.output import Output
    from lrlab.integrations.importing import Reading, plan_import
    from lrlab.integrations.recorded import read_recordings
    from lrlab.runs.elsewhere import write_elsewhere

    screen = Output(json=json)
    reading = Reading(arm, seed, accuracy=accuracy, loss=loss, split=split, in_percent=percent, decisions=decisions)
    runs = plan_import(read_recordings(path, keys=reading.keys, project=project), reading, source=path, out=out)
    write_elsewhere(runs, study=None if arm is None else out)
    for run in runs:
        kinds = [f"{run.origin['accuracy']} as {run.split} accuracy"] if run.accuracy else ["no accuracy"]
        kinds += [f"{run.origin['loss']} as training loss"] if run.origin["loss"] else ["no training loss"]
        kinds += [f"{len(run.decisions):,} decisions"] if decisions is not None else []
        screen.say(f"{run.origin['run'] or path}: {run.directory}, {', '.join(kinds)}")
        if run.origin["rows_counted"]:
            screen.say("  no column named step or the like holds the update, so the rows are counted instead")
        others = sorted(run.series.keys() - {"train/loss"})
        if others and (not run.accuracy or not run.origin["loss"]):
            screen.say(f"  other columns: {', '.join(others)}. To use one of them, add --accuracy NAME or --loss NAME.")
    screen.document(
        {"runs": [{"run": str(run.directory), "from": run.origin["run"], "seed": run.seed} for run in runs]}
    )
    return 0
