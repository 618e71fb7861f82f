"""How well a run generalises: each figure by its definition, where it is written, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from lrlab.config import ConfigError, DataConfig, parse_config
from lrlab.data import CORRUPTIONS, DataError, ImageData, corrupt, load_digits_data, normalise, shifted
from lrlab.experiments import Experiment, measure_generalisation
from lrlab.models import resnet18
from lrlab.runs import LockedError, RunError, lock_run, read_run
from lrlab.training import calibrate

TABLE = {
    "model": {"width": 2}, "steps": 40, "batch_size": 32, "schedule": {"name": "constant"},
    "optimizer": {"name": "adam", "lr": 0.01},
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("made") / "run"
    list(Experiment(parse_config(TABLE), data=load_digits_data()).run(directory))
    return directory


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "run")


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images in two classes, of another size than the digits and in colour."""
    folder, random = tmp_path_factory.mktemp("colours"), np.random.default_rng(0)
    for split, number in (("train", 20), ("test", 6)):
        for name, low in (("dark", 0), ("light", 120)):
            (folder / split / name).mkdir(parents=True)
            for index in range(number):
                pixels = random.integers(low, low + 100, (12, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{index}.png")
    return folder


def network(run: Path) -> torch.nn.Module:
    model = resnet18(num_classes=10, in_channels=1, width=2).to(memory_format=torch.channels_last)
    (weights,) = (run / "checkpoints").glob("step-000040/model.safetensors")
    model.load_state_dict(load_file(weights))
    return model.eval()


@torch.no_grad()
def logits_of(model: torch.nn.Module, images: Tensor, data: ImageData) -> Tensor:
    inputs = normalise(images, mean=data.mean, std=data.std)
    logits: Tensor = model(inputs.contiguous(memory_format=torch.channels_last))
    return logits


def accuracy(logits: Tensor, labels: Tensor) -> float:
    return (logits.argmax(1) == labels).double().mean().item()


def test_each_figure_is_what_its_name_says(run: Path) -> None:
    found = measure_generalisation(read_run(run))

    data, model = load_digits_data(), network(run)
    logits, labels = logits_of(model, data.test.images, data), data.test.labels
    assert found["step"] == 40 and found["split"] == "test" and found["images"] == len(labels)
    assert found["accuracy"] == read_run(run).result["test_accuracy"] == accuracy(logits, labels)
    assert found["loss"] == pytest.approx(read_run(run).result["test_loss"], rel=1e-5)
    assert found["train_images"] == len(labels)
    assert found["accuracy_gap"] == pytest.approx(found["train_accuracy"] - found["accuracy"])
    assert found["loss_gap"] == pytest.approx(found["loss"] - found["train_loss"])
    everything = logits_of(model, data.train.images, data)
    # of a random sample of the training images
    assert found["train_accuracy"] == pytest.approx(accuracy(everything, data.train.labels), abs=0.1)
    assert found["train_loss"] == pytest.approx(F.cross_entropy(everything, data.train.labels).item(), rel=0.2)
    assert found["ece"] == pytest.approx(calibrate(logits, labels).ece, abs=1e-5)
    assert sum(one["count"] for one in found["reliability"]) == len(labels)
    for kind in CORRUPTIONS:
        expected = [accuracy(logits_of(model, corrupt(data.test.images, kind, s), data), labels) for s in range(1, 6)]
        assert found["corruptions"][kind] == pytest.approx(expected, abs=0.01)
    every = [value for values in found["corruptions"].values() for value in values]
    assert found["corrupted_accuracy"] == pytest.approx(np.mean(every))
    predictions = logits.argmax(1)

    def share_same(images: Tensor) -> float:
        return (logits_of(model, images, data).argmax(1) == predictions).double().mean().item()

    assert found["mirror_consistency"] == pytest.approx(share_same(data.test.images.flip(3)), abs=0.01)
    moves = [(1, 0), (-1, 0), (0, 1), (0, -1)]
    shares = [share_same(shifted(data.test.images, down=down, right=right)) for down, right in moves]
    assert found["shift_consistency"] == pytest.approx(np.mean(shares), abs=0.01)
    assert found["linear_probe"] is None  # the digits are what it learnt


def test_it_is_in_run_json_and_tensorboard_and_gone_once_the_run_goes_on(run: Path) -> None:
    found = measure_generalisation(read_run(run), num_images=50)
    assert found["images"] == found["train_images"] == 50
    assert read_run(run).info["generalisation"] == found
    events = EventAccumulator(str(run)).Reload()
    (event,) = events.Scalars("generalisation/ece")
    assert (event.step, event.value) == (40, pytest.approx(found["ece"]))
    assert read_run(run).result["steps"] == 40

    list(Experiment(parse_config({**TABLE, "steps": 45}), data=load_digits_data()).run(run, resumes=True))
    assert "generalisation" not in read_run(run).info


def test_the_linear_probe_is_a_logistic_regression_on_what_the_last_layer_is_given(run: Path, colours: Path) -> None:
    found = measure_generalisation(read_run(run), num_images=20, other=DataConfig(name="folder", dir=colours))

    assert found["linear_probe"] == {
        "data": f"folder:{colours}",
        "train_images": 40,
        "test_images": 12,
        "accuracy": found["linear_probe"]["accuracy"],
    }
    model, data = network(run), load_digits_data()
    sides = {}
    for split in ("train", "test"):
        images, labels = [], []
        for label, name in enumerate(("dark", "light")):
            for path in sorted((colours / split / name).iterdir(), key=lambda path: path.name):
                pixels = torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1).float()
                images.append(pixels.mean(0, keepdim=True))
                labels.append(label)
        grey = F.interpolate(torch.stack(images), (8, 8), mode="bilinear", antialias=True).round().to(torch.uint8)
        with torch.no_grad():
            out = normalise(grey, mean=data.mean, std=data.std).contiguous(memory_format=torch.channels_last)
            for name in ("stem", "layer1", "layer2", "layer3", "layer4"):
                out = model.get_submodule(name)(out)
        sides[split] = out.mean((2, 3)).numpy(), np.array(labels)
    scaler = StandardScaler().fit(sides["train"][0])
    probe = LogisticRegression(max_iter=1000).fit(scaler.transform(sides["train"][0]), sides["train"][1])
    expected = probe.score(scaler.transform(sides["test"][0]), sides["test"][1])
    assert found["linear_probe"]["accuracy"] == pytest.approx(expected)
    assert expected > 0.5  # dark and light are told apart


def test_a_test_split_may_be_larger_than_the_training_split(tmp_path: Path) -> None:
    list(Experiment(parse_config({**TABLE, "steps": 2, "data": {"test_fraction": 0.6}})).run(tmp_path / "run"))
    finding = measure_generalisation(read_run(tmp_path / "run"))
    assert finding["train_images"] < finding["images"]
    assert finding["train_images"] + finding["images"] == 1797


def test_what_cannot_be_measured_is_refused(run: Path) -> None:
    with pytest.raises(ConfigError, match="--images must be at least 1, got 0"):
        measure_generalisation(read_run(run), num_images=0)
    with pytest.raises(ConfigError, match=r"--images must be at most 3\d\d, .* got 5,000"):
        measure_generalisation(read_run(run), num_images=5000)
    with pytest.raises(ConfigError, match="trained on digits: give the linear probe another data set"):
        measure_generalisation(read_run(run), other=DataConfig(name="digits"))
    with lock_run(run), pytest.raises(LockedError):
        measure_generalisation(read_run(run))
    with pytest.raises(DataError):  # before the network is measured
        measure_generalisation(read_run(run), other=DataConfig(name="folder", dir=run / "nothing"))
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(RunError, match="it has no checkpoint"):
        measure_generalisation(read_run(run))


def test_with_an_average_it_is_the_average_that_is_measured(tmp_path: Path) -> None:
    table = {**TABLE, "averaging": {"decay": 0.9}}
    list(Experiment(parse_config(table), data=load_digits_data()).run(tmp_path / "run"))
    found = measure_generalisation(read_run(tmp_path / "run"))
    assert found["accuracy"] == read_run(tmp_path / "run").result["test_accuracy"]
