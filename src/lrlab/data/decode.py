"""One image file to an array of bytes, exactly or not at all: nothing is resized, clipped or guessed."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from lrlab.data.images import DataError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")  # Pillow's names; no other decoder is ever tried
MAX_PIXELS = 1 << 24  # of one image: 4096 x 4096, far above what is trained on and far below what hurts


def read_image(path: Path, *, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """Pixels of one file: (H, W) if it is grey, (H, W, 3) if it is in colour.

    - The kind is told from the content; a PNG named .jpg is read as what it is.
    - A palette becomes its colours, one bit becomes 0 and 255.
    - An alpha channel is dropped if every pixel is opaque, and refused if not: what lies behind is unknown.
    - CMYK, 16 bits a channel and animations are refused, since a conversion would have to choose.
    - The camera's orientation tag is applied, as every viewer does; colour profiles are not.
    - Pillow's warnings about a file are errors here. Its own limit on pixels, a global, is left as it is: ours is
      lower and is compared with the header's size before any pixel is decoded.

    Args:
        path: of a PNG, JPEG, WebP or BMP.
        max_pixels: of the image, below Pillow's own limit of 89 million.
    Raises: DataError with the reason, without the path.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # a corrupt tag, a malformed palette
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                _check_header(image, max_pixels)
                image.load()
                return np.asarray(_plain(ImageOps.exif_transpose(image)), dtype=np.uint8)
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError("not a PNG, JPEG, WebP or BMP image") from None
    except Exception as error:  # decoders raise a dozen kinds for damaged files; each is this file's fault
        raise DataError(f"cannot be read: {error or type(error).__name__}") from error


def _check_header(image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise DataError(f"too large: {image.width}x{image.height}, the limit is {max_pixels:,} pixels")
    if image.format in ("PNG", "WEBP") and getattr(image, "n_frames", 1) > 1:
        raise DataError("an animation; save one of its frames")
    # Pillow reads 16-bit PNG in colour as 8 bits without a word; only the decoder's raw mode tells.
    raw = str(getattr(image, "tile", ""))
    if "16B" in raw or image.mode.startswith("I"):
        raise DataError("16 bits per channel; save it with 8")
    # It widens grey of 2 and 4 bits to 8, but not the grey that is declared transparent.
    factor = 85 if "'L;2'" in raw else 17 if "'L;4'" in raw else 1
    if factor > 1 and isinstance(image.info.get("transparency"), int):
        image.info["transparency"] *= factor


def _plain(image: Image.Image) -> Image.Image:
    """The image in mode L or RGB."""
    is_grey = image.mode in ("1", "L", "LA")
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        least_opaque = image.getchannel("A").getextrema()[0]
        if least_opaque != 255:
            raise DataError("has transparent pixels; flatten it onto a background")
    elif image.mode not in ("1", "L", "P", "RGB"):
        raise DataError(f"colour mode {image.mode}; save it as RGB or grey")
    return image.convert("L" if is_grey else "RGB")
