"""The verbs that measure a run once it is made; no logic. Each imports what it needs in its body."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from lrlab.cli.parameters import Json
from lrlab.cli.parsing import at_least_one

if TYPE_CHECKING:
    from lrlab.cli.output import Output
    from lrlab.runs import Run

HOW = Group.create_ordered("How it is measured")

RunOrStudy = Annotated[Path, Parameter(name="RUN", help="A run, or a study to measure all its runs.")]


def sharpness(
    path: RunOrStudy,
    /,
    *,
    at: Annotated[
        list[int] | None,
        Parameter(metavar="STEP", group=HOW, help="Checkpoint to measure at, by its update; repeatable [all]."),
    ] = None,
    examples: Annotated[
        int | None,
        Parameter(
            metavar="N", group=HOW, help="Training images per sample [smallest multiple of the batch size >= 512]."
        ),
    ] = None,
    samples: Annotated[
        int, Parameter(metavar="N", group=HOW, help="Disjoint samples; their spread is the error [2].")
    ] = 2,
    batchnorm: Annotated[
        Literal["training", "evaluation"],
        Parameter(
            metavar="training|evaluation",
            group=HOW,
            help="Normalise by the batch, as in training, or by the running statistics [training].",
        ),
    ] = "training",
    vectors: Annotated[
        int, Parameter(metavar="N", validator=at_least_one, group=HOW, help="Random vectors for the trace [10].")
    ] = 10,
    whole: Annotated[
        bool,
        Parameter(
            name="--whole", negative="", group=HOW, help="Whole network only: layer groups take most of the time."
        ),
    ] = False,
    json: Json = False,
) -> int:
    """Measure how sharp the loss is at a run's checkpoints: Hessian, SAM, and the edge of stability."""
    from lrlab.cli.output import Output
    from lrlab.experiments import SharpnessPlan, measure_sharpness
    from lrlab.runs import find_runs

    plan = SharpnessPlan(samples, examples, batchnorm, by_group=not whole, num_vectors=vectors)
    output, measured = Output(json=json), list[dict[str, Any]]()

    def measure(run: Run) -> None:
        output.say(f"{run.directory}:")
        for found in measure_sharpness(run, plan, at=at):
            output.say(f"  {found.sentence}")
            measured.append({"run": str(run.directory), "step": found.step, "values": found.values()})

    code = _each(find_runs(path), measure, output)
    if not measured and not code:
        output.say("everything is measured already; lrlab report shows it")
    output.document({"measured": measured})
    return code


def generalisation(
    path: RunOrStudy,
    /,
    *,
    images: Annotated[
        int | None, Parameter(metavar="N", group=HOW, help="Held-out images to use, and as many training images [all].")
    ] = None,
    other: Annotated[
        str | None,
        Parameter(
            metavar="NAME",
            group=HOW,
            help="Data set of the linear probe: cifar10, cifar100, digits, folder:DIR [digits, unless trained on].",
        ),
    ] = None,
    other_dir: Annotated[
        Path | None, Parameter(metavar="DIR", group=HOW, help="Folder with its archive or files [a cache].")
    ] = None,
    settings: Annotated[
        list[str] | None,
        Parameter(
            name="--set",
            metavar="KEY=VALUE",
            group=HOW,
            help="Set a key of that data set, as data.test_fraction=0.2; repeatable.",
        ),
    ] = None,
    json: Json = False,
) -> int:
    """Measure how well a finished run generalises: gap, calibration, corruptions, and features."""
    from lrlab.cli.options import data_flags, read_config
    from lrlab.cli.output import Output
    from lrlab.config import ConfigError
    from lrlab.experiments import measure_generalisation
    from lrlab.runs import find_runs
    from lrlab.runs.afterwards import figures

    if (other_dir or settings) and not other:
        raise ConfigError("--other-dir and --set describe the data set of --other: name it with --other.")
    probed = read_config(None, data_flags(other, other_dir), settings).data if other else None
    output, measured = Output(json=json), list[dict[str, Any]]()

    def measure(run: Run) -> None:
        finding = measure_generalisation(run, num_images=images, other=probed)
        output.say(f"{run.directory}: update {finding['step']:,}, {finding['images']:,} {finding['split']} images")
        output.table(("", "value"), [(name, f"{value:.4f}") for name, value in figures(finding).items()])
        measured.append({"run": str(run.directory), "generalisation": finding})

    code = _each(find_runs(path), measure, output)
    output.document({"measured": measured})
    return code


def _each(runs: Sequence[Run], measure: Callable[[Run], None], output: Output) -> int:
    """Measure run after run; of several, one that cannot be measured is told and left out.

    Returns: the exit code of the first that could not be; 0 if all could.
    """
    code = 0
    for run in runs:
        try:
            measure(run)
        except Exception as error:
            known = getattr(error, "exit_code", None)
            if len(runs) == 1 or known is None:
                raise
            output.say(f"not measured: {error}")
            code = code or int(known)
    return code
