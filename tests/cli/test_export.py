"""lrlab export, as somebody types it."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from lrlab.cli import main
from lrlab.config import parse_config
from lrlab.data import load_digits_data
from lrlab.experiments import Experiment, load_trained
from lrlab.experiments.network_file import Description

pytestmark = pytest.mark.usefixtures("blank_pictures")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("made") / "run"
    settings = {"model": {"width": 2}, "steps": 3, "batch_size": 16, "schedule": {"name": "constant"}}
    for _ in Experiment(parse_config(settings), data=load_digits_data()).run(directory):
        pass
    return directory


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "run")


def test_it_says_what_it_wrote_and_what_was_checked(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run), "--format", "safetensors", "--json"]) == 0
    out, err = capsys.readouterr()
    path = run / "export" / "model.safetensors"
    assert json.loads(out) == {
        "run": str(run),
        "format": "safetensors",
        "path": str(path),
        "step": 3,
        "bytes": path.stat().st_size,
        "removed": [],
        "check": {"tensors": 122, "values": 11_704, "same_bits": True},
    }
    first, second = err.splitlines()
    assert first == f"{path}: {path.stat().st_size:,} bytes, the network after update 3"
    assert second == "checked: 122 tensors of 11,704 values, read back and the same to the bit; card: README.md"


def test_an_exported_folder_is_predicted_with(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("L", (8, 8), 90).save(tmp_path / "image.png")
    assert main(["export", str(run), "--format", "safetensors", "--out", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    found = []
    for place in (run, tmp_path / "out", tmp_path / "out" / "model.safetensors"):
        assert main(["predict", str(place), str(tmp_path / "image.png"), "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out)["predictions"])
    assert found[0] == found[1] == found[2]


def test_without_the_extra_it_says_what_to_install(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for missing in ("onnx", "onnxruntime", "onnxscript"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, missing, None)  # as Python itself has what cannot be imported
            assert main(["export", str(run), "--format", "onnx"]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and error.startswith("lrlab: --format onnx needs more libraries")
        assert missing in error and error.endswith("pip install 'lrlab[onnx]'.\n")
    assert not (run / "export").exists()


def test_what_another_network_left_in_the_folder_goes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run), "--format", "onnx"]) == 0
    assert main(["export", str(run), "--format", "safetensors"]) == 0
    assert sorted(path.name for path in (run / "export").iterdir()) == ["README.md", "model.onnx", "model.safetensors"]
    assert main(["resume", str(run), "--steps", "4"]) == 0
    (run / "export" / "README.md").write_text("edited")
    assert main(["export", str(run), "--format", "onnx"]) == 2
    assert "README.md: not replaced, since lrlab did not write it" in capsys.readouterr().err
    (run / "export" / "README.md").unlink()
    assert main(["export", str(run), "--format", "onnx"]) == 0
    assert "deleted, being of another network: model.safetensors\n" in capsys.readouterr().out
    assert [path.name for path in (run / "export").iterdir()] == ["model.onnx"]
    (run / "export" / "model.safetensors").write_bytes(b"of somebody else")
    assert main(["export", str(run), "--format", "onnx"]) == 0
    assert (run / "export" / "model.safetensors").read_bytes() == b"of somebody else"


def test_what_another_lrlab_exported_of_the_same_network_stays(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    field = Description.model_fields["lrlab"]
    monkeypatch.setattr(field, "default", "0.0.9")
    Description.model_rebuild(force=True)
    assert main(["export", str(run), "--format", "safetensors"]) == 0
    monkeypatch.undo()
    Description.model_rebuild(force=True)
    assert load_trained(run / "export").description.lrlab == "0.0.9"
    assert main(["export", str(run), "--format", "onnx"]) == 0
    assert "deleted" not in capsys.readouterr().out
    assert sorted(path.name for path in (run / "export").iterdir()) == ["README.md", "model.onnx", "model.safetensors"]


def test_what_is_wrong_is_said_in_a_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    shutil.copytree(run, tmp_path / "bare", ignore=shutil.ignore_patterns("step-*"))
    for code, arguments, said in (
        (2, (str(run),), "--format safetensors|onnx is missing"),
        (2, (str(run), "--format", "pickle"), 'Choose from: "safetensors", "onnx"'),
        (2, (str(run), "--format", "safetensors", "--data-dir", "x"), "--data-dir: only the check of --format onnx"),
        (2, (str(run), "--format", "onnx", "--data-dir", "x"), "digits come with scikit-learn"),
        (2, (str(tmp_path), "--format", "safetensors"), "holds no run"),
        (2, (str(tmp_path / "bare"), "--format", "safetensors"), "it has no checkpoint"),
        (5, (str(run), "--format", "safetensors", "--out", str(tmp_path / "file")), "File exists"),
    ):
        assert main(["export", *arguments]) == code
        error = capsys.readouterr().err
        assert said in error and len(error.splitlines()) <= 2


def test_help_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "export " in capsys.readouterr().out
    assert main(["export", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "safetensors|onnx" in shown and "--out" in shown and "--data-dir" in shown
