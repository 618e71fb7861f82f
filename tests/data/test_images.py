from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lrlab.data import DataError, ImageData, Split, image_data, set_aside, summary
from lrlab.data.images import channel_statistics


def split(labels: list[int], *, shape: tuple[int, ...] = (3, 2, 2)) -> Split:
    pixels = torch.arange(len(labels) * int(np.prod(shape))) % 256
    return Split(pixels.to(torch.uint8).view(len(labels), *shape), torch.tensor(labels, dtype=torch.int64))


def test_a_sound_data_set_keeps_what_it_was_given() -> None:
    data = image_data("toy", classes=["cat", "dog"], train=split([0, 1, 1]), test=split([1]))
    assert (data.name, data.classes, data.num_channels) == ("toy", ("cat", "dog"), 3)
    assert data.train.labels.tolist() == [0, 1, 1]
    assert len(data.test) == 1


def test_moving_a_data_set_moves_both_splits() -> None:
    data = image_data("toy", classes=["cat", "dog"], train=split([0, 1]), test=split([1])).to("meta")
    tensors = [data.train.images, data.train.labels, data.test.images, data.test.labels]
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_validation_images_are_training_images_set_aside_of_every_class() -> None:
    data = image_data("toy", classes=["cat", "dog"], train=split([0] * 10 + [1] * 20), test=split([0, 1]))
    held = set_aside(data, 0.2)
    assert held.validation is not None
    assert held.validation.labels.tolist() == [0] * 2 + [1] * 4
    assert held.train.labels.tolist() == [0] * 8 + [1] * 16
    whole = torch.cat([held.train.images, held.validation.images]).flatten(1)
    assert sorted(whole.tolist()) == sorted(data.train.images.flatten(1).tolist())
    assert torch.equal(held.test.images, data.test.images)
    name, evaluated = held.evaluated
    assert (name, len(evaluated), data.evaluated[0]) == ("validation", 6, "test")
    assert held.mean == channel_statistics("toy", held.train.images)[0] != data.mean
    assert held.to("meta").evaluated[1].images.device.type == "meta"


def test_a_class_with_a_single_training_image_is_named_with_the_key_that_sets_images_aside() -> None:
    data = image_data("toy", classes=["cat", "dog", "fox"], train=split([0, 0, 1, 2, 2]), test=split([0]))
    message = "^toy: data.validation_fraction splits every class, .* these have only one: 'dog'. Add some"
    with pytest.raises(DataError, match=message):
        set_aside(data, 0.2)


@pytest.mark.parametrize(
    ("classes", "train", "test", "message"),
    [
        ([], split([0]), split([0]), "at least two classes, got none"),
        (["cat"], split([0]), split([0]), "at least two classes, got only 'cat'"),
        (["cat", "dog", "cat"], split([0, 1, 2]), split([0]), "are repeated: 'cat'"),
        (["cat", "d\nog"], split([0, 1]), split([0]), r"printable text; rename 'd\\nog'"),
        (["cat", ""], split([0, 1]), split([0]), "printable text; rename ''"),
        (["cat", "\udcff"], split([0, 1]), split([0]), r"printable text; rename '\\udcff'"),
        (["a", "b", "c"], split([1, 1]), split([0]), "these have none: 'a', 'c'"),
        (["a", "b"], split([0, 1, 2, 7]), split([0]), r"toy train: labels must be 0 to 1, got 2 at image 2 .*2 such"),
        (["a", "b"], split([0, 1]), split([0, -1]), "toy test: labels must be 0 to 1, got -1 at image 1"),
        (["a", "b"], split([0, 1]), split([]), "toy test: there are no images"),
        (["a", "b"], split([0, 1]), split([0], shape=(1, 2, 2)), "the same shape, got 3x2x2 and 1x2x2"),
    ],
)
def test_wrong_data_is_named(classes: list[str], train: Split, test: Split, message: str) -> None:
    with pytest.raises(DataError, match=message):
        image_data("toy", classes=classes, train=train, test=test)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 3, 4, 4), torch.tensor([0, 1]), r"uint8, got \(2, 3, 4, 4\) of torch.float32"),
        (torch.zeros(2, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]), r"got \(2, 4, 4\) of torch.uint8"),
        (torch.zeros(2, 4, 4, 3, dtype=torch.uint8).permute(0, 3, 1, 2), torch.tensor([0, 1]), "contiguous"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0.0, 1.0]), "2 of int64, .* of torch.float32"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1, 1]), r"2 of int64, one an image, got \(3,\)"),
    ],
)
def test_wrong_tensors_are_named(images: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        image_data("toy", classes=["a", "b"], train=Split(images, labels), test=split([0]))


def test_a_channel_of_one_value_is_refused_rather_than_divided_by_zero() -> None:
    train = split([0, 1])
    train.images[:, 1] = 7
    with pytest.raises(DataError, match="channel 1 is 7 everywhere in all training images"):
        image_data("toy", classes=["a", "b"], train=train, test=split([0]))


@given(st.integers(1, 5), st.integers(1, 3), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_statistics_equal_those_of_the_pixels_in_double_precision(
    num_images: int, num_channels: int, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (num_images, num_channels, 3, 4), dtype=np.uint8)
    mean, std = channel_statistics("toy", torch.from_numpy(pixels))
    scaled = pixels.astype(np.float64) / 255
    # twelve pixels or more of rounding in the twin, none in ours
    np.testing.assert_allclose(mean, scaled.mean((0, 2, 3)), rtol=1e-13)
    np.testing.assert_allclose(std, scaled.std((0, 2, 3)), rtol=1e-13)


def test_statistics_do_not_depend_on_the_order_of_the_images() -> None:
    pixels = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (50, 3, 8, 8), dtype=np.uint8))
    assert channel_statistics("toy", pixels) == channel_statistics("toy", pixels.flip(0).contiguous())


def toy(train: list[int]) -> ImageData:
    return image_data("toy", classes=["cat", "dog"], train=split(train), test=split([0, 1]))


def test_the_summary_of_a_balanced_set_is_short() -> None:
    lines = summary(toy([0, 0, 1, 1])).splitlines()
    assert lines[0] == "toy: 2 classes, images 3x2x2 (channels x height x width)"
    assert lines[1] == "train: 4 images, 2 of each class"
    assert lines[2] == "test: 2 images, 1 of each class"
    assert lines[3].startswith("mean of each channel: 0.0")


def test_the_summary_of_an_unbalanced_set_counts_each_class() -> None:
    assert "train: 3 images, cat: 1, dog: 2" in summary(toy([1, 0, 1]))
