"""The verbs that train and compare; no logic. Each imports what it needs in its body, so that help loads no torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from lrlab import __version__
from lrlab.cli.ask import calibrate, data_app, lr_find, preview, refine, replay
from lrlab.cli.parameters import (
    LENGTH,
    MACHINE,
    RECORDS,
    BatchSize,
    ConfigFile,
    Data,
    DataDir,
    Device,
    Json,
    Model,
    Precision,
    Rate,
    ScheduleName,
    Settings,
    Width,
)
from lrlab.cli.parsing import make_app

RUNS = Path("runs")
SOME_FAILED = 7

TRAIN = Group.create_ordered("Train and compare")
ASK = Group.create_ordered("Before and beside it")
OPTIONS = Group.create_ordered("Options")

app = make_app(
    name="lrlab",
    help="A laboratory for learning rates: train, watch every layer, compare schedules honestly.",
    version=__version__,
)
app["--help"].group = app["--version"].group = OPTIONS


@app.command(group=TRAIN)
def train(
    *,
    data: Data = None,
    data_dir: DataDir = None,
    model: Model = None,
    width: Width = None,
    batch_size: BatchSize = None,
    schedule: ScheduleName = None,
    lr: Rate = None,
    settings: Settings = None,
    epochs: Annotated[int | None, Parameter(metavar="N", group=LENGTH, help="Passes over the images [5].")] = None,
    steps: Annotated[int | None, Parameter(metavar="N", group=LENGTH, help="Optimizer updates.")] = None,
    seed: Annotated[
        int | None, Parameter(metavar="N", group=MACHINE, help="Seed of weights, order and augmentation [0].")
    ] = None,
    device: Device = None,
    precision: Precision = None,
    config: ConfigFile = None,
    run: Annotated[
        Path | None, Parameter(metavar="DIR", group=RECORDS, help="Run directory to make [runs/<what it is>].")
    ] = None,
    json: Json = False,
) -> int:
    """Train one network and record everything."""
    from lrlab.cli.options import data_flags, free_directory, read_config, run_name

    flags = {
        **data_flags(data, data_dir),
        "model.name": model,
        "model.width": width,
        "batch_size": batch_size,
        "schedule.name": schedule,
        "optimizer.lr": lr,
        "epochs": epochs,
        "steps": steps,
        "seed": seed,
        "device": device,
        "engine.precision": precision,
    }
    checked = read_config(config, flags, settings)
    directory = run or free_directory(RUNS, run_name(checked))

    from lrlab.runs import check_vacant

    check_vacant(directory)

    from lrlab.cli.display import Display
    from lrlab.experiments import Experiment

    display = Display(json=json)
    experiment = Experiment(checked)
    display.say(experiment.summary())
    display.say(f"run: {directory}")
    try:
        display.follow(experiment, experiment.run(directory))
    finally:
        if experiment.status is not None:  # there is a run, complete or not
            display.conclude(directory)
    return 0


@app.command(group=TRAIN)
def study(
    file: Annotated[Path, Parameter(name="FILE.toml", help="A study file: base, arms and seeds.")],
    /,
    *,
    json: Json = False,
) -> int:
    """Run what is missing of a study, and report; safe to repeat."""
    from lrlab.config import read_study

    plan = read_study(file)

    from lrlab.cli.display import Display
    from lrlab.experiments import run_study, study_members
    from lrlab.report import write_report

    display = Display(json=json)
    members = study_members(plan, RUNS)
    display.say(f"study {plan.name}: {len(plan.arms)} arms x {len(plan.seeds)} seeds = {len(members)} runs")
    outcomes = display.follow_study(run_study(plan, file, root=RUNS), num_members=len(members))
    folder = RUNS / plan.name
    if outcomes.get("locked"):
        display.say(f"{outcomes['locked']} of the runs are with another process; study again shows them when they end")
    if outcomes.keys() & {"complete", "diverged"}:
        display.say(f"figures and page: {write_report(folder)}")
    display.document({"study": str(folder), "outcomes": outcomes})
    return SOME_FAILED if outcomes.get("failed") else 0


@app.command(group=TRAIN)
def report(
    path: Annotated[Path, Parameter(name="PATH", help="A run, or a study.")],
    /,
) -> int:
    """Draw the figures and write the page of a run or a study."""
    from lrlab.report import write_report

    sys.stdout.write(f"{write_report(path)}\n")
    return 0


for verb in (preview, lr_find, replay, calibrate, refine):
    app.command(verb, group=ASK)
data_app.group = (ASK,)
app.command(data_app)

for order, name in enumerate((*app, *data_app)):
    (app if name in app else data_app)[name].sort_key = order  # help lists the verbs as they stand here
