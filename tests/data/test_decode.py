from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lrlab.data import DataError
from lrlab.data.decode import read_image

GREY = np.arange(20, dtype=np.uint8).reshape(4, 5) * 12
COLOUR = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
OPAQUE = np.full((4, 5, 1), 255, np.uint8)


def written(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "image.png"


def refused(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP"])
def test_lossless_colour_comes_back_bit_for_bit(path: Path, kind: str) -> None:
    path.write_bytes(written(Image.fromarray(COLOUR), kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert np.array_equal(read_image(path), COLOUR)


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_lossless_grey_comes_back_bit_for_bit_and_in_two_dimensions(path: Path, kind: str) -> None:
    path.write_bytes(written(Image.fromarray(GREY), kind))
    assert np.array_equal(read_image(path), GREY)


@pytest.mark.parametrize(("pixels", "shape"), [(GREY, (4, 5)), (COLOUR, (4, 5, 3))])
def test_jpeg_keeps_size_and_colour(path: Path, pixels: np.ndarray, shape: tuple[int, ...]) -> None:
    path.write_bytes(written(Image.fromarray(pixels), "JPEG"))
    assert read_image(path).shape == shape


def test_one_bit_becomes_black_and_white(path: Path) -> None:
    bits = GREY > 100
    path.write_bytes(written(Image.fromarray(bits)))
    assert np.array_equal(read_image(path), bits * 255)


def test_a_palette_becomes_its_colours(path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "L").convert("P")
    image.putpalette([255, 0, 0, 1, 2, 3, 9, 9, 9])
    path.write_bytes(written(image))
    assert read_image(path).tolist() == [[[255, 0, 0], [1, 2, 3]], [[9, 9, 9], [1, 2, 3]]]


def test_an_opaque_alpha_channel_is_dropped(path: Path) -> None:
    path.write_bytes(written(Image.fromarray(np.concatenate([COLOUR, OPAQUE], 2))))
    assert np.array_equal(read_image(path), COLOUR)
    path.write_bytes(written(Image.fromarray(np.concatenate([GREY[:, :, None], OPAQUE], 2))))
    assert np.array_equal(read_image(path), GREY)


@pytest.mark.parametrize("pixels", [GREY[:, :, None], COLOUR])
def test_a_single_transparent_pixel_is_refused(path: Path, pixels: np.ndarray) -> None:
    alpha = OPAQUE.copy()
    alpha[2, 3] = 254
    refused(path, written(Image.fromarray(np.concatenate([pixels, alpha], 2))), "has transparent pixels; flatten it")


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_a_colour_declared_transparent_is_refused_if_it_occurs(path: Path, mode: str) -> None:
    image = Image.fromarray(np.zeros((4, 5), np.uint8)).convert(mode)
    colour: object = (0, 0, 0) if mode == "RGB" else 0
    refused(path, written(image, transparency=colour), "has transparent pixels")


def test_a_colour_declared_transparent_that_does_not_occur_is_no_matter(path: Path) -> None:
    path.write_bytes(written(Image.fromarray(COLOUR), transparency=(1, 2, 3)))
    assert np.array_equal(read_image(path), COLOUR)


def test_cmyk_is_refused(path: Path) -> None:
    refused(path, written(Image.fromarray(COLOUR).convert("CMYK"), "JPEG"), "colour mode CMYK; save it as RGB or grey")


def png_by_hand(width: int, depth: int, colour_type: int, rows: list[bytes], *more: tuple[bytes, bytes]) -> bytes:
    """A PNG as Pillow cannot write it, with chunks between header and pixels."""
    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = [(b"IHDR", header), *more, (b"IDAT", pixels), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_grey_of_few_bits_that_is_declared_transparent_is_refused_if_it_occurs(path: Path, depth: int) -> None:
    width, largest = 8 // depth, 2**depth - 1
    row = bytes([largest << (8 - depth)])  # one pixel of the largest grey, the others black
    for grey in range(largest + 1):
        content = png_by_hand(width, depth, 0, [row], (b"tRNS", struct.pack(">H", grey)))
        if grey == largest or (grey == 0 and width > 1):
            refused(path, content, "has transparent pixels")
        else:
            path.write_bytes(content)
            assert read_image(path).tolist() == [[255] + [0] * (width - 1)]


@pytest.mark.parametrize(("colour_type", "num_channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_are_refused_rather_than_halved_in_silence(
    path: Path, colour_type: int, num_channels: int
) -> None:
    content = png_by_hand(3, 16, colour_type, [bytes(range(3 * num_channels * 2))] * 2)
    refused(path, content, "16 bits per channel; save it with 8")


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animation_is_refused(path: Path, kind: str) -> None:
    frames = [Image.fromarray(COLOUR), Image.fromarray(255 - COLOUR)]
    refused(path, written(frames[0], kind, save_all=True, append_images=frames[1:]), "an animation; save one of its")


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, COLOUR),
        (2, COLOUR[:, ::-1]),
        (3, COLOUR[::-1, ::-1]),
        (4, COLOUR[::-1]),
        (5, COLOUR.transpose(1, 0, 2)),
        (6, np.rot90(COLOUR, -1)),
        (7, COLOUR[::-1, ::-1].transpose(1, 0, 2)),
        (8, np.rot90(COLOUR)),
    ],
)
def test_the_cameras_orientation_is_applied(path: Path, orientation: int, upright: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.write_bytes(written(Image.fromarray(COLOUR), exif=exif))
    assert np.array_equal(read_image(path), upright)


def test_the_kind_is_told_by_content_not_by_name(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(written(Image.fromarray(COLOUR), "PNG"))
    assert np.array_equal(read_image(path), COLOUR)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PPM", "PDF", "EPS", "TGA", "ICO", "PCX", "JPEG2000"])
def test_other_decoders_are_never_tried(path: Path, kind: str) -> None:
    refused(path, written(Image.fromarray(COLOUR), kind), "not a PNG, JPEG, WebP or BMP image")


@pytest.mark.parametrize("content", [b"", b"hello", b"<svg/>", b"\x89PNG\r\n\x1a\n", b"BM"])
def test_what_is_no_image_is_refused(path: Path, content: bytes) -> None:
    refused(path, content, "not a PNG|cannot be read")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_truncated_image_is_refused(path: Path, kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = written(Image.fromarray(noise), kind)
    refused(path, content[: int(share * len(content))], "not a PNG|cannot be read")


def test_a_changed_byte_in_a_png_is_refused(path: Path) -> None:
    content = bytearray(written(Image.fromarray(COLOUR)))
    content[content.index(b"IDAT") + 10] ^= 1
    refused(path, bytes(content), "cannot be read")


def huge_bmp(width: int, height: int) -> bytes:
    """A BMP whose header claims that size, and nothing behind it."""
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)


@pytest.mark.parametrize("size", [(4097, 4096), (20_000, 20_000), (2**31 - 1, 2**30)])
def test_a_huge_image_is_refused_by_its_header(path: Path, size: tuple[int, int]) -> None:
    refused(path, huge_bmp(*size), "too large|exceeds limit|cannot be read")


def test_the_limit_is_a_square_of_4096(path: Path) -> None:
    refused(path, huge_bmp(4097, 4096), "too large: 4097x4096, the limit is 16,777,216 pixels")
    refused(path, huge_bmp(4096, 4096), "cannot be read: .*truncated")  # let through, and found to be empty


def test_pillows_own_limit_and_the_warning_filters_are_left_as_they_were(path: Path) -> None:
    limit, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    path.write_bytes(written(Image.fromarray(COLOUR)))
    read_image(path)
    refused(path, huge_bmp(20_000, 20_000), "too large|exceeds")
    assert limit == Image.MAX_IMAGE_PIXELS
    assert warnings.filters == filters


def test_what_pillow_only_warns_of_is_an_error(path: Path) -> None:
    content = bytearray(written(Image.fromarray(COLOUR), "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12"))
    with pytest.warns(UserWarning, match="Corrupt EXIF data"):
        Image.open(io.BytesIO(content)).getexif()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as a user's filters may, and as pytest's do not
        refused(path, bytes(content), "cannot be read: .*EXIF")


@given(st.sampled_from(["PNG", "JPEG", "WEBP", "BMP"]), st.data())
@settings(deadline=None, max_examples=150)
def test_damage_anywhere_gives_pixels_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    content = bytearray(written(Image.fromarray(COLOUR), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "image"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        pixels = read_image(path)
    except DataError:
        return
    assert pixels.dtype == np.uint8
    assert pixels.ndim in (2, 3)
