"""The verbs that go on with a run, and show that it can be gone on with; no logic. Each imports what it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lrlab.cli.parameters import LENGTH, Json, Settings

DIFFERS = 5


def resume(
    path: Annotated[Path, Parameter(name="RUN", help="A stopped run, or a complete one to extend.")],
    /,
    *,
    epochs: Annotated[int | None, Parameter(metavar="N", group=LENGTH, help="Total passes over the images.")] = None,
    steps: Annotated[int | None, Parameter(metavar="N", group=LENGTH, help="Total optimizer updates.")] = None,
    settings: Settings = None,
    json: Json = False,
) -> int:
    """Continue a run from its newest intact checkpoint, as if it had never stopped."""
    from lrlab.cli.launch import make_run, rank
    from lrlab.cli.options import read_config
    from lrlab.runs import check_resumable, lock_run, read_run

    made = read_run(path)
    checked = read_config(made.directory / "config.toml", {"epochs": epochs, "steps": steps}, settings)
    if rank() == 0:
        with lock_run(
            path
        ):  # given back at once: that another process has it is better known before anything is loaded
            check_resumable(path, checked)
    return make_run(checked, path, resumes=True, json=json)


def verify(
    path: Annotated[Path, Parameter(name="RUN", help="A run with at least two checkpoints.")],
    /,
    *,
    json: Json = False,
) -> int:
    """Repeat the updates between a run's last two checkpoints, and compare every byte."""
    from lrlab.cli.display import Display
    from lrlab.experiments import verify_run

    display = Display(json=json)
    found = verify_run(path)
    display.say(found.sentence)
    display.document({"run": str(path), "first": found.first, "last": found.last, "differences": found.differences})
    return DIFFERS if found.differences else 0
