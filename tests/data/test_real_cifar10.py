"""On the real images, which lie beside the repository where they are at hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lrlab.config import DataConfig
from lrlab.data import CIFAR10, ImageData, load_cifar
from lrlab.experiments import check_data_set

SPRITES = Path(__file__).parents[2].parent / "shared" / "cifar10"

pytestmark = pytest.mark.skipif(not (SPRITES / "unpack.py").is_file(), reason="../shared/cifar10 is absent")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cifar10")
    subprocess.run([sys.executable, str(SPRITES / "unpack.py"), str(folder)], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def data(directory: Path) -> ImageData:
    return load_cifar(CIFAR10, directory)


def test_there_are_fifty_and_ten_thousand_images_in_ten_equal_classes(data: ImageData) -> None:
    assert data.train.images.shape == (50_000, 3, 32, 32)
    assert data.test.images.shape == (10_000, 3, 32, 32)
    assert torch.bincount(data.train.labels).tolist() == [5_000] * 10
    assert torch.bincount(data.test.labels).tolist() == [1_000] * 10
    assert (data.classes[0], data.classes[9]) == ("airplane", "truck")


def test_mean_and_deviation_are_the_known_ones(data: ImageData) -> None:
    assert data.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=5e-5)
    assert data.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=5e-5)


def test_the_files_give_the_same_in_their_own_folder(directory: Path, data: ImageData) -> None:
    direct = load_cifar(CIFAR10, directory / "cifar-10-batches-bin")
    assert torch.equal(direct.test.images, data.test.images)


def test_a_check_states_the_counts(directory: Path) -> None:
    text = check_data_set(DataConfig(name="cifar10", dir=directory, validation_fraction=0.1))
    assert "train: 45,000 images, 4,500 of each class" in text
    assert "validation: 5,000 images, 500 of each class" in text
    assert "test: 10,000 images, 1,000 of each class" in text
    assert "read from" in text.splitlines()[-1]
