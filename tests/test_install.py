"""What is built installs into a fresh environment, and without extras does everything but what the extras are for."""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib.metadata import distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, and the wheel built from it, not from the tree."""
    folder = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def fresh(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs of a fresh environment with the wheel in it and what it needs, no extras."""
    folder = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", str(folder / "bin" / "python")]
    (wheel,) = built.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--no-index", str(wheel)], check=True)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    for needed in needed_by("lrlab", packages) - {"lrlab"}:  # linked from here: to install torch anew takes a minute
        for file in distribution(needed).files or ():
            if ".." not in file.parts:  # a program
                (packages / file).parent.mkdir(parents=True, exist_ok=True)
                (packages / file).symlink_to(file.locate())
    subprocess.run([*pip, "check"], check=True)
    return folder / "bin"


def needed_by(name: str, packages: Path) -> set[str]:
    """A distribution in a folder, and all that it needs without extras, which is here."""
    (begun,) = distributions(name=name, path=[str(packages)])
    needed, asked = {name}, [Requirement(text) for text in begun.requires or ()]
    while asked:
        requirement = asked.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        assert not requirement.extras, f"{requirement}: its extras are not followed here"
        if (one := canonicalize_name(requirement.name)) not in needed:
            needed.add(one)
            asked += map(Requirement, distribution(one).requires or ())
    return needed


def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    tracked = subprocess.run(["git", "ls-files", "src"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert names == {name.removeprefix("src/") for name in tracked.splitlines()}


def test_the_source_distribution_holds_what_is_tracked(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert {name for name in tracked if name.startswith(("src/", "tests/", "docs/", "examples/"))} <= names
    assert not {name for name in names if name.startswith(("data/", "runs/", ".venv"))}


def test_a_fresh_environment_does_everything_but_what_the_extras_are_for(fresh: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for index in range(3):
        Image.new("L", (20, 20), 80 * index).save(tmp_path / "photos" / f"{index}.png")
    (tmp_path / "log.csv").write_text("step,loss\n" + "".join(f"{step},{2 / step}\n" for step in range(1, 101)))
    (tmp_path / "study.toml").write_text(
        'name = "two"\nseeds = [0, 1]\nbase = {steps = 4, model.width = 2, telemetry.every = 100}\n'
        '[arms]\none.schedule.name = "constant"\nother.schedule.name = "cosine"\n'
    )
    small = ["--width", "2", "--steps", "20", "--batch-size", "16", "--set", "telemetry.every=100"]
    commands = [
        ["train", *small, "--schedule", "slope", "--set", "checkpoint.every=10", "--run", "runs/first"],
        ["verify", "runs/first"],
        ["study", "study.toml", "--workers", "2"],
        ["compare", "runs/two"],
        ["report", "runs/two"],
        ["runs"],
        ["predict", "runs/first", "photos"],
        ["export", "runs/first", "--format", "safetensors"],
        ["preview", "--schedule", "wsd", "--steps", "100"],
        ["replay", "log.csv", "--schedule", "slope", "--set", "schedule.window=20"],
        ["import", "log.csv", "--out", "runs/brought", "--seed", "0"],
        ["sharpness", "runs/first", "--examples", "32", "--samples", "1"],
        ["generalisation", "runs/first", "--images", "50"],
        ["data", "check", "digits"],
    ]
    ended = run(fresh / "python", "-c", MANY, json.dumps(commands), folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert json.loads((tmp_path / "codes.json").read_text()) == [0] * len(commands), ended.stderr
    assert json.loads((tmp_path / "runs" / "first" / "run.json").read_text())["status"] == "complete"

    commands_with_extras = {
        "onnx": ["export", "runs/first", "--format", "onnx"],
        "ray": ["study", "study.toml", "--ray", "local"],
        "trackers": ["track", "runs/first", "--to", "wandb"],
    }
    ended = run(fresh / "python", "-c", MANY, json.dumps(list(commands_with_extras.values())), folder=tmp_path)
    assert json.loads((tmp_path / "codes.json").read_text()) == [2] * len(commands_with_extras), ended.stderr
    for extra in commands_with_extras:
        assert f"pip install 'lrlab[{extra}]'" in ended.stderr


def test_the_command_is_on_the_path(fresh: Path, tmp_path: Path) -> None:
    ended = run(fresh / "lrlab", "doctor", folder=tmp_path)
    assert (ended.returncode, "precision" in ended.stdout) == (0, True), ended.stderr


OF_THIS_PROCESS = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE")

MANY = """
import json, pathlib, sys
from lrlab.cli import main
codes = [main(command) for command in json.loads(sys.argv[1])]
pathlib.Path("codes.json").write_text(json.dumps(codes))
"""
"""Commands in one process, which is as long as one in starting; their exit codes go into a file."""


def run(*command: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder, away from this tree and its environment."""
    kept = {name: value for name, value in os.environ.items() if name not in OF_THIS_PROCESS}
    return subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True, check=False)
