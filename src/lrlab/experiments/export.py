"""Exports the network that a run ended with, so that others can use it without the run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, NamedTuple

import torch
from torch import Tensor

from lrlab.config import merge, parse_config
from lrlab.experiments.build import build_data
from lrlab.experiments.facts import check_same_data
from lrlab.experiments.network_file import KEY, metadata, network_bytes, read_network, weights_of
from lrlab.experiments.onnx import check_onnx, to_onnx
from lrlab.experiments.state import MODEL
from lrlab.experiments.trained import TrainedModel, load_trained
from lrlab.report.model_card import is_sealed, model_card
from lrlab.runs import Run, StorageError, read_run
from lrlab.runs.storage import EXPORT, delete, storage_errors, write_whole

Format = Literal["safetensors", "onnx"]

CARD: Final = "README.md"
FILES: Final[Mapping[str, tuple[str, ...]]] = {"safetensors": (MODEL, CARD), "onnx": ("model.onnx",)}
"""What an export consists of, the network first."""

_SAYS: Final = re.compile(
    rb'\\?"sha256\\?": \\?"([0-9a-f]{64})\\?", \\?"network\\?": '
    rb'{\\?"format_version\\?": \d+, \\?"lrlab\\?": \\?"([^"\\]+)\\?"'
)
"""What a file of either format says of the network in it and of its writer, found without the library of the format."""


class ExportError(ValueError):
    """An export would replace a file that lrlab did not write."""

    exit_code: ClassVar[int] = 2


@dataclass(frozen=True)
class Export:
    """What was exported, and what was found when it was checked."""

    format: Format
    path: Path
    """Of the network."""
    step: int
    """Updates that it was trained for."""
    bytes: int
    removed: tuple[str, ...]
    """Earlier exports in the same folder, of another network."""
    check: Mapping[str, Any]
    sentence: str
    """The check in words."""

    def document(self) -> dict[str, Any]:
        """Return it as plain values."""
        found = {**asdict(self), "path": str(self.path), "removed": list(self.removed)}
        del found["sentence"]
        return found


class Said(NamedTuple):
    """What an exported file says of itself."""

    sha256: str
    """Of the network and what is said of it, its writer among that."""
    version: str
    """Of the lrlab that wrote it."""


def export_run(
    directory: Path | str,
    file_format: Format,
    *,
    out: Path | str | None = None,
    data_dir: Path | str | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> Export:
    """Write the network of a run's newest sound checkpoint, the average of the weights where there is one, as files.

    safetensors: the weights, with all that `load_trained` needs, and a model card; read back and compared bit for bit
    before it takes its place. onnx: a graph, which takes its place once onnxruntime has computed what PyTorch does on
    every image that evaluations are of.

    Args:
        directory: of the run.
        file_format: safetensors or onnx.
        out: folder for the files; by default `export` in the run. What lrlab exported there is replaced; of another
            network, in the other format too.
        data_dir: folder with the images that onnx is checked on, where they are no longer where the run had them.
        device: where PyTorch computes.
    Raises: ExportError for a file in the way that is not ours; OnnxError without the extra; OnnxDiffersError; what
        `load_trained` and `build_data` raise; StorageError.
    """
    run = read_run(directory)
    trained = load_trained(directory, device=device)
    folder = Path(directory) / EXPORT if out is None else Path(out)
    stale = _make_room(folder, file_format, trained)
    if file_format == "safetensors":
        check, sentence = _write_safetensors(folder, run, trained)
    else:
        check, sentence = _write_onnx(folder, run, trained, data_dir)
    with storage_errors(folder):
        for path in stale:
            delete(path)
    path = folder / FILES[file_format][0]
    removed = tuple(one.name for one in stale)
    return Export(file_format, path, trained.description.step, path.stat().st_size, removed, check, sentence)


def _write_safetensors(folder: Path, run: Run, trained: TrainedModel) -> tuple[dict[str, Any], str]:
    description, weights = trained.description, weights_of(trained.model)
    card = model_card(run, step=description.step)

    def check(written: Path) -> None:
        found, read = read_network(written)
        if found != description or not _same_bits(weights, read):
            raise StorageError(f"{written}: what was read back differs from what was written. Check the disk.")

    _write(folder / MODEL, network_bytes(description, weights), check)
    _write(folder / CARD, card.encode())
    num_values = sum(tensor.numel() for tensor in weights.values())
    sentence = f"{len(weights)} tensors of {num_values:,} values, read back and the same to the bit; card: {CARD}"
    return {"tensors": len(weights), "values": num_values, "same_bits": True}, sentence


def _write_onnx(
    folder: Path, run: Run, trained: TrainedModel, data_dir: Path | str | None
) -> tuple[dict[str, Any], str]:
    content = to_onnx(trained)
    where = {} if data_dir is None else {"data": {"dir": str(data_dir)}}
    data = build_data(parse_config(merge(dict(run.config), where)).data)
    check_same_data(data, run.info)
    name, split = data.evaluated
    found = check_onnx(content, trained, split)
    _write(folder / FILES["onnx"][0], content)
    return {"split": name, **asdict(found)}, f"{name} split, {found.sentence}"


def _write(path: Path, content: bytes, check: Callable[[Path], None] = lambda written: None) -> None:
    with storage_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content, check=check)


def _same_bits(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(_bits(one[name]), _bits(other[name])) for name in one
    )


def _bits(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)  # a zero's sign counts too


def _make_room(folder: Path, file_format: Format, trained: TrainedModel) -> list[Path]:
    """Return what else lrlab exported to a folder that is of another network, and would be taken for this one's.

    Raises: ExportError if it, or what is to be replaced, was not written by lrlab, or was edited.
    """
    weights = weights_of(trained.model)

    def this_as_written_by(version: str) -> Said:
        description = trained.description.model_copy(update={"lrlab": version})
        return Said(json.loads(metadata(description, weights)[KEY])["sha256"], version)

    goes, stale = [], list[Path]()
    for kind, names in FILES.items():
        paths = [folder / name for name in names if (folder / name).exists()]
        if kind == file_format:
            goes += paths
        elif (said := _said(folder / names[0])) is not None and said != this_as_written_by(said.version):
            stale += paths
    for path in (*goes, *stale):
        if not (_is_our_card(path) if path.name == CARD else _said(path)):
            raise ExportError(
                f"{path}: not replaced, since lrlab did not write it or it was changed. Move it, or choose another "
                "folder with --out."
            )
    return stale


def _said(path: Path) -> Said | None:
    """What an exported network says of itself; None of any other file, or none."""
    with storage_errors(path):
        found = _SAYS.search(path.read_bytes()) if path.is_file() else None
    return Said(*(group.decode() for group in found.groups())) if found else None


def _is_our_card(path: Path) -> bool:
    with storage_errors(path):
        return path.is_file() and is_sealed(path.read_bytes().decode(errors="replace"))
