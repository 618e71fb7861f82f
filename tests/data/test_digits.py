from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from lrlab.data import load_digits_data


def test_digits_are_all_1797_grey_images_of_ten_classes() -> None:
    data = load_digits_data()
    assert data.classes == tuple("0123456789")
    assert data.num_channels == 1
    assert data.train.images.shape[1:] == (1, 8, 8)
    assert (len(data.train), len(data.test)) == (1438, 359)


def test_every_class_gives_the_same_share_for_testing() -> None:
    data = load_digits_data(test_fraction=0.25)
    train, test = (torch.bincount(split.labels, minlength=10) for split in (data.train, data.test))
    assert ((test - 0.25 * (train + test)).abs() <= 0.5).all()


def test_pixels_are_scaled_to_bytes_and_no_image_is_lost() -> None:
    data = load_digits_data()
    raw = load_digits()
    expected = sorted(bytes(np.rint(image * 255 / 16).astype(np.uint8)) for image in raw.images)
    ours = sorted(bytes(image.numpy()) for image in torch.cat([data.train.images, data.test.images]))
    assert ours == expected
    assert int(data.train.images.max()) == 255


def test_labels_stay_with_their_images() -> None:
    raw = load_digits()
    label_of = {
        bytes(np.rint(image * 255 / 16).astype(np.uint8)): label
        for image, label in zip(raw.images, raw.target.tolist(), strict=True)
    }
    for split in (load_digits_data().train, load_digits_data().test):
        assert split.labels.tolist() == [label_of[bytes(image.numpy())] for image in split.images]


def test_the_test_set_is_the_one_that_earlier_versions_had() -> None:
    data = load_digits_data()
    digest = hashlib.sha256(data.test.images.numpy().tobytes() + data.test.labels.numpy().tobytes()).hexdigest()
    assert digest[:16] == "43a609f02b0baa19"


def test_a_fraction_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        load_digits_data(test_fraction=1.5)
