"""Corruptions: each by its definition, the same every time, and the stronger the further from the image."""

import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lrlab.data import CORRUPTIONS, STRENGTHS, corrupt, shifted


def smooth_images(*, channels: int = 3, side: int = 32) -> Tensor:
    """Blobs with a fine grain that end nowhere near black or white, so that nothing is cut off."""
    y, x = np.mgrid[:side, :side] / side
    grain = np.indices((side, side)).sum(0) % 2
    planes = [
        [np.sin(3 * x + n + c) * np.cos(4 * y - n) * 60 + 120 + 9 * grain for c in range(channels)] for n in range(4)
    ]
    return torch.from_numpy(np.rint(planes).astype(np.uint8))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_it_is_the_same_every_time_and_grows_with_its_strength(kind: str, channels: int) -> None:
    images = smooth_images(channels=channels)
    before = images.clone()
    found = [corrupt(images, kind, strength) for strength in STRENGTHS]
    assert torch.equal(images, before)
    assert all(one.shape == images.shape and one.dtype == torch.uint8 for one in found)
    assert all(
        torch.equal(one, corrupt(images, kind, strength)) for one, strength in zip(found, STRENGTHS, strict=True)
    )
    distances = [(one.double() - images.double()).square().mean().item() for one in found]
    assert distances[0] > 0
    assert all(less < more for less, more in pairwise(distances))


def test_noise_is_normal_and_independent_of_the_image() -> None:
    images = torch.full((600, 3, 8, 8), 128, dtype=torch.uint8)
    difference = (corrupt(images, "noise", 5).double() - 128) / 255
    assert difference.mean().item() == pytest.approx(0, abs=1e-3)
    assert difference.std().item() == pytest.approx(0.1, rel=0.01)
    assert not torch.equal(difference[0], difference[1])
    assert not torch.equal(difference[0], difference[500])  # where another part of the images begins


def test_contrast_and_brightness_are_linear() -> None:
    images = smooth_images()
    x = images.double()
    mean = x.mean((2, 3), keepdim=True)
    assert (corrupt(images, "contrast", 2).double() - (mean + 0.5 * (x - mean))).abs().max() <= 0.5
    assert (corrupt(images, "brightness", 4).double() - (x + 0.2 * 255)).abs().max() <= 0.5
    white = torch.full((1, 1, 8, 8), 250, dtype=torch.uint8)
    assert (corrupt(white, "brightness", 5) == 255).all()  # and no overflow


def test_blur_keeps_the_mean_and_spreads_a_point_as_a_gaussian() -> None:
    images = torch.zeros(1, 1, 33, 33, dtype=torch.uint8)
    images[0, 0, 16, 16] = 255
    found = corrupt(images, "blur", 5).double()[0, 0]
    weights = torch.exp(-torch.arange(-16, 17).double().square() / 2)
    weights /= weights.sum()
    assert (found - 255 * weights[:, None] * weights[None, :]).abs().max() < 1


def test_jpeg_and_pixelate_are_pillows() -> None:
    images = smooth_images()
    content = io.BytesIO()
    Image.fromarray(images[1].permute(1, 2, 0).numpy()).save(content, "JPEG", quality=40)
    expected = np.asarray(Image.open(content))
    assert np.array_equal(corrupt(images, "jpeg", 5)[1].permute(1, 2, 0).numpy(), expected)
    coarse = corrupt(images, "pixelate", 5)
    assert len(coarse[0, 0].unique(dim=0)) == 20  # 0.65 of 32 rows are left
    assert len(coarse[0, 0].unique(dim=1)[0]) == 20


def test_shift_moves_down_and_right_and_reflects_the_border() -> None:
    images = torch.arange(36, dtype=torch.uint8).view(1, 1, 6, 6)
    found = corrupt(images, "shift", 2)
    assert torch.equal(found[0, 0, 2:, 2:], images[0, 0, :4, :4])
    assert found[0, 0, 0, 2:].tolist() == images[0, 0, 2, :4].tolist()
    assert torch.equal(shifted(images, down=-1, right=0)[0, 0, :5], images[0, 0, 1:])
    assert torch.equal(shifted(images, down=0, right=0), images)
    assert corrupt(images[:, :, :3, :3].contiguous(), "shift", 5).shape == (1, 1, 3, 3)
