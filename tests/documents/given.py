"""What the pages take for given: names of one's own loop, and files and runs that a reader has already."""

import hashlib
import io
import re
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from blocks import blocks
from lrlab.config import parse_config, read_study
from lrlab.data import CIFAR10, CIFAR100, CifarArchive, RecordFile
from lrlab.experiments import Experiment
from lrlab.models import resnet18
from lrlab.studies import run_study
from small import small_study

ROOT = Path(__file__).parents[2]

NUM_TRAIN, NUM_TEST = 160, 40
"""Images in the stand-in for CIFAR: every class of CIFAR-100 has one to learn from."""


def given_names() -> dict[str, Any]:
    """What a page means by `model`, `optimizer`, `criterion`, `loader`, and one batch of it."""
    torch.manual_seed(0)
    model = resnet18(num_classes=3, width=2)
    batches = [(torch.randn(8, 3, 8, 8), torch.randint(3, (8,))) for _ in range(50)]
    loader = DataLoader(batches, batch_size=None)
    images, labels = batches[0]
    criterion = nn.CrossEntropyLoss()
    return {
        "model": model,
        "optimizer": torch.optim.Adam(model.parameters(), lr=1e-3),
        "criterion": criterion,
        "loader": loader,
        "images": images,
        "labels": labels,
        "loss": criterion(model(images), labels),
    }


class Given:
    """Makes what a page names and does not make itself; each thing is made once, and copied from then on."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._store.mkdir(exist_ok=True)
        self.cifar = store / "cifar"
        """Folder with stand-ins for the archives of CIFAR."""
        self.cifar.mkdir()
        self.archives = _small_archives(self.cifar)

    def provide(self, name: str) -> None:
        """Put what goes by this name into the current folder, if it is one of the things here and not there yet."""
        path = Path(name)
        make = self._maker(name)
        if make is None or path.exists():
            return
        kept = self._store / name.replace("/", "-")
        if not kept.exists():
            make(kept)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(kept, path) if kept.is_dir() else shutil.copyfile(kept, path)

    def _maker(self, name: str) -> Callable[[Path], Any] | None:
        if (study := ROOT / name).is_file() and study.parent.name == "studies":
            return lambda path: path.write_text(small_study(study.read_text()))
        if name.startswith("runs/") and (study := ROOT / "studies" / f"{name[5:]}.toml").is_file():
            return lambda path: _make_study(path, study)
        if name in CIFAR_FOLDERS:
            return lambda path: shutil.copytree(self.cifar, path)
        return MAKERS.get(name)


def _small_archives(folder: Path) -> dict[str, CifarArchive]:
    """Write stand-ins for the archives of CIFAR-10 and CIFAR-100, a few images each; return what they are."""
    return {archive.name: _small_archive(archive, folder) for archive in (CIFAR10, CIFAR100)}


def _small_archive(archive: CifarArchive, folder: Path) -> CifarArchive:
    train, test = RecordFile(archive.train[0].name, NUM_TRAIN), RecordFile(archive.test[0].name, NUM_TEST)
    rng, files = np.random.default_rng(0), {}
    for file in (train, test):
        records = rng.integers(0, 256, (file.num_records, archive.label_bytes + 3072), dtype=np.uint8)
        records[:, : archive.label_bytes] = np.arange(file.num_records)[:, None] % archive.num_classes
        files[file.name] = records.tobytes()
    files[archive.names_file] = "\n".join(f"class{number}" for number in range(archive.num_classes)).encode()
    with tarfile.open(folder / archive.file_name, "w:gz") as packed:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{archive.folder}/{name}")
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    content = (folder / archive.file_name).read_bytes()
    checksum = hashlib.sha256(content).hexdigest()
    return replace(archive, train=(train,), test=(test,), num_bytes=len(content), sha256=checksum)


def _make_run(path: Path, *, seed: int = 0) -> None:
    """A run on the digits with all that a page may ask of one: gradients, layers, two checkpoints."""
    table = {
        "steps": 40, "batch_size": 8, "seed": seed, "model": {"width": 2}, "schedule": {"name": "constant"},
        "telemetry": {"layers_every": 5}, "checkpoint": {"every": 20}, "evaluate": {"every": 20},
    }  # fmt: skip
    for _ in Experiment(parse_config(table)).run(path):
        pass


def _make_study(path: Path, file: Path) -> None:
    """The runs of a study, small, without its page."""
    small = path.with_suffix(".toml")
    small.write_text(small_study(file.read_text()))
    plan = read_study(small)
    for _ in run_study(plan, small, root=path.parent / "studies"):
        pass
    (path.parent / "studies" / plan.name).rename(path)


def _make_pair(path: Path) -> None:
    """A study of two schedules."""
    file = path.with_name("pair.toml")
    file.write_text(
        'name = "pair"\nseeds = [0, 1]\n[base]\ntelemetry.layers_every = 1\n'
        '[arms]\nconstant = { schedule.name = "constant" }\ncosine = { schedule.name = "cosine" }\n'
    )
    _make_study(path, file)


def _make_photos(path: Path) -> None:
    """A folder for each class, with eighty images in it."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (path / name).mkdir(parents=True)
        for number in range(80):
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path / name / f"{number}.png")


def _make_faces(path: Path) -> None:
    """The same, in train/ and test/."""
    for part in ("train", "test"):
        _make_photos(path / part)


def _make_more_photos(path: Path) -> None:
    path.mkdir()
    Image.new("RGB", (30, 20), (9, 9, 9)).save(path / "one.png")


def _make_trial(path: Path) -> None:
    """A study of the repository, with tuned rates, under the name that a page has for it."""
    small = small_study((ROOT / "studies" / "schedules.toml").read_text())
    path.write_text(re.sub(r'^name = ".*"', 'name = "trial"', small, flags=re.M))


def _make_losses(path: Path) -> None:
    path.write_text("step,loss\n" + "\n".join(f"{step},{1 / step + 0.1 * (step % 3)}" for step in range(1, 101)))


def _table_of(page: str, number: int) -> Callable[[Path], Any]:
    """What writes one of the tables that a page shows as text."""
    tables = [block.text for block in blocks(ROOT / page, name=page) if block.language == "text"]
    return lambda path: path.write_text(tables[number])


CIFAR_FOLDERS = ("DIR", "data", "shared/cifar10")
MAKERS: dict[str, Callable[[Path], Any]] = {
    "runs/first": _make_run,
    "runs/second": lambda path: _make_run(path, seed=1),
    "runs/two": _make_run,
    "runs/study": _make_pair,
    "photos": _make_photos,
    "faces": _make_faces,
    "more-photos": _make_more_photos,
    "photo.jpg": lambda path: Image.new("L", (30, 30), 200).save(path, "JPEG"),
    "image.png": lambda path: Image.new("L", (30, 30), 200).save(path, "PNG"),
    "losses.csv": _make_losses,
    "log.csv": _table_of("docs/trackers.md", 0),
    "all.csv": _table_of("docs/trackers.md", 1),
    "trial.toml": _make_trial,
    "study.toml": lambda path: path.write_text(small_study((ROOT / "studies" / "demo.toml").read_text())),
}
"""Name -> what makes it. Studies of the repository, and their runs, are there by themselves."""
