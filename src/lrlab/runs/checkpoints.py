"""Checkpoints of a run: written whole or not at all, and believed only where every byte is what was written."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrlab.runs import storage

CHECKPOINT_VERSION = 2
"""Version of a checkpoint's content, in its manifest. Version 1 held the weights alone; nothing goes on from it."""

MANIFEST = "manifest.json"
LATEST = "latest"
"""Name of the newest checkpoint, for people and scripts; nothing here believes it."""

_NAME = re.compile(r"step-(\d{6,})")


class DamagedError(storage.StorageError):
    """A checkpoint is not what was written."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and found sound."""

    path: Path
    step: int
    """Updates made before it."""
    files: Mapping[str, bytes]
    """Name -> content; the very bytes that were checked."""


def write_checkpoint(run: Path, step: int, files: Mapping[str, bytes], *, keep: int) -> None:
    """Write checkpoints/step-<n>/: the files, and last a manifest of their sizes and SHA-256.

    The folder is filled under another name, brought to the disk, and renamed when it is whole. Only then do older ones
    go: all but the newest `keep` that are sound.

    Args:
        run: the run's directory.
        step: updates made so far.
        files: name -> content.
        keep: checkpoints to leave, this one counted, >= 2.
    Raises: StorageError; what was there before is there still.
    """
    target = run / storage.CHECKPOINTS / f"step-{step:06d}"
    aside = target.with_name(f".{target.name}.tmp")
    with storage.storage_errors(target):
        try:
            shutil.rmtree(aside, ignore_errors=True)  # of a process that was killed here
            aside.mkdir()
            for name, content in files.items():
                _write_synced(aside / name, content)
            facts = {name: _facts(content) for name, content in files.items()}
            _write_synced(aside / MANIFEST, _manifest(step, facts))
            storage.sync_directory(aside)
            aside.rename(target)
            storage.sync_directory(target.parent)
        except OSError:
            shutil.rmtree(aside, ignore_errors=True)  # the space is better used by rows
            raise
    storage.write_whole(target.parent / LATEST, f"{target.name}\n".encode())
    prune(run, keep=keep, sound=target)


def last_step(run: Path) -> int | None:
    """Return the update of the newest checkpoint, sound or not; None if there is none."""
    return max(map(checkpoint_step, checkpoint_paths(run)), default=None)


def checkpoint_paths(run: Path) -> list[Path]:
    """Return the checkpoints of a run, newest first, whether they are sound or not."""
    folder = run / storage.CHECKPOINTS
    with storage.storage_errors(folder):
        found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=checkpoint_step, reverse=True)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint whole, and check every byte of it against its manifest.

    Raises: DamagedError that says what is wrong; StorageError.
    """
    contents = _contents(path)
    manifest = contents.pop(MANIFEST, None)
    if manifest is None:
        raise DamagedError(f"{path}: it has no {MANIFEST}.")
    version = _version(manifest)
    if version == 1:
        raise DamagedError(f"{path}: written by an older lrlab, with weights only: no run can be resumed from it.")
    if version is not None and version != CHECKPOINT_VERSION:
        raise DamagedError(
            f"{path}: its format_version is {version!r:.20}, this lrlab reads {CHECKPOINT_VERSION}. "
            "Use the lrlab that wrote it."
        )
    found = {name: _facts(content) for name, content in contents.items()}
    wrong = [name for name, facts in _listed(manifest).items() if found.get(name) != facts]
    if wrong:
        names = ", ".join(sorted(name if name.isprintable() else ascii(name) for name in wrong))
        raise DamagedError(f"{path}: {names:.200} differs from what was written.")
    # to the byte, so that nothing in it can be changed unnoticed
    if manifest != _manifest(checkpoint_step(path), found):
        raise DamagedError(f"{path}: its {MANIFEST} differs from what was written.")
    return Checkpoint(path, checkpoint_step(path), contents)


def newest_sound(run: Path) -> Checkpoint | None:
    """Return the newest checkpoint that is sound, None if there is not one at all; warns of each that is not.

    Raises: DamagedError if there are checkpoints and none is sound: to begin anew is for somebody to decide.
    """
    problem: DamagedError | None = None
    for path in checkpoint_paths(run):
        try:
            return read_checkpoint(path)
        except DamagedError as error:
            problem = error
            warnings.warn(f"{error} It is skipped.", stacklevel=2)
    if problem is not None:
        raise DamagedError(
            f"{run}: none of its checkpoints is intact. Restore one, or train a new run in another directory."
        )
    return None


def last_network(run: Path) -> Checkpoint:
    """Return the newest checkpoint that is sound, for the network in it; warns as `newest_sound` does.

    Raises: RunError if there is no checkpoint, DamagedError if none is sound.
    """
    checkpoint = newest_sound(run)
    if checkpoint is None:
        raise storage.RunError(f"{run}: it has no checkpoint, so there is no network in it.")
    return checkpoint


def sound_checkpoints(run: Path) -> list[Checkpoint]:
    """Read all checkpoints of a run that are sound, newest first."""
    found = []
    for path in checkpoint_paths(run):
        with contextlib.suppress(DamagedError):
            found.append(read_checkpoint(path))
    return found


def _contents(path: Path) -> dict[str, bytes]:
    if path.is_symlink() or not path.is_dir():
        raise DamagedError(f"{path}: it is a link, or not a folder.")
    with storage.storage_errors(path):
        files = list(path.iterdir())
        if any(file.is_symlink() or not file.is_file() for file in files):
            raise DamagedError(f"{path}: it holds something that is not a regular file.")
        return {file.name: _content(file) for file in files}


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        if error.errno == errno.EIO:  # the disk itself says that it has lost it
            raise DamagedError(f"{file}: cannot be read ({error.strerror}).") from error
        raise


def prune(run: Path, *, keep: int, sound: Path | None = None) -> None:
    """Delete all but the newest `keep` that are sound: a damaged one is no reason to delete another.

    Args:
        run: the run's directory.
        keep: checkpoints to leave.
        sound: one that was written just now and need not be read again.
    Raises: StorageError.
    """
    num_sound = 0
    for path in checkpoint_paths(run):
        if num_sound >= keep:
            with storage.storage_errors(path):
                storage.delete(path)
        elif path == sound or _is_sound(path):
            num_sound += 1


def _is_sound(path: Path) -> bool:
    try:
        read_checkpoint(path)
    except DamagedError:
        return False
    return True


def checkpoint_step(path: Path) -> int:
    """Return the updates made before a checkpoint, which its folder is named after."""
    match = _NAME.fullmatch(path.name)
    assert match is not None, path
    return int(match.group(1))


def _facts(content: bytes) -> dict[str, Any]:
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _manifest(step: int, facts: Mapping[str, Any]) -> bytes:
    listed = {name: facts[name] for name in sorted(facts)}
    return (json.dumps({"format_version": CHECKPOINT_VERSION, "step": step, "files": listed}, indent=2) + "\n").encode()


def _parsed(manifest: bytes) -> Mapping[str, Any]:
    try:
        content = json.loads(manifest)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _version(manifest: bytes) -> Any:
    return _parsed(manifest).get("format_version")


def _listed(manifest: bytes) -> Mapping[str, Any]:
    files = _parsed(manifest).get("files")
    return files if isinstance(files, dict) else {}


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
