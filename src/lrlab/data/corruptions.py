"""What is done to test images to see whether a network still knows them: seven kinds, each in five strengths."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scipy  # its filters load when they are first used
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

STRENGTHS: Final = (1, 2, 3, 4, 5)

Images = npt.NDArray[np.float64]
"""(N, C, H, W), in units of full scale, 0 to 1."""

Random = np.random.Generator

_AT_ONCE: Final = 500
"""Images that are numbers of eight bytes at a time."""
_NOISE: Final = (0.04, 0.06, 0.08, 0.09, 0.10)  # standard deviation
_BLUR: Final = (0.4, 0.6, 0.7, 0.8, 1.0)  # standard deviation in pixels
_CONTRAST: Final = (0.75, 0.5, 0.4, 0.3, 0.15)  # of the distance from the image's mean, what is left
_BRIGHTNESS: Final = (0.05, 0.1, 0.15, 0.2, 0.3)  # added
_JPEG: Final = (80, 65, 58, 50, 40)  # quality
_PIXELATE: Final = (0.95, 0.9, 0.85, 0.75, 0.65)  # of the side, what is left


def corrupt(images: Tensor, kind: str, strength: int) -> Tensor:
    """Return images as they are after one of `CORRUPTIONS`; the same every time.

    The numbers behind the strengths are those of CIFAR-10-C where it has the kind (Hendrycks & Dietterich, 2019,
    arXiv:1903.12261), for images of 32 pixels: on much smaller ones each is a harder test, on larger ones an easier
    one. Brightness is added to each channel here, to the value of HSV there.

    Args:
        images: (N, C, H, W), uint8, of one or three channels.
        kind: a key of `CORRUPTIONS`.
        strength: 1 to 5.
    Returns: (N, C, H, W), uint8, on the images' device.
    """
    random = np.random.default_rng(strength)

    def corrupted(part: Tensor) -> Tensor:
        found = CORRUPTIONS[kind](part.cpu().numpy() / 255, strength, random)
        return torch.from_numpy(np.rint(found.clip(0, 1) * 255).astype(np.uint8))

    return torch.cat([corrupted(part) for part in images.split(_AT_ONCE)]).to(images.device)


def shifted(images: Tensor, *, down: int, right: int) -> Tensor:
    """Return images moved by whole pixels; what comes into view is reflected at the border. (N, C, H, W), any type."""
    reach = max(abs(down), abs(right))
    height, width = images.shape[2:]
    padded = F.pad(images.float(), [reach] * 4, mode="reflect").to(images.dtype)
    return padded[:, :, reach - down : reach - down + height, reach - right : reach - right + width]


def _noise(images: Images, strength: int, random: Random) -> Images:
    return images + random.normal(0, _NOISE[strength - 1], images.shape)


def _blur(images: Images, strength: int, random: Random) -> Images:
    sigma = _BLUR[strength - 1]
    return np.asarray(scipy.ndimage.gaussian_filter(images, (0, 0, sigma, sigma), mode="reflect"))


def _contrast(images: Images, strength: int, random: Random) -> Images:
    mean = images.mean((2, 3), keepdims=True)
    return np.asarray(mean + (images - mean) * _CONTRAST[strength - 1])


def _brightness(images: Images, strength: int, random: Random) -> Images:
    return images + _BRIGHTNESS[strength - 1]


def _jpeg(images: Images, strength: int, random: Random) -> Images:
    def compressed(image: Image.Image) -> Image.Image:
        content = io.BytesIO()
        image.save(content, "JPEG", quality=_JPEG[strength - 1])
        return Image.open(content, formats=["JPEG"])

    return _one_by_one(images, compressed)


def _pixelate(images: Images, strength: int, random: Random) -> Images:
    height, width = images.shape[2:]
    small = [max(1, int(side * _PIXELATE[strength - 1])) for side in (width, height)]

    def coarser(image: Image.Image) -> Image.Image:
        return image.resize(small, Image.Resampling.BOX).resize((width, height), Image.Resampling.NEAREST)

    return _one_by_one(images, coarser)


def _shift(images: Images, strength: int, random: Random) -> Images:
    """By that many pixels, down and to the right; of a smaller image, as far as its border can be reflected."""
    pixels = min(strength, min(images.shape[2:]) - 1)
    return np.asarray(shifted(torch.from_numpy(images), down=pixels, right=pixels).numpy())


def _one_by_one(images: Images, change: Callable[[Image.Image], Image.Image]) -> Images:
    whole = np.rint(images * 255).astype(np.uint8).transpose(0, 2, 3, 1)  # channels last
    is_grey = whole.shape[3] == 1
    changed: list[Any] = [np.asarray(change(Image.fromarray(one[:, :, 0] if is_grey else one))) for one in whole]
    stacked = np.stack(changed)
    return np.asarray((stacked[:, None] if is_grey else stacked.transpose(0, 3, 1, 2)) / 255)


CORRUPTIONS: Final[Mapping[str, Callable[[Images, int, Random], Images]]] = {
    "noise": _noise,
    "blur": _blur,
    "contrast": _contrast,
    "brightness": _brightness,
    "jpeg": _jpeg,
    "pixelate": _pixelate,
    "shift": _shift,
}
"""Kind -> what it does."""
