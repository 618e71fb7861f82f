from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lrlab.data import Augmentation
from lrlab.data.augment import Draws, augmented, blank_, draw, draw_centres


def slowly_augmented(image: npt.NDArray[np.uint8], *, padding: int, down: int, right: int, flip: bool) -> Tensor:
    """The twin: pad one image for real, cut the crop out, mirror it."""
    height, width = image.shape[1:]
    padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)), mode="reflect")
    top, left = padding + down, padding + right
    crop = padded[:, top : top + height, left : left + width]
    return torch.from_numpy((crop[:, :, ::-1] if flip else crop).copy())


def some_images(num_images: int, *, shape: tuple[int, int, int], seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (num_images, *shape), dtype=np.uint8))


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(3, 9), st.integers(3, 9)),
    padding=st.integers(0, 2),
    flip=st.booleans(),
    batch_size=st.integers(1, 7),
    seed=st.integers(0, 2**32 - 1),
)
@settings(deadline=None)
def test_a_batch_equals_its_images_padded_cut_and_mirrored_one_by_one(
    shape: tuple[int, int, int], padding: int, flip: bool, batch_size: int, seed: int
) -> None:
    images = some_images(10, shape=shape, seed=seed)
    draws = draw(Augmentation(flip=flip, crop_padding=padding), seed=seed, epoch=1, num_examples=10)
    indices = torch.from_numpy(np.random.default_rng(seed).integers(0, 10, batch_size))
    batch = augmented(images, indices, draws)
    for row, index in enumerate(indices.tolist()):
        down, right, mirrored = (int(part[index]) for part in (draws.down, draws.right, draws.flip))
        expected = slowly_augmented(images[index].numpy(), padding=padding, down=down, right=right, flip=bool(mirrored))
        assert torch.equal(batch[row], expected)


def test_a_shift_shows_the_border_reflected_without_repeating_it() -> None:
    image = torch.tensor([[[[1, 2, 3, 4]]]], dtype=torch.uint8)

    def shifted(right: int, *, flip: bool = False) -> list[int]:
        draws = Draws(torch.tensor([0]), torch.tensor([right]), torch.tensor([flip]))
        return augmented(image, torch.tensor([0]), draws).flatten().tolist()

    assert shifted(0) == [1, 2, 3, 4]
    assert shifted(1) == [2, 3, 4, 3]
    assert shifted(2) == [3, 4, 3, 2]
    assert shifted(-1) == [2, 1, 2, 3]
    assert shifted(-3) == [4, 3, 2, 1]
    assert shifted(1, flip=True) == [3, 4, 3, 2]


def test_without_flip_or_crop_images_stay_as_they_are() -> None:
    images = some_images(6, shape=(3, 4, 5))
    draws = draw(Augmentation(), seed=1, epoch=1, num_examples=6)
    assert torch.equal(augmented(images, torch.tensor([5, 0]), draws), images[[5, 0]])


def test_augmenting_leaves_the_data_set_as_it_was() -> None:
    images = some_images(6, shape=(3, 4, 5))
    before = images.clone()
    draws = draw(Augmentation(flip=True, crop_padding=2), seed=1, epoch=1, num_examples=6)
    augmented(images, torch.arange(6), draws)
    assert torch.equal(images, before)


@given(st.integers(0, 2**32 - 1), st.integers(1, 50), st.integers(1, 20), st.integers(0, 20))
def test_an_examples_draws_do_not_depend_on_how_many_others_there_are(
    seed: int, epoch: int, few: int, more: int
) -> None:
    augmentation = Augmentation(flip=True, crop_padding=4)
    short = draw(augmentation, seed=seed, epoch=epoch, num_examples=few)
    long = draw(augmentation, seed=seed, epoch=epoch, num_examples=few + more)
    assert torch.equal(short.down, long.down[:few])
    assert torch.equal(short.right, long.right[:few])
    assert torch.equal(short.flip, long.flip[:few])


def test_shifts_and_flips_are_uniform_and_independent() -> None:
    draws = draw(Augmentation(flip=True, crop_padding=1), seed=0, epoch=1, num_examples=18_000)
    cells = ((draws.down + 1) * 3 + draws.right + 1) * 2 + draws.flip
    counts = torch.bincount(cells, minlength=18).double()
    assert len(counts) == 18
    # 1,000 expected in each: chi-square with 17 degrees of freedom, 99.99th percentile 47.6
    assert float(((counts - 1000) ** 2 / 1000).sum()) < 47.6


def test_draws_differ_between_epochs() -> None:
    augmentation = Augmentation(flip=True, crop_padding=4)
    first, second = (draw(augmentation, seed=0, epoch=epoch, num_examples=100) for epoch in (1, 2))
    assert not torch.equal(first.down, second.down)
    assert not torch.equal(first.right, second.right)
    assert not torch.equal(first.flip, second.flip)


def test_flips_are_the_same_with_and_without_crops() -> None:
    alone = draw(Augmentation(flip=True), seed=3, epoch=2, num_examples=50)
    together = draw(Augmentation(flip=True, crop_padding=4), seed=3, epoch=2, num_examples=50)
    assert torch.equal(alone.flip, together.flip)
    assert not alone.down.any()


def test_the_draws_are_the_ones_that_earlier_versions_had() -> None:
    draws = draw(Augmentation(flip=True, crop_padding=4), seed=0, epoch=1, num_examples=8)
    assert draws.down.tolist() == [3, 3, 0, 4, 0, -2, 0, -3]
    assert draws.right.tolist() == [4, 0, -1, -1, 2, 1, 4, 1]
    assert draws.flip.int().tolist() == [1, 0, 1, 0, 0, 0, 0, 0]


def test_a_negative_padding_is_refused() -> None:
    with pytest.raises(ValueError, match="crop_padding must be >= 0 pixels, got -1"):
        Augmentation(crop_padding=-1)


def test_a_square_is_blanked_around_its_centre_and_clipped_at_the_border() -> None:
    centres = torch.tensor([[2, 1], [0, 4], [3, 0]])
    images = blank_(torch.ones(3, 2, 4, 5), centres, side=2)
    expected = torch.tensor(
        [
            [[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 1, 1, 1], [1, 1, 1, 1, 1]],
            [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]],
            [[1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [0, 1, 1, 1, 1], [0, 1, 1, 1, 1]],
        ]
    )
    for channel in (0, 1):
        assert torch.equal(images[:, channel], expected.float())


def test_a_square_of_an_odd_side_has_its_centre_in_the_middle() -> None:
    image = blank_(torch.ones(1, 1, 5, 5), torch.tensor([[2, 2]]), side=3)
    assert image[0, 0].tolist() == [[1] * 5, *[[1, 0, 0, 0, 1]] * 3, [1] * 5]


def test_centres_are_uniform_over_the_image() -> None:
    centres = draw_centres(seed=0, epoch=1, num_examples=12_000, height=3, width=4)
    counts = torch.bincount(centres[:, 0] * 4 + centres[:, 1], minlength=12).double()
    assert len(counts) == 12
    # 1,000 expected in each: chi-square with 11 degrees of freedom, 99.99th percentile 37.4
    assert float(((counts - 1000) ** 2 / 1000).sum()) < 37.4


def test_centres_are_a_function_of_seed_epoch_and_example() -> None:
    def centres(num_examples: int, *, seed: int = 3, epoch: int = 2) -> Tensor:
        return draw_centres(seed=seed, epoch=epoch, num_examples=num_examples, height=32, width=32)

    assert torch.equal(centres(20)[:8], centres(8))
    assert not torch.equal(centres(8), centres(8, epoch=3))
    assert not torch.equal(centres(8), centres(8, seed=4))


def test_a_negative_square_is_refused() -> None:
    with pytest.raises(ValueError, match="cutout must be >= 0 pixels, got -1"):
        Augmentation(cutout=-1)
