"""The verbs before and beside training; no logic. Each imports what it needs in its body."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from lrlab.cli.parameters import (
    RATE,
    RECORDS,
    SWEEP,
    BatchSize,
    ConfigFile,
    Data,
    DataDir,
    DataName,
    Device,
    Json,
    Model,
    PlannedName,
    Precision,
    Rate,
    RuleName,
    Settings,
    Width,
)
from lrlab.cli.parsing import make_app

SIMULATED = Group.create_ordered("Simulated losses")

data_app = make_app(name="data", help="List, fetch and check data sets.")


def preview(
    *,
    schedule: PlannedName = None,
    steps: Annotated[
        int | None, Parameter(metavar="N", group=RATE, help="Optimizer updates; not needed if the file says steps.")
    ] = None,
    lr: Rate = None,
    settings: Settings = None,
    config: ConfigFile = None,
    json: Json = False,
) -> int:
    """Show the rate over time, before training."""
    from lrlab.cli.options import read_config
    from lrlab.config import ConfigError

    checked = read_config(config, {"schedule.name": schedule, "steps": steps, "optimizer.lr": lr}, settings)
    if checked.steps is None:
        raise ConfigError(
            f"preview needs a number of updates, and for {checked.epochs} epochs it depends on the data: add --steps N."
        )

    from lrlab.cli.display import Display, rate_charts
    from lrlab.experiments import preview_rates

    rates = preview_rates(checked, num_steps=checked.steps)
    display = Display(json=json)
    display.say(rate_charts(rates))
    display.document({"schedule": checked.schedule.name, "lr": rates})
    return 0


def lr_find(
    *,
    data: Data = None,
    data_dir: DataDir = None,
    model: Model = None,
    width: Width = None,
    batch_size: BatchSize = None,
    start: Annotated[float, Parameter(metavar="X", group=SWEEP, help="Rate of the first update [1e-6].")] = 1e-6,
    end: Annotated[float, Parameter(metavar="X", group=SWEEP, help="Rate of the last update [10].")] = 10.0,
    steps: Annotated[int, Parameter(metavar="N", group=SWEEP, help="Optimizer updates of each sweep [200].")] = 200,
    seeds: Annotated[int, Parameter(metavar="N", group=SWEEP, help="Sweeps, each with its own seed [5].")] = 5,
    settings: Settings = None,
    device: Device = None,
    precision: Precision = None,
    config: ConfigFile = None,
    figure: Annotated[
        Path, Parameter(metavar="FILE.png", group=RECORDS, help="Picture to write [lr-find.png].")
    ] = Path("lr-find.png"),
    json: Json = False,
) -> int:
    """Suggest a learning rate by a range test, which raises it from update to update."""
    from lrlab.cli.options import check_folder, data_flags, read_config

    flags = {
        **data_flags(data, data_dir),
        "model.name": model,
        "model.width": width,
        "batch_size": batch_size,
        "device": device,
        "engine.precision": precision,
    }
    checked = read_config(config, flags, settings)
    check_folder(figure)

    from lrlab.cli.display import Display
    from lrlab.cli.rules import describe_range_test
    from lrlab.experiments import plan_range_test, run_range_test
    from lrlab.report import write_range_test

    display = Display(json=json)
    plan = plan_range_test(checked, start=start, end=end, num_steps=steps, num_seeds=seeds)
    display.say(plan.summary())
    found = display.follow_range_test(plan, run_range_test(plan))
    display.say(describe_range_test(found))
    write_range_test(figure, found.document(), title=plan.title())
    display.say(f"picture: {figure}")
    display.document({"figure": str(figure), **found.document()})
    return 0


def replay(
    path: Annotated[Path, Parameter(name="PATH", help="A run, a CSV file with a header, or TensorBoard's events.")],
    /,
    *,
    schedule: RuleName = None,
    lr: Annotated[
        float | None,
        Parameter(metavar="X", group=RATE, help="Rate that the rule starts from [that of the run; of others 0.001]."),
    ] = None,
    settings: Settings = None,
    column: Annotated[
        str | None, Parameter(metavar="NAME", group=RECORDS, help="Column or tag of the loss [the usual names].")
    ] = None,
    figure: Annotated[
        Path | None, Parameter(metavar="FILE.png", group=RECORDS, help="Picture to write [replay-<schedule>.png].")
    ] = None,
    json: Json = False,
) -> int:
    """Show when a rule would have moved the rate over recorded losses, and why."""
    from lrlab.cli.options import check_folder, read_config
    from lrlab.integrations.recorded import read_base_lr, read_losses

    rate = read_base_lr(path) if lr is None else lr
    checked = read_config(None, {"schedule.name": schedule, "optimizer.lr": rate}, settings)
    picture = figure or Path(f"replay-{checked.schedule.name}.png")
    check_folder(picture)

    from lrlab.cli.display import Display
    from lrlab.cli.rules import describe_replay
    from lrlab.experiments import replay_rule
    from lrlab.report import write_replay

    display = Display(json=json)
    recorded = read_losses(path, column)
    decisions = replay_rule(checked, recorded.losses)
    title = f"{checked.schedule.name} over {recorded.name} of {path}"
    write_replay(picture, recorded.steps, recorded.losses, decisions, title=title)
    display.say(describe_replay(recorded, decisions))
    display.say(f"picture: {picture}")
    rule = {"schedule": checked.schedule.name, "lr": checked.optimizer.lr}
    display.document({**rule, "figure": str(picture), "decisions": decisions})
    return 0


def refine(
    path: Annotated[Path, Parameter(name="RUN", help="A run with recorded gradients.")],
    /,
    *,
    smoothing: Annotated[
        float, Parameter(metavar="X", group=RATE, help="Width of the median filter, as a share of the run [0.1].")
    ] = 0.1,
    file: Annotated[
        Path | None, Parameter(metavar="FILE.toml", group=RECORDS, help="Configuration to write [RUN/refined.toml].")
    ] = None,
    json: Json = False,
) -> int:
    """Compute a schedule from the gradients of a run, for lrlab train --config."""
    from lrlab.cli.display import Display, rate_chart
    from lrlab.experiments import refine_run
    from lrlab.runs import read_run

    target = file or path / "refined.toml"
    display = Display(json=json)
    multipliers = refine_run(read_run(path), target, smoothing=smoothing)
    display.say(rate_chart(multipliers, of=f"of {len(multipliers)}", what="times lr"))
    display.say(f"to repeat the run with it: lrlab train --config {shlex.quote(str(target))}")
    display.document({"file": str(target), "multipliers": multipliers})
    return 0


def calibrate(
    *,
    schedule: RuleName = None,
    lr: Rate = None,
    settings: Settings = None,
    traces: Annotated[int, Parameter(metavar="N", group=SIMULATED, help="Simulated runs of each kind [1000].")] = 1000,
    noise: Annotated[
        float, Parameter(metavar="X", group=SIMULATED, help="Standard deviation of the noise [0.3].")
    ] = 0.3,
    correlation: Annotated[
        float, Parameter(metavar="X", group=SIMULATED, help="Correlation of the noise between successive updates [0].")
    ] = 0.0,
    json: Json = False,
) -> int:
    """Simulate how often a rule decays on a flat loss, and how soon on a plateau."""
    from lrlab.cli.options import read_config

    checked = read_config(None, {"schedule.name": schedule, "optimizer.lr": lr}, settings)

    from dataclasses import asdict

    from lrlab.cli.display import Display
    from lrlab.cli.rules import describe_calibration
    from lrlab.experiments import calibrate_rule

    found = calibrate_rule(checked, std=noise, correlation=correlation, num_traces=traces)
    display = Display(json=json)
    display.say(describe_calibration(found))
    display.document({"schedule": checked.schedule.name, **asdict(found)})
    return 0


@data_app.command(name="list")
def list_data() -> int:
    """List the known data sets."""
    from lrlab.cli.output import Output
    from lrlab.experiments import list_data_sets

    output = Output(json=False)
    for line in list_data_sets():
        output.say(line)
    return 0


@data_app.command
def fetch(name: Annotated[str, Parameter(name="NAME", help="cifar10 or cifar100.")], /) -> int:
    """Download a data set into the cache, and verify its checksum."""
    from lrlab.cli.output import Output
    from lrlab.experiments import fetch_data_set

    Output(json=False).say(str(fetch_data_set(name)))
    return 0


@data_app.command
def check(name: DataName, /, *, data_dir: DataDir = None, settings: Settings = None) -> int:
    """Read a whole data set, and describe it or list everything wrong with it."""
    from lrlab.cli.options import data_flags, read_config

    checked = read_config(None, data_flags(name, data_dir), settings)

    from lrlab.cli.output import Output
    from lrlab.experiments import check_data_set

    Output(json=False).say(check_data_set(checked.data))
    return 0
