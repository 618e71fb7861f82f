"""What comes out of the code that the README and the page on schedules show; tests/test_docs.py runs all of it."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from lrlab.cli import main
from lrlab.config import parse_config
from lrlab.experiments.build_scheduler import build_scheduler
from lrlab.models import resnet18
from lrlab.schedulers import LayerwiseLR, SlopeLR

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SCHEDULES = (ROOT / "docs" / "schedules.md").read_text()


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def test_the_loop_of_ones_own_runs() -> None:
    code, _ = blocks("python")
    torch.manual_seed(0)
    model = resnet18(num_classes=3, width=2)
    names = {
        "model": model,
        "optimizer": torch.optim.Adam(model.parameters()),
        "criterion": nn.CrossEntropyLoss(),
        "loader": [(torch.randn(2, 3, 8, 8), torch.tensor([0, 2])) for _ in range(50)],
    }
    exec(compile(code, "README.md", "exec"), names)
    rows = names["rows"]
    assert isinstance(rows, dict)
    assert list(rows) == [25, 50]
    assert rows[25]["grad_l2/stem"] > 0


def test_what_was_trained_is_loaded_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, code = blocks("python")
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--width", "2", "--steps", "2", "--schedule", "constant", "--run", "runs/first"]) == 0
    Image.new("L", (30, 30), 200).save("photo.jpg")
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    [prediction] = names["predictions"]
    assert sum(prediction.probabilities.values()) == pytest.approx(1)


def test_the_defaults_on_the_page_on_schedules_are_those_of_the_configuration() -> None:
    found = 0
    for name, keys in re.findall(r"^\| `(\w+)`[^|]*\|[^|]+\|([^|]*)\|[^|]*\|$", SCHEDULES, re.M):
        for key, default in re.findall(r"`(\w+) = ([^`]+)`", keys):
            config = parse_config({"schedule": {"name": name}})
            left_out = [None] if name == "slope" else []  # which stands for the default of the rule itself
            assert getattr(config.schedule, key) in [tomllib.loads(f"x = {default}")["x"], *left_out], f"{name}: {key}"
            found += 1
    assert found == 33
    # those that are left out stand for the rule's own
    slope = SlopeLR(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0))
    assert (slope.window, slope.level, slope.min_progress, slope.check_every) == (1000, 0.05, 0.0, 250)


def test_the_tables_of_the_page_on_schedules_are_a_configuration() -> None:
    phases, layers = (tomllib.loads(block) for block in blocks("toml", SCHEDULES))
    config = parse_config({**phases, **layers})
    assert config.phases.lengths(1000) == (20, 300)
    assert set(config.layer_rates) == {"stem", "layer[34]", "linear"}
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "name": name} for name in ("stem", "layer3", "linear")]
    assert isinstance(build_scheduler(config, torch.optim.Adam(groups), num_steps=1000), LayerwiseLR)


def test_the_tree_names_every_folder_of_the_package() -> None:
    folders = {path.name for path in (ROOT / "src" / "lrlab").iterdir() if (path / "__init__.py").exists()}
    assert {name for name in folders if f"`src/lrlab/{name}/`" not in README} == set()
