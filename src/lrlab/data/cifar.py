"""CIFAR-10 and CIFAR-100 in their official binary layout: found, downloaded, checked and read, never extracted."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pooch
import torch

from lrlab.data.archive import read_members, sha256_of
from lrlab.data.download import DownloadError, download
from lrlab.data.images import DataError, ImageData, Split, image_data, reading

_SHAPE = (3, 32, 32)  # of every image: planes of red, green and blue, row by row
_NUM_PIXEL_BYTES = 3 * 32 * 32
_LARGEST_NAMES_FILE = 4096  # bytes


@dataclass(frozen=True)
class RecordFile:
    """A file of images: records of fixed length, nothing before, between or behind them."""

    name: str
    num_records: int


@dataclass(frozen=True)
class CifarArchive:
    """Where a data set of this layout comes from, and what it must hold to the byte."""

    name: str
    url: str
    num_bytes: int
    sha256: str
    folder: str
    """Of all members in the archive, and of the extracted files."""
    train: tuple[RecordFile, ...]
    test: tuple[RecordFile, ...]
    names_file: str
    """The class names, one a line."""
    num_classes: int
    label_bytes: int = 1
    """Bytes before the pixels of each record; the last of them is the label."""

    @property
    def file_name(self) -> str:
        """The archive's own name."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def sizes(self) -> dict[str, int]:
        """Exact size of each file of images, in bytes."""
        length = self.label_bytes + _NUM_PIXEL_BYTES
        return {file.name: file.num_records * length for file in (*self.train, *self.test)}


CIFAR10 = CifarArchive(
    name="cifar10",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    num_bytes=170_052_171,
    sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    folder="cifar-10-batches-bin",
    train=tuple(RecordFile(f"data_batch_{number}.bin", 10_000) for number in range(1, 6)),
    test=(RecordFile("test_batch.bin", 10_000),),
    names_file="batches.meta.txt",
    num_classes=10,
)

CIFAR100 = CifarArchive(
    name="cifar100",
    url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    num_bytes=168_513_733,
    sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    folder="cifar-100-binary",
    train=(RecordFile("train.bin", 50_000),),
    test=(RecordFile("test.bin", 10_000),),
    names_file="fine_label_names.txt",
    num_classes=100,
    label_bytes=2,  # coarse, then fine
)


def cache_directory() -> Path:
    """Where downloads are kept: LRLAB_DATA_DIR, or else the operating system's place for such things."""
    if chosen := os.environ.get("LRLAB_DATA_DIR"):
        return Path(chosen).expanduser()
    return Path(pooch.os_cache("lrlab"))


def fetch_cifar(archive: CifarArchive, directory: Path) -> Path:
    """The archive's path in `directory`, downloaded unless it is there and sound.

    Raises: DataError that says what failed and how to do without.
    """
    try:
        return download(archive.url, directory=directory, num_bytes=archive.num_bytes, sha256=archive.sha256)
    except DownloadError as error:
        raise DataError(
            f"{archive.name}: could not download {archive.url} to {directory}: {error}\n"
            f"Put {archive.file_name} there by hand, or name a folder that has it: data.dir (--data-dir where "
            "the command has it) or LRLAB_DATA_DIR. The data set digits needs no download."
        ) from error


def load_cifar(archive: CifarArchive, directory: Path | None) -> ImageData:
    """The data set, whole, from the archive (read in memory) or from extracted files.

    Args:
        archive: which one.
        directory: holds the archive, or the extracted files themselves or in their official folder; where both
            are there the archive is read, since its checksum proves it. None: the cache, downloading if empty.
    Raises: DataError for whatever is missing, truncated, altered or out of range.
    """
    if directory is None:
        directory = cache_directory()
        with reading(archive.name):
            found = _locate(archive, directory)
        if found is None:
            fetch_cifar(archive, directory)
    return _load(archive, directory)[0]


def check_cifar(archive: CifarArchive, directory: Path | None) -> str:
    """Reads everything as `load_cifar` would, but downloads nothing; returns where it lies and how it was checked.

    Raises: DataError, as `load_cifar` does, and when nothing is there.
    """
    source = _load(archive, cache_directory() if directory is None else directory)[1]
    how = "SHA-256" if source.is_file() else "sizes and labels; a checksum is known for the archive only"
    return f"read from {source} (checked: {how})"


def _load(archive: CifarArchive, directory: Path) -> tuple[ImageData, Path]:
    with reading(archive.name):
        source, contents = _read(archive, directory)
    classes = _class_names(archive, contents[archive.names_file], source=source)
    train, test = (_split(archive, files, contents, source=source) for files in (archive.train, archive.test))
    return image_data(archive.name, classes=classes, train=train, test=test), source


def _read(archive: CifarArchive, directory: Path) -> tuple[Path, dict[str, bytes]]:
    """The archive or folder that was found, and the contents of its files by name."""
    source = _locate(archive, directory)
    if source is None:
        raise DataError(
            f"{archive.name}: {directory} holds neither {archive.file_name} nor extracted files such as "
            f"{archive.names_file}.\nRun lrlab data fetch {archive.name}, or name the right folder: data.dir "
            "(--data-dir where the command has it)."
        )
    read = _read_archive if source.is_file() else _read_folder
    return source, read(archive, source)


def _locate(archive: CifarArchive, directory: Path) -> Path | None:
    """The archive, or the folder where most of the extracted files lie, or None."""
    packed = directory / archive.file_name
    if packed.is_file():
        return packed
    names = (*archive.sizes, archive.names_file)
    folders = (directory / archive.folder, directory)
    num_found = {folder: sum((folder / name).is_file() for name in names) for folder in folders}
    best = max(folders, key=lambda folder: num_found[folder])
    return best if num_found[best] else None


def _read_archive(archive: CifarArchive, path: Path) -> dict[str, bytes]:
    with path.open("rb") as file:  # one handle for checksum and reading: nobody can swap the file in between
        found = sha256_of(file)
        if found != archive.sha256:
            raise DataError(
                f"{path}: SHA-256 must be {archive.sha256}, got {found} ({path.stat().st_size:,} bytes of "
                f"{archive.num_bytes:,}).\nThe file is damaged or not the published one: delete it and "
                f"download {archive.url} again."
            )
        prefix = f"{archive.folder}/"
        exact = {prefix + name: size for name, size in archive.sizes.items()}
        limits = {prefix + archive.names_file: _LARGEST_NAMES_FILE}
        members = read_members(file, exact=exact, at_most=limits)
    return {name.removeprefix(prefix): content for name, content in members.items()}


def _read_folder(archive: CifarArchive, folder: Path) -> dict[str, bytes]:
    names = (*archive.sizes, archive.names_file)
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise DataError(
            f"{archive.name}: {folder} lacks {', '.join(missing)}.\n"
            f"Extract {archive.file_name} again, or put the archive itself beside them."
        )
    wrong = [
        f"{folder / name}: must be {size:,} bytes, got {found:,}"
        for name, size in archive.sizes.items()
        if (found := (folder / name).stat().st_size) != size
    ]
    if (found := (folder / archive.names_file).stat().st_size) > _LARGEST_NAMES_FILE:
        wrong.append(f"{folder / archive.names_file}: must be at most {_LARGEST_NAMES_FILE:,} bytes, got {found:,}")
    if wrong:
        raise DataError("\n".join([*wrong, f"Extract {archive.file_name} again."]))
    return {name: (folder / name).read_bytes() for name in names}


def _class_names(archive: CifarArchive, content: bytes, *, source: Path) -> list[str]:
    names = [line.strip() for line in content.decode("utf-8", "replace").splitlines() if line.strip()]
    if len(names) != archive.num_classes:
        raise DataError(
            f"{source}: {archive.names_file} must name {archive.num_classes} classes, one a line, got {len(names)}."
        )
    return names


def _split(
    archive: CifarArchive, files: tuple[RecordFile, ...], contents: Mapping[str, bytes], *, source: Path
) -> Split:
    pixels: list[npt.NDArray[np.uint8]] = []
    labels: list[npt.NDArray[np.uint8]] = []
    for file in files:
        records = np.frombuffer(contents[file.name], np.uint8).reshape(file.num_records, -1)
        labels.append(records[:, archive.label_bytes - 1])
        pixels.append(records[:, archive.label_bytes :])
        wrong = np.flatnonzero(labels[-1] >= archive.num_classes)
        if wrong.size:
            raise DataError(
                f"{source}: {file.name}, record {wrong[0]} (counted from 0): label must be 0 to "
                f"{archive.num_classes - 1}, got {labels[-1][wrong[0]]} ({wrong.size} such records).\n"
                f"The file is damaged: get {archive.file_name} again."
            )
    images = torch.from_numpy(np.concatenate(pixels).reshape(-1, *_SHAPE))
    return Split(images, torch.from_numpy(np.concatenate(labels).astype(np.int64)))
