"""The verbs that say what there is, of runs and of machine; no logic. Each imports what it needs in its body."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from lrlab.cli.parameters import Json

if TYPE_CHECKING:
    from lrlab.runs import Run


def runs(
    path: Annotated[Path, Parameter(name="FOLDER", help="Folder to search, subfolders included [runs].")] = Path(
        "runs"
    ),
    /,
    *,
    json: Json = False,
) -> int:
    """List the runs in a folder, with their settings, status and results."""
    from lrlab.cli.output import Output
    from lrlab.runs import list_runs

    found, screen = list_runs(path), Output(json=json)
    header = ("run", "data", "schedule", "lr", "seed", "status", "updates", "acc., %", "written")
    screen.table(header, [_row(run, path) for run in found])
    if any(run.is_abandoned for run in found):
        screen.say(
            "abandoned: run.json says running, but no process is writing the run: it was killed, or the folder is a "
            "copy. lrlab resume RUN continues from the last checkpoint."
        )
    screen.document({"runs": [_plain(run) for run in found]})
    return 0


def _row(run: Run, folder: Path) -> tuple[str, ...]:
    from lrlab.runs.storage import INFO

    name = run.place.name if run.directory == folder else str(run.directory.relative_to(folder))
    written = datetime.fromtimestamp((run.directory / INFO).stat().st_mtime)
    when = "%H:%M" if written.date() == datetime.now().date() else "%Y-%m-%d"
    steps, accuracy, lr = run.result.get("steps"), _accuracy(run), run.base_lr
    return (
        name,
        str(run.config["data"]["name"]),
        str(run.config["schedule"]["name"]),
        "-" if lr is None else f"{lr:g}",
        str(run.seed),
        "abandoned" if run.is_abandoned else run.status,
        "-" if steps is None else f"{steps:,}",
        "-" if accuracy is None else f"{100 * accuracy:.2f}",
        f"{written:{when}}",
    )


def _plain(run: Run) -> dict[str, Any]:
    return {
        "run": str(run.directory),
        "data": run.config["data"]["name"],
        "model": run.config["model"]["name"],
        "schedule": run.config["schedule"]["name"],
        "optimizer": run.config.get("optimizer", {}).get("name"),
        "lr": run.base_lr,
        "seed": run.seed,
        "status": run.status,
        "abandoned": run.is_abandoned,
        "result": dict(run.result),
    }


def _accuracy(run: Run) -> float | None:
    found: float | None = run.result.get(f"{run.evaluated_split}_accuracy")
    return found


def doctor(*, json: Json = False) -> int:
    """Show what this machine offers for training, and what a run on it will use."""
    from lrlab.cli.output import Output
    from lrlab.experiments import diagnose

    found, screen = diagnose(), Output(json=json)
    for section, lines in found.items():
        screen.say(section)
        for name, text in lines.items():
            screen.say(f"  {name:<12} {text}")
    screen.document(found)
    return 0


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(name="SHELL", help="bash, zsh or fish.")], /
) -> int:
    """Print a shell's completion script, to load with eval "$(lrlab completion bash)"."""
    from lrlab.cli.app import app
    from lrlab.cli.output import Output

    Output(json=False).console.file.write(app.generate_completion(shell=shell))
    return 0
