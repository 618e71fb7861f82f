"""A checkpoint that somebody made to do harm: it does none, and the program says why it does not go on."""

import io
import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lrlab.experiments.state import MODEL, STATE
from lrlab.runs import sound_checkpoints
from lrlab.runs.checkpoints import read_checkpoint, write_checkpoint
from lrlab.training.checkpoint import CheckpointError, load_state, state_bytes


class Touches:
    """Unpickled, it makes a file."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self._canary}",)


def saved(canary: Path, *, is_zip: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save({"optimizer": Touches(canary)}, buffer, _use_new_zipfile_serialization=is_zip)
    return buffer.getvalue()


PICKLES: dict[str, Callable[[Path], bytes]] = {
    "as torch saves": lambda canary: saved(canary, is_zip=True),
    "as torch saved before": lambda canary: saved(canary, is_zip=False),
    "bare": lambda canary: pickle.dumps(Touches(canary)),
    "by a global alone": lambda canary: b"cos\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR.",
    "that never ends": lambda canary: b"(" * 100_000,
    "empty": lambda canary: b"",
    "a list": lambda canary: saved_list(),
}


def saved_list() -> bytes:
    buffer = io.BytesIO()
    torch.save([1], buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", PICKLES)
def test_nothing_in_a_pickle_is_run(tmp_path: Path, kind: str) -> None:
    canary = tmp_path / "canary"
    with pytest.raises(CheckpointError, match=r"state.pt was not written by lrlab"):
        load_state(PICKLES[kind](canary))
    assert not canary.exists()


def test_a_canary_would_have_been_touched(tmp_path: Path) -> None:
    torch.load(io.BytesIO(PICKLES["as torch saves"](tmp_path / "canary")), weights_only=False)
    assert (tmp_path / "canary").exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_bytes_that_were_changed_load_or_are_refused_and_do_nothing_else() -> None:
    good = state_bytes({"a": torch.arange(5.0), "b": {"c": [1, "x", None]}})
    choice = random.Random(0)
    refused = 0
    for _ in range(500):
        content = bytearray(good)
        for _ in range(choice.choice([1, 2, 5, 20])):
            content[choice.randrange(len(content))] = choice.randrange(256)
        try:
            load_state(bytes(content))
        except CheckpointError:
            refused += 1
    assert refused > 250


SEALED: dict[str, tuple[dict[str, bytes | None], str]] = {
    "a pickle": ({STATE: None}, "state.pt was not written by lrlab"),
    "weights that are none": ({MODEL: b"\xff" * 100}, "The weights are those of another model"),
    "another's state": ({STATE: state_bytes({"session": 3, "optimizer": 4})}, "The checkpoint is not of this run"),
    "no position": ({"position.json": b"[]"}, "position.json is not what lrlab writes"),
}


@pytest.mark.parametrize("what", SEALED)
def test_a_true_manifest_over_false_files_is_exit_code_5_and_a_line(do, tmp_path: Path, whole: Path, what: str) -> None:
    shutil.copytree(whole, tmp_path / "run")
    newest, older = sound_checkpoints(whole)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / older.path.name)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / newest.path.name)
    canary = tmp_path / "canary"
    files, message = SEALED[what]
    put = {name: saved(canary, is_zip=True) if content is None else content for name, content in files.items()}
    write_checkpoint(tmp_path / "run", newest.step, {**newest.files, **put}, keep=2)
    read_checkpoint(tmp_path / "run" / "checkpoints" / newest.path.name)  # sound, as far as a manifest tells
    ended = do(lrlab=["resume", "run", "--steps", "41"])
    assert (ended.code, ended.err.count("\n")) == (5, 1), ended.err
    assert message in ended.err
    assert not canary.exists()
