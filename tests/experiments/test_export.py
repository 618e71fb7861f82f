"""What is exported is the network of the run to the bit, and enough by itself; it replaces nobody else's files."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from launching import launch
from lrlab import load_trained
from lrlab.config import parse_config
from lrlab.data import ImageData, load_digits_data
from lrlab.experiments import Experiment, export_run, verify_run
from lrlab.experiments.export import ExportError
from lrlab.report import write_report
from lrlab.runs import find_runs, list_runs, read_run, sound_checkpoints
from lrlab.training.checkpoint import CheckpointError

TINY: dict[str, Any] = {"model": {"width": 2}, "steps": 12, "batch_size": 16, "schedule": {"name": "constant"}}
AVERAGED: dict[str, Any] = {**TINY, "averaging": {"decay": 0.9}}
GREY = load_digits_data()


def colour_folder(folder: Path) -> Path:
    """Two classes of coloured noise, on which a network can be trained."""
    random = np.random.default_rng(0)
    for split, number in (("train", 16), ("test", 4)):
        for label, level in (("dark", 60), ("light", 200)):
            (folder / split / label).mkdir(parents=True)
            for index in range(number):
                pixels = random.integers(level - 50, level + 50, (9, 7, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / label / f"{index}.png")
    return folder


def make(directory: Path, settings: Mapping[str, Any] = TINY, data: ImageData | None = None) -> Path:
    for _ in Experiment(parse_config(dict(settings)), data=data).run(directory):
        pass
    return directory


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("made") / "run", AVERAGED, GREY)


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "run")


def in_checkpoint(run: Path) -> dict[str, Tensor]:
    return load_file(sound_checkpoints(run)[0].path / "model.safetensors")


def assert_same_bits(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    assert list(one) == list(other)
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype
        assert tensor.numpy().tobytes() == other[name].numpy().tobytes(), name


@pytest.mark.parametrize("kind", ["plain", "averaged", "colour"])
def test_an_exported_network_is_that_of_the_checkpoint_to_the_bit(tmp_path: Path, kind: str) -> None:
    settings, data = (AVERAGED if kind == "averaged" else TINY), None if kind == "colour" else GREY
    if kind == "colour":
        folder = colour_folder(tmp_path / "images")
        settings = {**TINY, "data": {"name": "folder", "dir": str(folder)}}
    run = make(tmp_path / "run", settings, data)

    made = export_run(run, "safetensors")

    file = run / "export" / "model.safetensors"
    assert (made.path, made.step, made.bytes) == (file, 12, file.stat().st_size)
    assert_same_bits(load_file(file), in_checkpoint(run))
    assert {tensor.dtype for tensor in load_file(file).values()} == {torch.float32, torch.int64}  # of batches, counted
    images = load_trained(run).logits(torch.zeros(3, *load_trained(run).image_shape, dtype=torch.uint8))
    for place in (run / "export", file, str(file)):
        loaded = load_trained(place)
        assert loaded.description == load_trained(run).description
        assert_same_bits(loaded.model.state_dict(), load_trained(run).model.state_dict())
        assert torch.equal(loaded.logits(torch.zeros(3, *loaded.image_shape, dtype=torch.uint8)), images)
    shape = (3, 9, 7) if kind == "colour" else (1, 8, 8)
    assert (loaded.image_shape, len(loaded.mean), loaded.classes) == (
        shape,
        shape[0],
        ("dark", "light") if kind == "colour" else GREY.classes,
    )


def test_what_is_exported_of_averaged_weights_is_the_average(run: Path) -> None:
    export_run(run, "safetensors")
    state = torch.load(sound_checkpoints(run)[0].path / "state.pt", weights_only=True)
    exported = load_file(run / "export" / "model.safetensors")
    assert exported.keys() == state["weights"].keys()
    assert not torch.equal(exported["linear.weight"], state["weights"]["linear.weight"])


@pytest.mark.slow
def test_two_ranks_with_synchronised_normalisation_leave_a_plain_network(tmp_path: Path) -> None:
    settings = ("--width", "2", "--steps", "6", "--batch-size", "16", "--set", "model.batchnorm=synchronised")
    place = ("train", *settings, "--schedule", "constant", "--run", str(tmp_path / "run"))
    launched = launch(*place, log=tmp_path / "log")
    assert launched.wait() == 0, launched.text()
    export_run(tmp_path / "run", "safetensors")
    loaded = load_trained(tmp_path / "run" / "export")
    assert_same_bits(load_file(tmp_path / "run" / "export" / "model.safetensors"), in_checkpoint(tmp_path / "run"))
    right = loaded.probabilities(GREY.test.images).argmax(1) == GREY.test.labels
    assert float(right.double().mean()) == read_run(tmp_path / "run").result["test_accuracy"]
    assert {type(module) for module in loaded.model.modules()} == {
        type(module) for module in Experiment(parse_config(TINY), data=GREY).model.modules()
    }


def test_the_same_network_is_the_same_file(run: Path, tmp_path: Path) -> None:
    first, second = (export_run(str(run), "safetensors", out=str(tmp_path / name)) for name in ("one", "two"))
    assert first.path.read_bytes() == second.path.read_bytes()
    with safe_open(first.path, framework="pt") as file:
        assert list(file.metadata()) == ["lrlab"]  # of several, the order would change from one file to the next


def test_an_export_is_replaced_and_nothing_else(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    export_run(run, "safetensors", out=folder)
    (folder / "notes.txt").write_text("mine")
    old = (folder / "README.md").read_text()
    (folder / "README.md").write_text("stale")
    with pytest.raises(ExportError, match=r"README\.md: not replaced, since lrlab did not write it"):
        export_run(run, "safetensors", out=folder)
    (folder / "README.md").write_text(old.replace("It is one run of one seed", "It is the best there is"))
    with pytest.raises(ExportError, match=r"README\.md"):
        export_run(run, "safetensors", out=folder)
    (folder / "README.md").write_text(old)
    export_run(run, "safetensors", out=folder)
    assert (folder / "README.md").read_text() == old
    (folder / "model.safetensors").write_bytes((sound_checkpoints(run)[0].path / "model.safetensors").read_bytes())
    with pytest.raises(ExportError, match=r"model\.safetensors"):  # weights, but no export
        export_run(run, "safetensors", out=folder)
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "model.safetensors", "notes.txt"]
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_run_goes_on_is_verified_and_reported_beside_its_export(tmp_path: Path) -> None:
    run = make(tmp_path / "run", {**TINY, "checkpoint": {"every": 6}}, GREY)
    export_run(run, "safetensors")
    before = {path.name: path.read_bytes() for path in (run / "export").iterdir()}
    assert verify_run(run).differences == []
    write_report(run)
    assert (len(list_runs(tmp_path)), len(find_runs(run))) == (1, 1)

    for _ in Experiment(parse_config({**TINY, "checkpoint": {"every": 6}, "steps": 18}), data=GREY).run(
        run, resumes=True
    ):
        pass

    assert {path.name: path.read_bytes() for path in (run / "export").iterdir()} == before  # and says of which update
    assert load_trained(run / "export").description.step == 12
    assert load_trained(run).description.step == export_run(run, "safetensors").step == 18
    assert load_trained(run / "export").description.step == 18


def test_a_run_that_begins_anew_leaves_what_was_exported(run: Path) -> None:
    export_run(run, "safetensors")
    exported = (run / "export" / "model.safetensors").read_bytes()
    shutil.rmtree(run / "checkpoints")
    info = json.loads((run / "run.json").read_text())
    del info["checkpoint"]  # killed before it had one
    (run / "run.json").write_text(json.dumps(info | {"status": "running"}))
    for _ in Experiment(parse_config({**AVERAGED, "steps": 14}), data=GREY).run(run, resumes=True):
        pass
    assert (run / "export" / "model.safetensors").read_bytes() == exported


def test_what_is_read_back_otherwise_does_not_take_its_place(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save_wrong(tensors: dict[str, Tensor], **options: Any) -> bytes:
        return save({**tensors, "linear.bias": -tensors["linear.bias"]}, **options)

    monkeypatch.setattr("lrlab.experiments.network_file.save", save_wrong)
    with pytest.raises(CheckpointError, match="it is damaged: its SHA-256 differs"):
        export_run(run, "safetensors")
    assert list((run / "export").iterdir()) == []
