"""The verbs that train and compare; no logic. Each imports what it needs in its body, so that help loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from lrlab import __version__
from lrlab.cli.afterwards import generalisation, sharpness
from lrlab.cli.ask import calibrate, data_app, lr_find, preview, refine, replay
from lrlab.cli.elsewhere import import_runs, track
from lrlab.cli.launch import RUNS
from lrlab.cli.look import completion, doctor, runs
from lrlab.cli.parameters import (
    CLUSTER,
    COMPARED,
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
from lrlab.cli.parsing import at_least_one, make_app
from lrlab.cli.resume import resume, verify
from lrlab.cli.use import export, predict

SOME_FAILED = 7

TRAIN = Group.create_ordered("Train and compare")
BEFORE = Group.create_ordered("Before training")
AFTER = Group.create_ordered("After training")
OTHERS = Group.create_ordered("To and from other programs")
HERE = Group.create_ordered("This machine")
OPTIONS = Group.create_ordered("Options")

app = make_app(
    name="lrlab",
    help="A laboratory for learning rates: train, watch every layer, compare schedules honestly.",
    help_epilogue="To begin with: lrlab train --width 8 --batch-size 32 --schedule cosine",
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
        Path | None, Parameter(metavar="DIR", group=RECORDS, help="Run directory to create [runs/<from settings>].")
    ] = None,
    json: Json = False,
) -> int:
    """Train one network and record everything."""
    from lrlab.cli.launch import check_place, is_restarted, make_run
    from lrlab.cli.options import data_flags, read_config

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
    check_place(run)

    from lrlab.runs import check_vacant

    resumes = run is not None and is_restarted(run)
    if run is not None and not resumes:
        check_vacant(run)
    return make_run(checked, run, resumes=resumes, json=json)


app.command(resume, group=TRAIN)
app.command(verify, group=TRAIN)


@app.command(group=TRAIN)
def study(
    file: Annotated[Path, Parameter(name="FILE.toml", help="A study file: base, arms and seeds.")],
    /,
    *,
    workers: Annotated[
        int | None,
        Parameter(
            metavar="N",
            validator=at_least_one,
            group=MACHINE,
            help="Worker processes that train in parallel, each with an equal share of the CPU threads "
            "[none: this process trains one run after another].",
        ),
    ] = None,
    ray: Annotated[
        str | None,
        Parameter(
            metavar="local|ADDRESS",
            group=CLUSTER,
            help="Run each run as a Ray task; local starts a cluster, ADDRESS is HOST:PORT of a head node, or auto.",
        ),
    ] = None,
    cpus: Annotated[
        int | None, Parameter(metavar="N", validator=at_least_one, group=CLUSTER, help="CPUs for each run [1].")
    ] = None,
    gpus: Annotated[
        float | None,
        Parameter(metavar="X", group=CLUSTER, help="GPUs for each run; with 0.25 four runs share one [0]."),
    ] = None,
    json: Json = False,
) -> int:
    """Run the missing runs of a study, then report; safe to repeat."""
    from lrlab.cli.options import cluster_resources
    from lrlab.config import read_study

    resources = cluster_resources(ray, workers=workers, cpus=cpus, gpus=gpus)
    plan = read_study(file)

    from lrlab.cli.follow import describe_plan, follow_study
    from lrlab.cli.output import Output
    from lrlab.studies import run_study

    screen = Output(json=json)
    screen.say(describe_plan(plan))
    followed = follow_study(
        screen, plan, run_study(plan, file, root=RUNS, workers=workers, ray=ray, resources=resources)
    )
    folder, outcomes = RUNS / plan.name, followed.outcomes
    if outcomes["locked"]:
        screen.say(f"skipped, as another process is writing them: {outcomes['locked']} runs. Repeat the command later")
    if outcomes["complete"] or outcomes["diverged"]:
        from lrlab.cli.compare import show_verdict
        from lrlab.report import write_report

        show_verdict(screen, folder)
        screen.say(f"figures and page: {write_report(folder)}")
    rates = {"rates": followed.rates} if plan.tune else {}
    screen.document({"study": str(folder), "outcomes": dict(outcomes), **rates})
    return SOME_FAILED if outcomes["failed"] else 0


@app.command(group=TRAIN)
def report(
    path: Annotated[Path, Parameter(name="PATH", help="A run, or a study.")],
    /,
    *paths: Annotated[Path, Parameter(name="PATH...", help="More of them, drawn over the first.")],
    out: Annotated[
        Path | None,
        Parameter(
            metavar="DIR",
            group=RECORDS,
            help="Folder for the page and its figures [the run's or study's own; required for several paths].",
        ),
    ] = None,
) -> int:
    """Draw the figures and write the report page of a run, a study, or several."""
    from lrlab.cli.output import Output
    from lrlab.report import write_report

    Output(json=False).say(str(write_report(path, *paths, directory=out)))
    return 0


@app.command(group=TRAIN)
def compare(
    path: Annotated[Path, Parameter(name="PATH", help="A study, or runs; several studies are several tasks.")],
    /,
    *paths: Annotated[Path, Parameter(name="PATH...", help="More of them.")],
    control: Annotated[
        str | None, Parameter(metavar="ARM", group=COMPARED, help="Compare the other arms only with this [every pair].")
    ] = None,
    measure: Annotated[
        str | None,
        Parameter(
            metavar="NAME",
            group=COMPARED,
            help="What to compare by: a value in a run's result, a recorded column (mean of its last tenth), or "
            "generalisation/ece and the like [test_accuracy].",
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        Parameter(
            metavar="X",
            group=COMPARED,
            help="Value to reach, for all studies, or for one as STUDY=X; repeatable.",
        ),
    ] = None,
    csv: Annotated[
        Path | None, Parameter(metavar="FILE.csv", group=RECORDS, help="Also write a row for each pair.")
    ] = None,
    json: Json = False,
) -> int:
    """Compare arms by paired seeds: intervals, tests, and what they cannot show."""
    from lrlab.cli.compare import show_comparison
    from lrlab.cli.output import Output
    from lrlab.compare import compare_runs, to_document, write_csv
    from lrlab.runs import find_runs

    runs = [run for folder in (path, *paths) for run in find_runs(folder)]
    comparison = compare_runs(runs, control=control, measure=measure, targets=target or ())
    output = Output(json=json)
    show_comparison(output, comparison)
    if csv is not None:
        write_csv(csv, comparison)
        output.say(f"table: {csv}")
    output.document(to_document(comparison))
    return 0


app.command(runs, group=TRAIN)
for ask in (preview, lr_find, replay, calibrate, refine):
    app.command(ask, group=BEFORE)
for use in (predict, export, sharpness, generalisation):
    app.command(use, group=AFTER)
app.command(track, group=OTHERS)
app.command(import_runs, name="import", group=OTHERS)
app.command(doctor, group=HERE)
data_app.group = (HERE,)
app.command(data_app)
app.command(completion, group=HERE)

for order, name in enumerate((*app, *data_app)):
    verb = (app if name in app else data_app)[name]
    verb.sort_key = order  # help lists the verbs as they stand here
    verb.help_epilogue = ""  # that of the program is for who has not chosen one
