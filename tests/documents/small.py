"""What makes a command of the documents small enough for a test, and the commands that are no more than parsed."""

import json
import tomllib
from pathlib import Path
from typing import Any

import tomli_w

STEPS = 4
MANY_STEPS = 100
"""So many that a run is still under way when it is interrupted."""
TINY = ["--width", "2", "--batch-size", "8"]
UNWATCHED = ["--set", "telemetry.every=1000000", "--set", "telemetry.outputs_every=1000000"]
"""No gradients: to draw them takes a process longer than a small run."""

SMALL: dict[str, dict[str, list[str]]] = {
    "train": {"--epochs": [], "--steps": [], "--width": [], "--batch-size": [], "": [*TINY, "--steps", str(STEPS)]},
    "resume": {"--epochs": [], "--steps": []},
    "study": {"--workers": [], "--ray": [], "--cpus": [], "--gpus": []},  # tests/studies has workers and clusters
    "lr-find": {"--width": [], "--batch-size": [], "--steps": [], "": [*TINY, "--steps", "20", "--seeds", "2"]},
    "calibrate": {"": ["--traces", "20"]},
    "replay": {"": ["--set", "schedule.check_every=1"]},
    "sharpness": {"--at": [], "--examples": [], "--vectors": [], "": ["--whole", "--examples", "8", "--vectors", "1"]},
    "generalisation": {"--images": [], "": ["--images", "20"]},
}
"""Verb -> option -> what stands in its place; and at the end of the command, under the empty option."""

PARSED = {
    "cd": "a test has a folder of its own",
    "export": "a setting of the shell",
    "source": "a setting of the shell",
    "make": "its target must be there; the tests are one of them",
    "pip": "its extras must be there; packages are not installed in a test",
    "ray": "a cluster; tests/studies/test_ray.py has one",
    "tensorboard": "a server, which does not end",
    "python benchmarks": "hours; tests/test_benchmarks.py tries what they are made of",
    "python examples": "tests/test_examples.py runs them all",
    "python -m": "makes an environment",
}
"""First words of a command -> why it is not run."""

MOST_SEEDS, MOST_RATES = 2, 2


def small_command(words: list[str], *, is_interrupted: bool) -> list[str]:
    """The words after lrlab, made small. A run that is complete and resumed gets more updates."""
    changes = SMALL.get(words[0], {})
    kept, rest = [words[0]], list(words[1:])
    while rest:
        word = rest.pop(0)
        if word in changes:
            kept += changes[word]
            rest.pop(0)
        else:
            kept.append(word)
    kept += changes.get("", [])[: -2 if is_interrupted else None]  # all but --steps
    if is_interrupted:
        kept += ["--set", f"steps={MANY_STEPS}"]
    if words[0] == "resume":
        info = json.loads((Path(words[1]) / "run.json").read_text())
        kept += ["--steps", str(info["result"]["steps"] + STEPS)] if info["status"] == "complete" else []
    return kept


def small_study(text: str) -> str:
    """A study file with the same arms: digits, width 2, few updates, few seeds and rates."""
    study: dict[str, Any] = tomllib.loads(text)
    study["seeds"] = study["seeds"][:MOST_SEEDS]
    if "tune" in study:
        study["tune"] |= {key: study["tune"][key][:MOST_RATES] for key in ("rates", "seeds")}
    base = study.setdefault("base", {})
    base.pop("epochs", None)
    base |= {"steps": STEPS, "batch_size": 8}
    base.setdefault("data", {})["name"] = "digits"
    base["data"].pop("dir", None)
    base.setdefault("model", {})["width"] = 2
    base.setdefault("engine", {})["threads"] = 1
    base.setdefault("evaluate", {})["every"] = 2
    telemetry = base.setdefault("telemetry", {})
    telemetry |= dict.fromkeys(telemetry, 1)
    for arm in study["arms"].values():
        if "width" in arm.get("model", {}):
            arm["model"]["width"] = 3
    return tomli_w.dumps(study)
