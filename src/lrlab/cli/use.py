"""The verbs that put to use what was trained; no logic. Each imports what it needs in its body."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from lrlab.cli.parameters import MACHINE, RECORDS, Device, Json
from lrlab.cli.parsing import at_least_one

SHOWN = Group.create_ordered("What to show")


def predict(
    path: Annotated[Path, Parameter(name="RUN", help="A run with a checkpoint, or a network exported as safetensors.")],
    /,
    *images: Annotated[Path, Parameter(name="IMAGE...", help="Image files, or folders, subfolders included.")],
    top: Annotated[
        int,
        Parameter(
            metavar="N", validator=at_least_one, group=SHOWN, help="Most probable classes to show per image [3]."
        ),
    ] = 3,
    device: Annotated[Device, Parameter(group=MACHINE)] = None,
    json: Json = False,
) -> int:
    """Classify images with a trained network."""
    from lrlab.cli.output import Output
    from lrlab.config import ConfigError
    from lrlab.experiments import UnreadableError, load_trained

    if not images:
        raise ConfigError(f"{path}: no images given. Name them after the run: lrlab predict RUN IMAGE...")
    screen = Output(json=json)
    problem = None
    try:
        predictions = load_trained(path, device=device or "auto").predict_files(images)
    except UnreadableError as error:
        predictions, problem = list(error.predictions), error
    for found in predictions:
        best = ", ".join(f"{name} {100 * share:.1f} %" for name, share in islice(found.probabilities.items(), top))
        screen.say(f"{found.path}: {best}" + (f"  ({found.changed})" if found.changed else ""))
    documents = [
        {
            "image": str(found.path),
            "changed": found.changed,
            "probabilities": dict(islice(found.probabilities.items(), top)),
        }
        for found in predictions
    ]
    screen.document({"run": str(path), "predictions": documents})
    if problem is not None:  # last, so that it is seen
        raise problem
    return 0


def export(
    path: Annotated[Path, Parameter(name="RUN", help="A run with a checkpoint.")],
    /,
    *,
    file_format: Annotated[
        Literal["safetensors", "onnx"],
        Parameter(
            name="--format",
            metavar="safetensors|onnx",
            group=RECORDS,
            help="Weights with a model card, or a graph that takes images as bytes.",
        ),
    ],
    out: Annotated[
        Path | None, Parameter(metavar="DIR", group=RECORDS, help="Folder for the files [export, in the run].")
    ] = None,
    data_dir: Annotated[
        Path | None,
        Parameter(
            metavar="DIR",
            group=MACHINE,
            help="Folder with the images to check an ONNX graph on [the run's own].",
        ),
    ] = None,
    device: Annotated[Device, Parameter(group=MACHINE)] = None,
    json: Json = False,
) -> int:
    """Export a run's network, and check the exported files."""
    from lrlab.cli.output import Output
    from lrlab.config import ConfigError
    from lrlab.experiments import export_run

    if data_dir and file_format != "onnx":
        raise ConfigError("--data-dir: only the check of --format onnx needs images. Leave it out.")
    screen = Output(json=json)
    made = export_run(path, file_format, out=out, data_dir=data_dir, device=device or "auto")
    screen.say(f"{made.path}: {made.bytes:,} bytes, the network after update {made.step:,}")
    screen.say(f"checked: {made.sentence}")
    if made.removed:
        screen.say(f"deleted, being of another network: {', '.join(made.removed)}")
    screen.document({"run": str(path), **made.document()})
    return 0
