from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from lrlab.data import CifarArchive, RecordFile

NUM_RECORDS = 6
CLASSES = ("cat", "dog", "frog")

Change = Callable[[dict[str, bytes]], None]


@dataclass(frozen=True)
class SmallCifar:
    """A data set in CIFAR's layout, small enough to be built in a test: its files, and the archive that holds them."""

    archive: CifarArchive
    files: dict[str, bytes]
    packed: bytes

    def extract(self, folder: Path) -> Path:
        """Writes the files as an extracted archive would have them."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        return folder

    def pack(self, folder: Path) -> Path:
        """Writes the archive under its own name."""
        path = folder / self.archive.file_name
        path.write_bytes(self.packed)
        return path

    def changed(self, change: Change) -> SmallCifar:
        """The same with other contents; its checksum is right, so whatever is wrong inside is met."""
        files = dict(self.files)
        change(files)
        return small_cifar_of(files, label_bytes=self.archive.label_bytes)


def small_cifar_of(files: dict[str, bytes], *, label_bytes: int) -> SmallCifar:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        folder = tarfile.TarInfo("small-bin")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in {"readme.html": b"not of interest", **files}.items():
            member = tarfile.TarInfo(f"small-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return SmallCifar(_described(buffer.getvalue(), label_bytes=label_bytes), files, buffer.getvalue())


def _described(packed: bytes, *, label_bytes: int) -> CifarArchive:
    return CifarArchive(
        name="small",
        url="http://127.0.0.1:9/some/where/small-binary.tar.gz",
        num_bytes=len(packed),
        sha256=hashlib.sha256(packed).hexdigest(),
        folder="small-bin",
        train=(RecordFile("one.bin", NUM_RECORDS), RecordFile("two.bin", NUM_RECORDS)),
        test=(RecordFile("test.bin", NUM_RECORDS),),
        names_file="names.txt",
        num_classes=len(CLASSES),
        label_bytes=label_bytes,
    )


def new_small_cifar(label_bytes: int = 1) -> SmallCifar:
    rng = np.random.default_rng(0)
    files = {}
    for name in ("one.bin", "two.bin", "test.bin"):
        records = rng.integers(0, 256, (NUM_RECORDS, label_bytes + 3072), dtype=np.uint8)
        records[:, label_bytes - 1] = np.arange(NUM_RECORDS) % len(CLASSES)
        files[name] = records.tobytes()
    files["names.txt"] = ("\n".join(CLASSES) + "\n\n").encode()
    return small_cifar_of(files, label_bytes=label_bytes)


@pytest.fixture
def small() -> SmallCifar:
    return new_small_cifar()


@pytest.fixture
def small_with_coarse_labels() -> SmallCifar:
    return new_small_cifar(label_bytes=2)
