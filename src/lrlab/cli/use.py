"""The verbs that put to use what was trained; no logic. Each imports what it needs in its body."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from lrlab.cli.parameters import MACHINE, Device, Json
from lrlab.cli.parsing import at_least_one

SHOWN = Group.create_ordered("What to show")


def predict(
    path: Annotated[Path, Parameter(name="RUN", help="A run with a checkpoint.")],
    /,
    *images: Annotated[Path, Parameter(name="IMAGE...", help="Files, or folders of files.")],
    top: Annotated[
        int, Parameter(metavar="N", validator=at_least_one, group=SHOWN, help="Classes to name of each image [3].")
    ] = 3,
    device: Annotated[Device, Parameter(group=MACHINE)] = None,
    json: Json = False,
) -> int:
    """Name the classes of images by the network that a run ended with."""
    from lrlab.cli.output import Output
    from lrlab.config import ConfigError
    from lrlab.experiments import load_trained

    if not images:
        raise ConfigError("Name the images to predict: lrlab predict RUN IMAGE...")
    screen = Output(json=json)
    predictions = load_trained(path, device=device or "auto").predict_files(images)
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
    return 0
