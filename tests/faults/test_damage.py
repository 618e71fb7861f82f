"""A checkpoint of which anything differs from what was written is noticed, and the newest sound one is used."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kills import compare
from lrlab.runs import DamagedError, sound_checkpoints
from lrlab.runs.checkpoints import MANIFEST, newest_sound, read_checkpoint, write_checkpoint

FILES = {
    "model.safetensors": bytes(range(256)),
    "state.pt": b"state" * 40,
    "config.toml": b"steps = 4\n",
    "empty": b"",
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A directory with two small checkpoints."""
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    for step in (5, 10):
        write_checkpoint(tmp_path / "run", step, FILES, keep=2)
    return tmp_path / "run"


@pytest.fixture
def newest(run: Path) -> Path:
    return run / "checkpoints" / "step-000010"


def passed_over(run: Path) -> str:
    """Go on from the newest sound checkpoint, which is the older of the two; return what is said of the other."""
    with pytest.warns(UserWarning, match="It is skipped") as said:
        checkpoint = newest_sound(run)
    assert checkpoint is not None and checkpoint.step == 5
    return str(said[0].message)


def test_what_was_written_is_what_is_read(run: Path, newest: Path) -> None:
    assert read_checkpoint(newest).files == FILES
    assert (run / "checkpoints" / "latest").read_text() == "step-000010\n"
    assert [checkpoint.step for checkpoint in sound_checkpoints(run)] == [10, 5]


def test_a_flipped_bit_is_noticed_wherever_it_is(run: Path, newest: Path) -> None:
    choice = random.Random(0)
    paths = sorted(path for path in newest.iterdir() if path.stat().st_size)
    for number in range(1000):
        path = paths[number % len(paths)]
        content = bytearray(path.read_bytes())
        content[choice.randrange(len(content))] ^= 1 << choice.randrange(8)
        whole = path.read_bytes()
        path.write_bytes(content)
        with pytest.raises(DamagedError):
            read_checkpoint(newest)
        path.write_bytes(whole)
    assert read_checkpoint(newest).files == FILES
    path.write_bytes(content)
    assert path.name in passed_over(run)


def test_a_file_cut_short_or_with_more_at_its_end_is_noticed_at_every_length(run: Path, newest: Path) -> None:
    for path in newest.iterdir():
        whole = path.read_bytes()
        for length in {*range(0, len(whole), 7), len(whole) - 1} - {-1}:
            path.write_bytes(whole[:length])
            with pytest.raises(DamagedError):
                read_checkpoint(newest)
        path.write_bytes(whole + b"\n")
        with pytest.raises(DamagedError):
            read_checkpoint(newest)
        path.write_bytes(whole)
    (newest / "state.pt").write_bytes(b"")
    passed_over(run)


def rewrite(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    """Change a manifest and leave it well-formed."""
    content = json.loads((folder / MANIFEST).read_bytes())
    changed = change(content)
    (folder / MANIFEST).write_text(json.dumps(content if changed is None else changed, indent=2) + "\n")


def list_file(name: str) -> Callable[[dict[str, object]], object]:
    """List the canary, with its true size and digest, under a name that leads out of the folder."""

    def change(content: dict[str, dict[str, object]]) -> None:
        content["files"][name] = content["files"]["model.safetensors"]

    return change  # type: ignore[return-value]


def name_of(folder: Path, name: str) -> None:
    (folder / "model.safetensors").rename(folder / name)


MANIFESTS: dict[str, Callable[[Path], object]] = {
    "a name that leads out": lambda folder: rewrite(folder, list_file("../../../canary")),
    "an absolute name": lambda folder: rewrite(folder, list_file(str(folder.parents[2] / "canary"))),
    "a name that clears the screen": lambda folder: rewrite(folder, list_file("\x1b[2J")),
    "a file that is not there": lambda folder: (folder / "state.pt").unlink(),
    "a file that nobody listed": lambda folder: (folder / "more.pt").touch(),
    "a file listed no longer": lambda folder: rewrite(folder, lambda content: content["files"].pop("empty") and None),
    "another step": lambda folder: rewrite(folder, lambda content: content.update(step=11)),
    "another order": lambda folder: rewrite(folder, lambda content: dict(reversed(content.items()))),
    "one more key": lambda folder: rewrite(folder, lambda content: content.update(more=1)),
    "a later version": lambda folder: rewrite(folder, lambda content: content.update(format_version=3)),
    "a version that is no number": lambda folder: rewrite(folder, lambda content: content.update(format_version={})),
    "a list": lambda folder: rewrite(folder, lambda content: [content]),
    "files that are a list": lambda folder: rewrite(folder, lambda content: content.update(files=[1])),
    "no JSON": lambda folder: (folder / MANIFEST).write_bytes(b"\xff\xfe{"),
    "a million brackets": lambda folder: (folder / MANIFEST).write_bytes(b"[" * 1_000_000),
    "a number of a million digits": lambda folder: (folder / MANIFEST).write_bytes(b"1" * 1_000_000),
    "no manifest": lambda folder: (folder / MANIFEST).unlink(),
    "a link in place of a file": lambda folder: link(folder / "state.pt", folder.parent / "step-000005" / "state.pt"),
    "a link in place of the manifest": lambda folder: link(folder / MANIFEST, folder.parent / "kept"),
    "a link in place of the folder": lambda folder: link(folder, folder.parent / "step-000005"),
    "a file in place of the folder": lambda folder: (shutil.rmtree(folder), folder.touch()),
    "a folder in the folder": lambda folder: (folder / "more").mkdir(),
    "a pipe, which would never end": lambda folder: ((folder / "state.pt").unlink(), os.mkfifo(folder / "state.pt")),
}


def link(path: Path, target: Path) -> None:
    if not target.exists():
        shutil.copy(path, target)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to(target)


@pytest.mark.parametrize("what", MANIFESTS)
def test_a_checkpoint_that_somebody_changed_is_passed_over(run: Path, newest: Path, what: str) -> None:
    (run.parent / "canary").write_bytes(FILES["model.safetensors"])
    MANIFESTS[what](newest)
    said = passed_over(run)
    assert said.isprintable() and len(said) < 500 + len(str(newest))
    write_checkpoint(run, 15, FILES, keep=2)  # and it is no reason to delete a sound one, nor in the way
    assert [checkpoint.step for checkpoint in sound_checkpoints(run)] == [15, 5]


def test_a_checkpoint_under_the_name_of_another_step_is_noticed(newest: Path) -> None:
    with pytest.raises(DamagedError, match=r"its manifest.json differs from what was written"):
        read_checkpoint(newest.rename(newest.with_name("step-000012")))


def test_a_checkpoint_that_the_disk_gives_back_no_longer_is_passed_over(
    run: Path, newest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Path.read_bytes

    def broken(path: Path) -> bytes:
        if path == newest / "state.pt":
            raise OSError(5, "Input/output error", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", broken)
    assert "state.pt: cannot be read (Input/output error)" in passed_over(run)


def test_with_no_sound_checkpoint_nothing_is_begun_anew_in_silence(run: Path) -> None:
    for path in (run / "checkpoints").glob("step-*"):
        (path / "state.pt").unlink()
    with (
        pytest.warns(UserWarning, match="It is skipped"),
        pytest.raises(DamagedError, match="none of its checkpoints is intact. Restore one, or train a new run"),
    ):
        newest_sound(run)


def test_a_run_goes_on_from_the_older_checkpoint_and_ends_the_same(do, tmp_path: Path, whole: Path) -> None:
    assert do(kill={"number": 1, "how": "after", "within": "/step-000010/"}).code == -9
    config = tmp_path / "run" / "checkpoints" / "step-000030" / "config.toml"
    config.write_text(config.read_text().replace("batch_size = 16", "batch_size = 17"))  # one bit
    ended = do(lrlab=["resume", "run"])
    assert (ended.code, ended.err.count("\n")) == (0, 1), ended.err
    assert "step-000030: config.toml differs from what was written. It is skipped." in ended.err
    assert compare(whole, tmp_path / "run") == []
