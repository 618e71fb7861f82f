from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lrlab.data import (
    Augmentation,
    Batches,
    DataError,
    ImageData,
    Split,
    evaluation_batches,
    image_data,
    normalise,
    order,
)
from lrlab.data.augment import augmented, draw, draw_centres

AUGMENTATION = Augmentation(flip=True, crop_padding=2)


def toy(num_train: int = 23, *, num_channels: int = 3) -> ImageData:
    """Two classes; the label and the first pixel tell which example one is looking at."""
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (num_train, num_channels, 6, 5), dtype=np.uint8))
    images[:, 0, 0, 0] = torch.arange(num_train).to(torch.uint8)
    labels = torch.arange(num_train) % 2
    return image_data("toy", classes=["a", "b"], train=Split(images, labels), test=Split(images[:7], labels[:7]))


def in_double(data: ImageData, pixels: torch.Tensor) -> torch.Tensor:
    """The twin of normalisation: pixel by pixel, in double precision."""
    result = torch.empty(pixels.shape, dtype=torch.float64)
    for image, channel in np.ndindex(*pixels.shape[:2]):
        result[image, channel] = (pixels[image, channel].double() / 255 - data.mean[channel]) / data.std[channel]
    return result


def close(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    # float32 rounds the byte-scale mean, the difference and the quotient: a few parts in 1e7 of values up to 4
    return actual.dtype == torch.float32 and torch.allclose(actual.double(), expected, rtol=0, atol=3e-6)


@given(batch_size=st.integers(1, 23), seed=st.integers(0, 2**32 - 1), augment=st.booleans(), step=st.integers(1, 60))
@settings(deadline=None, max_examples=60)
def test_a_batch_is_what_its_definition_says(batch_size: int, seed: int, augment: bool, step: int) -> None:
    data, augmentation = toy(), AUGMENTATION if augment else Augmentation()
    batch = Batches(data, batch_size=batch_size, seed=seed, augmentation=augmentation).batch(step)

    steps_per_epoch = 23 // batch_size
    epoch = 1
    while step > epoch * steps_per_epoch:
        epoch += 1
    first = (step - 1 - (epoch - 1) * steps_per_epoch) * batch_size
    chosen = order(seed, epoch, 23)[first : first + batch_size]
    draws = draw(augmentation, seed=seed, epoch=epoch, num_examples=23)

    assert (batch.step, batch.epoch) == (step, epoch)
    assert batch.labels.tolist() == data.train.labels[chosen].tolist()
    assert close(batch.images, in_double(data, augmented(data.train.images, chosen, draws)))


def test_each_epoch_visits_no_example_twice_and_drops_only_the_remainder() -> None:
    data = toy(23)
    batches = Batches(data, batch_size=4, seed=0)
    assert batches.steps_per_epoch == len(batches) == 5
    for epoch in (1, 2, 3):
        seen = []
        for step in range((epoch - 1) * 5 + 1, epoch * 5 + 1):
            batch = batches.batch(step)
            assert batch.epoch == epoch
            seen += (batch.images[:, 0, 0, 0] * data.std[0] * 255 + data.mean[0] * 255).round().int().tolist()
        assert len(set(seen)) == 20


def test_a_resumed_run_meets_the_same_batches() -> None:
    data = toy()
    kept = Batches(data, batch_size=4, seed=3, augmentation=AUGMENTATION)
    expected = [kept.batch(step) for step in range(1, 13)]
    for step in (7, 12, 1, 6):
        fresh = Batches(data, batch_size=4, seed=3, augmentation=AUGMENTATION).batch(step)
        assert torch.equal(fresh.images, expected[step - 1].images)
        assert torch.equal(fresh.labels, expected[step - 1].labels)


def test_steps_may_be_asked_for_in_any_order() -> None:
    batches = Batches(toy(), batch_size=4, seed=3, augmentation=AUGMENTATION)
    first = batches.batch(1).images
    batches.batch(40)
    assert torch.equal(batches.batch(1).images, first)


def test_how_an_example_is_augmented_does_not_depend_on_the_batch_size() -> None:
    data = toy(24)

    def by_example(batch_size: int) -> dict[int, torch.Tensor]:
        batches = Batches(data, batch_size=batch_size, seed=9, augmentation=AUGMENTATION)
        images = torch.cat([batches.batch(step).images for step in range(1, len(batches) + 1)])
        return dict(zip(order(9, 1, 24).tolist(), images, strict=True))

    one_by_one = by_example(1)
    for batch_size in (2, 3, 8, 24):
        for index, image in by_example(batch_size).items():
            assert torch.equal(image, one_by_one[index])


@pytest.mark.parametrize("num_parts", [1, 2, 4])
def test_the_parts_of_a_batch_in_their_order_are_the_batch(num_parts: int) -> None:
    batches = Batches(toy(), batch_size=8, seed=3, augmentation=Augmentation(flip=True, crop_padding=2, cutout=2))
    for step in (1, 2, 5):
        whole = batches.batch(step)
        parts = [batches.batch(step, part=part, num_parts=num_parts) for part in range(num_parts)]
        assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
        assert torch.equal(torch.cat([part.labels for part in parts]), whole.labels)
        assert {(part.step, part.epoch) for part in parts} == {(step, whole.epoch)}


@pytest.mark.parametrize(("part", "num_parts"), [(0, 3), (2, 2), (-1, 2)])
def test_a_part_that_a_batch_does_not_have_is_refused(part: int, num_parts: int) -> None:
    with pytest.raises(ValueError, match=f"8 images has no part {part} of {num_parts} equal"):
        Batches(toy(), batch_size=8, seed=0).batch(1, part=part, num_parts=num_parts)


def test_batches_do_not_touch_the_data_or_each_other() -> None:
    data = toy()
    before = data.train.images.clone()
    batches = Batches(data, batch_size=4, seed=0)
    first, again = batches.batch(1), batches.batch(1)
    first.images.zero_()
    first.labels.zero_()
    assert again.images.any()
    assert torch.equal(data.train.images, before)
    assert torch.equal(batches.batch(1).labels, again.labels)


def test_a_batch_may_be_the_whole_data_set() -> None:
    assert len(Batches(toy(23), batch_size=23, seed=0)) == 1


def test_a_batch_larger_than_the_data_set_is_a_setting_that_cannot_be_met() -> None:
    with pytest.raises(ValueError, match=r"got 24, and toy has 23\. Pass --batch-size 23 or less") as caught:
        Batches(toy(23), batch_size=24, seed=0)
    assert not isinstance(caught.value, DataError)


@pytest.mark.parametrize("batch_size", [0, -4])
def test_a_batch_of_none_is_refused(batch_size: int) -> None:
    with pytest.raises(ValueError, match=f"batch_size must be at least 1, got {batch_size}"):
        Batches(toy(), batch_size=batch_size, seed=0)
    with pytest.raises(ValueError, match=f"batch_size must be at least 1, got {batch_size}"):
        evaluation_batches(toy().test, mean=(0.5,) * 3, std=(0.5,) * 3, batch_size=batch_size)


def test_a_seed_out_of_range_is_refused_before_training() -> None:
    with pytest.raises(ValueError, match="seed must be in"):
        Batches(toy(), batch_size=4, seed=-1)


def test_a_step_before_the_first_is_refused() -> None:
    with pytest.raises(ValueError, match="step counts updates from 1, got 0"):
        Batches(toy(), batch_size=4, seed=0).batch(0)


def test_padding_as_wide_as_the_image_is_refused_and_just_less_is_not() -> None:
    Batches(toy(), batch_size=4, seed=0, augmentation=Augmentation(crop_padding=4)).batch(1)
    with pytest.raises(ValueError, match="less than the images' 5 pixels, got 5"):
        Batches(toy(), batch_size=4, seed=0, augmentation=Augmentation(crop_padding=5))


def test_a_square_as_wide_as_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match="cutout must be less than the images' 5 pixels, got 5: whole images"):
        Batches(toy(), batch_size=4, seed=0, augmentation=Augmentation(cutout=5))


def test_cutout_blanks_a_square_of_each_image_and_changes_nothing_else() -> None:
    data = toy()
    whole = Batches(data, batch_size=4, seed=3, augmentation=AUGMENTATION)
    cut = Batches(data, batch_size=4, seed=3, augmentation=Augmentation(flip=True, crop_padding=2, cutout=3))
    for step in (1, 5, 6, 11):
        before, after = whole.batch(step), cut.batch(step)
        first = (step - 1) % 5 * 4
        chosen = order(3, before.epoch, 23)[first : first + 4]
        centres = draw_centres(seed=3, epoch=before.epoch, num_examples=23, height=6, width=5)[chosen]
        expected = before.images.clone()
        for image, (row, column) in zip(expected, centres.tolist(), strict=True):
            image[:, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = 0
        assert torch.equal(after.images, expected)
        assert torch.equal(after.labels, before.labels)


@given(st.integers(1, 30), st.sampled_from([1, 3]))
@settings(deadline=None, max_examples=20)
def test_evaluation_covers_every_example_once_and_in_order(batch_size: int, num_channels: int) -> None:
    data = toy(num_channels=num_channels)
    pairs = list(evaluation_batches(data.train, mean=data.mean, std=data.std, batch_size=batch_size))
    assert [len(labels) for _, labels in pairs][:-1] == [batch_size] * ((23 - 1) // batch_size)
    assert torch.equal(torch.cat([labels for _, labels in pairs]), data.train.labels)
    assert close(torch.cat([images for images, _ in pairs]), in_double(data, data.train.images))


def test_training_and_evaluation_normalise_alike() -> None:
    data = toy(23)
    batch = Batches(data, batch_size=23, seed=0).batch(1)
    images = normalise(data.train.images[order(0, 1, 23)], mean=data.mean, std=data.std)
    assert torch.equal(batch.images, images)


def test_normalised_training_images_have_mean_zero_and_deviation_one() -> None:
    data = toy(23)
    images = normalise(data.train.images, mean=data.mean, std=data.std).double()
    assert torch.allclose(images.mean((0, 2, 3)), torch.zeros(3, dtype=torch.float64), atol=1e-6)
    assert torch.allclose(images.std((0, 2, 3), correction=0), torch.ones(3, dtype=torch.float64), atol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_batches_on_a_gpu_hold_the_same_images() -> None:
    data = toy()
    here = Batches(data, batch_size=4, seed=3, augmentation=AUGMENTATION)
    there = Batches(data.to("cuda"), batch_size=4, seed=3, augmentation=AUGMENTATION)
    for step in (1, 5, 6, 11):
        assert there.batch(step).images.is_cuda
        assert torch.equal(there.batch(step).labels.cpu(), here.batch(step).labels)
        assert torch.allclose(there.batch(step).images.cpu(), here.batch(step).images, rtol=0, atol=3e-6)
