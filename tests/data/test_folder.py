from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lrlab.data import DataError, ImageData, load_folder


def write(path: Path, value: int = 0, *, size: tuple[int, int] = (4, 3), colour: bool = True) -> None:
    """An image of width x height whose pixels tell which one it is."""
    width, height = size
    pixels = np.arange(width * height * 3, dtype=np.uint8).reshape(height, width, 3) + np.uint8(value)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels if colour else pixels[:, :, 0].copy()).save(path)


@pytest.fixture
def two_parts(tmp_path: Path) -> Path:
    """train/ and test/ with three classes; each image's first byte is its number."""
    number = 0
    for part, per_class in (("train", 3), ("test", 2)):
        for name in ("cat", "dog", "eel"):
            for index in range(per_class):
                write(tmp_path / part / name / f"{index}.png", number)
                number += 1
    return tmp_path


@pytest.fixture
def one_level(tmp_path: Path) -> Path:
    """Two classes of ten and five images; each image's first byte is its number."""
    for index in range(10):
        write(tmp_path / "cat" / f"{index}.png", index)
    for index in range(5):
        write(tmp_path / "dog" / f"{index}.png", 10 + index)
    return tmp_path


def numbers(images: torch.Tensor) -> list[int]:
    return images[:, 0, 0, 0].tolist()


def fails(directory: Path, *messages: str, test_fraction: float | None = None) -> str:
    with pytest.raises(DataError) as caught:
        load_folder(directory, test_fraction)
    text = str(caught.value)
    for message in (f"folder:{directory}", *messages):
        assert message in text
    return text


def test_train_and_test_are_read_by_class_then_by_file(two_parts: Path) -> None:
    data = load_folder(two_parts, None)
    assert data.name == f"folder:{two_parts}"
    assert data.classes == ("cat", "dog", "eel")
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert data.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert numbers(data.train.images) == list(range(9))
    assert numbers(data.test.images) == list(range(9, 15))


def test_images_keep_rows_columns_and_channels(two_parts: Path) -> None:
    image = load_folder(two_parts, None).train.images[1]
    assert image.shape == (3, 3, 4)
    expected = np.arange(36, dtype=np.uint8).reshape(3, 4, 3) + 1
    assert np.array_equal(image.numpy(), expected.transpose(2, 0, 1))


def test_every_kind_of_file_is_read_whatever_the_case_of_its_name(tmp_path: Path) -> None:
    for name in ("a.png", "b.JPG", "c.jpeg", "d.WebP", "e.bmp"):
        for part in ("train", "test"):
            write(tmp_path / part / "cat" / name)
            write(tmp_path / part / "dog" / name)
    assert len(load_folder(tmp_path, None).train) == 10


def test_one_level_is_split_by_class_and_loses_nothing(one_level: Path) -> None:
    data = load_folder(one_level, 0.2)
    assert torch.bincount(data.train.labels).tolist() == [8, 4]
    assert torch.bincount(data.test.labels).tolist() == [2, 1]
    assert sorted(numbers(data.train.images) + numbers(data.test.images)) == list(range(15))
    for split in (data.train, data.test):
        assert split.labels.tolist() == [int(number >= 10) for number in numbers(split.images)]


def content(data: ImageData) -> tuple[bytes, ...]:
    return tuple(bytes(split.images.numpy()) for split in (data.train, data.test))


def test_one_level_is_split_the_same_way_every_time(one_level: Path) -> None:
    assert content(load_folder(one_level, 0.3)) == content(load_folder(one_level, 0.3))


def test_one_level_needs_a_fraction_and_says_how_to_give_it(one_level: Path) -> None:
    with pytest.raises(ValueError, match=r"pass --set data.test_fraction=0.2") as caught:
        load_folder(one_level, None)
    assert not isinstance(caught.value, DataError)


def test_a_fraction_beside_a_test_folder_is_a_contradiction(two_parts: Path) -> None:
    with pytest.raises(ValueError, match=r"has train/ and test/, so data.test_fraction must be left out, got 0.2"):
        load_folder(two_parts, 0.2)


def test_a_fraction_out_of_range_is_refused(one_level: Path) -> None:
    with pytest.raises(ValueError, match="between 0 and 1, both excluded, got 20"):
        load_folder(one_level, 20)


def test_train_alone_says_how_to_split_it(two_parts: Path) -> None:
    (two_parts / "test").rename(two_parts / "validation")
    fails(
        two_parts,
        "there is train/ but no test/",
        f"--data folder:{two_parts / 'train'} --set data.test_fraction=0.2",
    )


def test_classes_may_be_called_train_and_test(tmp_path: Path) -> None:
    for name in ("train", "test", "tram"):
        for index in range(4):
            write(tmp_path / name / f"{index}.png", index)
    assert load_folder(tmp_path, 0.25).classes == ("test", "train", "tram")


def test_hidden_files_and_droppings_are_ignored(two_parts: Path) -> None:
    for name in (".DS_Store", "._0.png", "Thumbs.db", "desktop.ini"):
        (two_parts / "train" / "cat" / name).write_bytes(b"?")
        (two_parts / "train" / name).write_bytes(b"?")
    (two_parts / "train" / ".ipynb_checkpoints").mkdir()
    (two_parts / "README.md").write_text("about this data set")
    assert load_folder(two_parts, None).classes == ("cat", "dog", "eel")


def test_grey_images_have_one_channel(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for index in range(4):
            write(tmp_path / name / f"{index}.png", index, colour=False)
    data = load_folder(tmp_path, 0.5)
    assert data.num_channels == 1
    assert data.train.images.is_contiguous()


def test_one_image_in_colour_makes_the_grey_ones_three_equal_channels(two_parts: Path) -> None:
    for path in two_parts.glob("*/*/*.png"):
        write(path, colour=False)
    write(two_parts / "test" / "eel" / "1.png", 7, colour=True)
    data = load_folder(two_parts, None)
    assert data.num_channels == 3
    grey = data.train.images
    assert torch.equal(grey[:, 0], grey[:, 1])
    assert torch.equal(grey[:, 0], grey[:, 2])
    assert not torch.equal(data.test.images[5, 0], data.test.images[5, 1])


def test_a_class_may_be_absent_from_test(two_parts: Path) -> None:
    for path in (two_parts / "test" / "dog").iterdir():
        path.unlink()
    (two_parts / "test" / "dog").rmdir()
    data = load_folder(two_parts, None)
    assert data.classes == ("cat", "dog", "eel")
    assert data.test.labels.tolist() == [0, 0, 2, 2]


def test_classes_that_train_lacks_are_named(two_parts: Path) -> None:
    write(two_parts / "test" / "newt" / "0.png")
    write(two_parts / "test" / "Dog" / "0.png")
    fails(two_parts, "test/ has classes that train/ lacks: 'Dog', 'newt'.")


def test_one_class_is_not_enough(tmp_path: Path) -> None:
    write(tmp_path / "cat" / "0.png")
    fails(tmp_path, "at least two classes, got only 'cat'", test_fraction=0.2)


@pytest.mark.parametrize("part", ["train", "test"])
def test_empty_classes_are_named(two_parts: Path, part: str) -> None:
    for path in (two_parts / part / "dog").iterdir():
        path.unlink()
    (two_parts / "train" / "fox").mkdir()
    fails(two_parts, f"{part}/dog: an empty class", "train/fox: an empty class; add images or delete the folder")


def test_of_two_classes_the_empty_one_is_named(tmp_path: Path) -> None:
    write(tmp_path / "cat" / "0.png")
    (tmp_path / "dog").mkdir()
    fails(tmp_path, "dog: an empty class", test_fraction=0.2)


def test_a_class_of_one_image_cannot_be_split(one_level: Path) -> None:
    write(one_level / "fox" / "0.png")
    message = "data.test_fraction splits every class, which takes at least two images; these have only one:"
    fails(one_level, f"{message} 'fox'. Add some, or leave the class out", test_fraction=0.2)


def test_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    fails(tmp_path / "nowhere", "there is no such folder")


def test_a_folder_without_classes_says_what_belongs_there(tmp_path: Path) -> None:
    fails(tmp_path, "holds no folders; each class needs one, with its images in it", test_fraction=0.2)


def test_a_folder_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    fails(tmp_path / ("x" * 300), "cannot be read: ", "File name too long")


def test_everything_that_is_wrong_is_listed_in_one_go(two_parts: Path) -> None:
    train = two_parts / "train"
    (train / "cat" / "empty.png").write_bytes(b"")
    (train / "cat" / "notes.txt").write_text("not an image")
    (train / "dog" / "fake.jpg").write_bytes(b"%PDF-1.7")
    (train / "dog" / "nested").mkdir()
    (train / "eel" / "cut.png").write_bytes((train / "eel" / "0.png").read_bytes()[:50])
    (two_parts / "test" / "eel" / "gone.png").symlink_to(two_parts / "nothing.png")
    write(train / "stray.png")
    text = fails(two_parts, "7 files or folders in it cannot be used:")
    assert sorted(text.splitlines()[1:]) == [
        "  test/eel/gone.png: a broken link, or not a regular file",
        "  train/cat/empty.png: not a PNG, JPEG, WebP or BMP image",
        "  train/cat/notes.txt: not named like a PNG, JPEG, WebP or BMP file; convert or remove it",
        "  train/dog/fake.jpg: not a PNG, JPEG, WebP or BMP image",
        "  train/dog/nested: a folder inside a class; images must lie directly in the folder of their class",
        next(line for line in text.splitlines() if line.startswith("  train/eel/cut.png: cannot be read: ")),
        "  train/stray.png: an image outside the folders of the classes",
    ]


def test_of_many_wrong_files_twenty_are_listed_and_the_rest_counted(one_level: Path) -> None:
    for index in range(27):
        (one_level / "cat" / f"wrong{index:02}.png").write_bytes(b"?")
    lines = fails(one_level, "27 files or folders in it cannot be used:", test_fraction=0.2).splitlines()
    assert len(lines) == 1 + 20 + 1
    assert lines[-1] == "  ... and 7 more"


def test_different_sizes_are_listed_with_an_example_of_each(two_parts: Path) -> None:
    write(two_parts / "train" / "dog" / "0.png", size=(3, 4))
    write(two_parts / "test" / "eel" / "0.png", size=(8, 8))
    text = fails(two_parts, "all images must have the same size; resize them. Found:")
    assert text.splitlines()[1:] == [
        "  4x3 (width x height): 13, such as train/cat/0.png",
        "  3x4 (width x height): 1, such as train/dog/0.png",
        "  8x8 (width x height): 1, such as test/eel/0.png",
    ]


def test_links_to_files_and_folders_are_followed(two_parts: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write(elsewhere / "0.png", 77)
    (two_parts / "train" / "cat" / "link.png").symlink_to(elsewhere / "0.png")
    (two_parts / "train" / "fox").symlink_to(elsewhere)
    data = load_folder(two_parts, None)
    assert data.classes == ("cat", "dog", "eel", "fox")
    assert numbers(data.train.images).count(77) == 2


def test_loops_of_links_end(two_parts: Path) -> None:
    (two_parts / "train" / "cat" / "up").symlink_to(two_parts)
    (two_parts / "train" / "cat" / "self.png").symlink_to("self.png")
    (two_parts / "train" / "back").symlink_to(two_parts / "train")
    fails(two_parts, "train/cat/up: a folder inside", "train/cat/self.png: a broken link", "train/back/cat: a folder")


def test_a_pipe_is_not_opened_and_so_does_not_hang(two_parts: Path) -> None:
    os.mkfifo(two_parts / "train" / "cat" / "pipe.png")
    fails(two_parts, "train/cat/pipe.png: a broken link, or not a regular file")


def test_names_that_are_no_text_are_shown_escaped(one_level: Path) -> None:
    (one_level / "cat" / "bell\a\n.png").write_bytes(b"?")
    (one_level / "cat" / os.fsdecode(b"\xff.png")).write_bytes(b"?")
    text = fails(one_level, r"'cat/bell\x07\n.png': not a PNG", r"'cat/\udcff.png': not a PNG", test_fraction=0.2)
    text.encode()  # can be printed


def test_a_class_whose_name_is_no_text_is_refused(one_level: Path) -> None:
    write(one_level / os.fsdecode(b"\xff") / "0.png")
    fails(one_level, r"class names must be printable text; rename '\udcff'", test_fraction=0.2)
