"""A folder of image files as a data set: one sub-folder a class, every problem in it reported at once."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from lrlab.data.decode import read_image
from lrlab.data.images import DataError, ImageData, Split, check_can_be_split, check_classes, image_data, reading
from lrlab.data.randomness import check_fraction, stratified_split

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")

_MOST_LISTED = 20
_DROPPINGS = ("thumbs.db", "desktop.ini")  # what file managers leave behind, besides hidden files

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class _Files:
    """What the folders of one split hold, class by class in order of name, and file by file in each."""

    classes: list[str]
    """Names of all folders, usable files or none."""
    paths: list[Path]
    labels: list[str]
    """The class of each path."""
    problems: list[str]
    """A line for each entry that cannot be used."""


def load_folder(directory: Path | str, test_fraction: float | None) -> ImageData:
    """Images from `train/CLASS/*` and `test/CLASS/*`, or from `CLASS/*`, a fraction of which is set aside for testing.

    - Files in a class folder must be PNG, JPEG, WebP or BMP, by name and content (`read_image` says what is
      accepted). Hidden files and folders, Thumbs.db and desktop.ini are ignored; anything else is an error, so
      that no image is left out unnoticed. Links to files are followed.
    - All images must have one size. If some are in colour and others grey, the grey ones become RGB with three
      equal channels, in both splits.
    - A class may be absent from test/, where it then has no images; one absent from train/ is an error.
    - With train/ and test/, other folders beside them are not read.
    - Order: by class name, then by file name. The whole set is held in memory as bytes.

    Args:
        directory: of the data set.
        test_fraction: share of each class for testing, in (0, 1); needed for `CLASS/*`, None for train/ and test/.
    Raises: DataError for what is wrong with the files, ValueError for a test_fraction that does not fit.
    """
    directory = Path(directory)
    name = f"folder:{directory}"
    with reading(name):
        if not directory.is_dir():
            what = "it is a file, not a folder" if directory.exists() else "there is no such folder"
            raise DataError(f"{name}: {what}. It must have a folder for each class.")
        if _is_split(name, directory):
            if test_fraction is not None:
                raise ValueError(
                    f"{name} has train/ and test/, so data.test_fraction must be left out, got {test_fraction}."
                )
            return _load_split(name, directory)
        if test_fraction is None:
            raise ValueError(
                f"{name} has no train/ and test/ folders with a folder for each class. "
                "If its own sub-folders are the classes, pass --set data.test_fraction=0.2."
            )
        check_fraction(test_fraction, key="data.test_fraction")
        return _load_unsplit(name, directory, test_fraction)


def _load_split(name: str, directory: Path) -> ImageData:
    train, test = (_scan(name, directory, part) for part in ("train", "test"))
    check_classes(name, train.classes)
    if unknown := sorted(set(test.classes) - set(train.classes)):
        raise DataError(f"{name}: test/ has classes that train/ lacks: {', '.join(map(repr, unknown))}.")
    both = _read(name, directory, train, test)
    border = len(train.paths)
    return image_data(
        name,
        classes=train.classes,
        train=Split(both.images[:border], both.labels[:border]),
        test=Split(both.images[border:], both.labels[border:]),
    )


def _load_unsplit(name: str, directory: Path, test_fraction: float) -> ImageData:
    files = _scan(name, directory, "")
    check_classes(name, files.classes)  # before any image is opened
    everything = _read(name, directory, files)
    check_can_be_split(name, everything.labels, classes=files.classes, key="data.test_fraction")
    train, test = (
        Split(everything.images[indices], everything.labels[indices])
        for indices in stratified_split(everything.labels, test_fraction=test_fraction)
    )
    return image_data(name, classes=files.classes, train=train, test=test)


def _is_split(name: str, directory: Path) -> bool:
    """Whether train/ and test/ are splits, which is to say that they hold folders; a class may have such a name too."""
    found = [part for part in ("train", "test") if _folders(directory / part)]
    if len(found) == 1:
        other = "test" if found == ["train"] else "train"
        raise DataError(
            f"{name}: there is {found[0]}/ but no {other}/ with folders of classes. Add it, or split one folder: "
            f"--data folder:{directory / found[0]} --set data.test_fraction=0.2."
        )
    return len(found) == 2


def images_in(folder: Path) -> list[Path]:
    """Return the image files in a folder and in the folders within, told by their names, in order; none is hidden.

    Raises: DataError if there is none.
    """
    with reading(str(folder)):
        found = sorted(path for path in _files_within(folder) if path.suffix.lower() in SUFFIXES)
    if not found:
        raise DataError(f"{folder}: it contains no PNG, JPEG, WebP or BMP files.")
    return found


def _files_within(folder: Path) -> Iterator[Path]:
    """Files that are not hidden, in the folders within too; links are followed, each folder is seen once."""
    seen = {os.path.realpath(folder)}
    for place, folders, files in os.walk(folder, followlinks=True):
        real = {os.path.realpath(Path(place) / name): name for name in sorted(folders, reverse=True) if name[0] != "."}
        folders[:] = [name for where, name in real.items() if where not in seen]
        seen |= real.keys()
        yield from (Path(place) / name for name in files if name[0] != "." and (Path(place) / name).is_file())


def _visible(folder: Path) -> list[Path]:
    """What lies in the folder, by name; nothing if it is not one."""
    if not folder.is_dir():
        return []
    entries = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(path for path in entries if path.name.lower() not in _DROPPINGS)


def _folders(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.is_dir()]


def _scan(name: str, directory: Path, part: str) -> _Files:
    """The files of all class folders in `directory / part`, one level deep, so that no loop of links can hold us."""
    root = directory / part
    files = _Files([], [], [], [])
    for folder in _visible(root):
        if not folder.is_dir():
            if folder.suffix.lower() in SUFFIXES:
                files.problems.append(f"{_shown(folder, directory)}: an image outside the folders of the classes")
            continue
        files.classes.append(folder.name)
        entries = _visible(folder)
        if not entries:
            files.problems.append(f"{_shown(folder, directory)}: an empty class; add images or delete the folder")
        for path in entries:
            if problem := _unfit(path):
                files.problems.append(f"{_shown(path, directory)}: {problem}")
            else:
                files.paths.append(path)
                files.labels.append(folder.name)
    if not files.classes:
        raise DataError(f"{name}: {root} holds no folders; each class needs one, with its images in it.")
    return files


def _unfit(path: Path) -> str | None:
    """Why this entry of a class folder cannot be an image, judged without opening it."""
    if path.is_dir():
        return "a folder inside a class; images must lie directly in the folder of their class"
    if path.suffix.lower() not in SUFFIXES:
        return "not named like a PNG, JPEG, WebP or BMP file; convert or remove it"
    if not path.is_file():  # opening a pipe would wait for ever
        return "a broken link, or not a regular file"
    return None


def _read(name: str, directory: Path, *parts: _Files) -> Split:
    """All images, of one size, with their labels; raises DataError that lists what is wrong with any of them."""
    arrays: list[Pixels] = []
    problems = [problem for files in parts for problem in files.problems]
    by_size: dict[tuple[int, ...], list[Path]] = defaultdict(list)
    for path in (path for files in parts for path in files.paths):
        try:
            arrays.append(read_image(path))
        except DataError as error:
            problems.append(f"{_shown(path, directory)}: {error}")
        else:
            by_size[arrays[-1].shape[:2]].append(path)
    if problems:
        raise DataError(f"{name}: {len(problems)} files or folders in it cannot be used:\n{_listed(problems)}")
    if len(by_size) > 1:
        commonest_first = sorted(by_size.items(), key=lambda item: -len(item[1]))
        sizes = [
            f"{width}x{height} (width x height): {len(found)}, such as {_shown(found[0], directory)}"
            for (height, width), found in commonest_first
        ]
        raise DataError(f"{name}: all images must have the same size; resize them. Found:\n{_listed(sizes)}")
    label_of = {one: label for label, one in enumerate(parts[0].classes)}
    return Split(_stacked(arrays), torch.tensor([label_of[one] for files in parts for one in files.labels]))


def _listed(lines: list[str]) -> str:
    shown = [f"  {line}" for line in lines[:_MOST_LISTED]]
    if len(lines) > _MOST_LISTED:
        shown.append(f"  ... and {len(lines) - _MOST_LISTED} more")
    return "\n".join(shown)


def _shown(path: Path, directory: Path) -> str:
    """The path as a message may show it: from the data set's folder on, odd characters escaped."""
    text = str(path.relative_to(directory))
    return text if text.isprintable() else ascii(text)


def _stacked(arrays: list[Pixels]) -> torch.Tensor:
    """(N, C, H, W): one channel if every image is grey, else three."""
    if any(array.ndim == 3 for array in arrays):
        arrays = [array if array.ndim == 3 else np.repeat(array[:, :, None], 3, axis=2) for array in arrays]
        return torch.from_numpy(np.ascontiguousarray(np.stack(arrays).transpose(0, 3, 1, 2)))
    return torch.from_numpy(np.stack(arrays)[:, None])
