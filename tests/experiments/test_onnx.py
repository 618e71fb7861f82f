"""An exported graph computes what PyTorch does, on every image, and a graph that does not is refused."""

import copy
import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from blocks import blocks
from lrlab import load_trained
from lrlab.cli import main
from lrlab.config import parse_config
from lrlab.data import DataError, load_digits_data
from lrlab.experiments import Experiment, TrainedModel, export_run
from lrlab.experiments.onnx import TOLERANCE, OnnxDiffersError, check_onnx, to_onnx
from lrlab.runs import read_run

onnx = pytest.importorskip("onnx", reason="pip install 'lrlab[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'lrlab[onnx]'")

ROOT = Path(__file__).parents[2]
SPRITES = ROOT.parent / "shared" / "cifar10"
DIGITS = load_digits_data()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of averaged weights, good enough for logits that differ, and its exported graph."""
    directory = tmp_path_factory.mktemp("made") / "run"
    settings = {"model": {"width": 4}, "steps": 60, "averaging": {"decay": 0.9}, "schedule": {"name": "constant"}}
    for _ in Experiment(parse_config(settings), data=DIGITS).run(directory):
        pass
    export_run(directory, "onnx")
    return directory


@pytest.fixture(scope="module")
def trained(made: Path) -> TrainedModel:
    return load_trained(made)


@pytest.fixture(scope="module")
def content(made: Path) -> bytes:
    return (made / "export" / "model.onnx").read_bytes()


def logits(content: bytes, images: torch.Tensor) -> torch.Tensor:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


def test_a_graph_gives_the_logits_of_pytorch_for_all_test_images(
    made: Path, trained: TrainedModel, content: bytes
) -> None:
    expected, found = trained.logits(DIGITS.test.images), logits(content, DIGITS.test.images)
    assert found.dtype == torch.float32
    difference, largest = float((expected - found).abs().max()), float(expected.abs().max())
    assert difference <= TOLERANCE * max(1.0, largest)
    check = check_onnx(content, trained, DIGITS.test)
    assert (check.images, check.classes_differ, check.logit_difference) == (len(DIGITS.test), 0, difference)
    assert check.torch_accuracy == check.onnx_accuracy == read_run(made).result["test_accuracy"] > 0.3
    assert 0 < check.probability_difference < check.logit_difference


@pytest.mark.parametrize("number", [1, 7])
def test_a_graph_takes_any_number_of_images(trained: TrainedModel, content: bytes, number: int) -> None:
    images = DIGITS.test.images[:number]
    torch.testing.assert_close(logits(content, images), trained.logits(images), rtol=0, atol=1e-4)


def test_a_graph_says_what_it_takes_and_which_network_it_is(trained: TrainedModel, content: bytes) -> None:
    graph = onnx.load_from_string(content)
    assert [(one.domain, one.version) for one in graph.opset_import] == [("", 18)]
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    [image], [logit] = session.get_inputs(), session.get_outputs()
    assert (image.name, image.type, image.shape) == ("images", "tensor(uint8)", ["N", 1, 8, 8])
    assert (logit.name, logit.type, logit.shape) == ("logits", "tensor(float)", ["N", 10])
    network = json.loads(session.get_modelmeta().custom_metadata_map["lrlab"])["network"]
    assert network == trained.description.model_dump(mode="json")


def test_a_graph_tells_nothing_of_the_machine_and_is_the_same_each_time(trained: TrainedModel, content: bytes) -> None:
    assert to_onnx(trained) == content
    assert not re.search(rb"\.py|site-packages|stack_trace|/home|" + str(ROOT).encode(), content)


def test_a_graph_of_other_weights_is_refused(trained: TrainedModel, content: bytes) -> None:
    other = dataclasses.replace(trained, model=copy.deepcopy(trained.model))
    other.model.state_dict()["linear.bias"] += 0.01
    with pytest.raises(OnnxDiffersError, match=r"359 images: logits differ by at most 0\.01 \(tolerance"):
        check_onnx(content, other, DIGITS.test)


def rounded(trained: TrainedModel) -> TrainedModel:
    """Mean and deviation as somebody would copy them from a page."""
    mean, std = ([round(value, 3) for value in values] for values in (trained.mean, trained.std))
    return dataclasses.replace(trained, description=trained.description.model_copy(update={"mean": mean, "std": std}))


def halved(trained: TrainedModel) -> TrainedModel:
    """Weights that went through float16."""
    model = copy.deepcopy(trained.model)
    state = model.state_dict()
    model.load_state_dict({k: v.half().float() if v.is_floating_point() else v for k, v in state.items()})
    return dataclasses.replace(trained, model=model)


def epsilon(trained: TrainedModel) -> TrainedModel:
    """Batch normalisation as other libraries have it."""
    model = copy.deepcopy(trained.model)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3
    return dataclasses.replace(trained, model=model)


@pytest.mark.parametrize("mistake", [rounded, halved, epsilon])
def test_the_check_sees_small_mistakes(trained: TrainedModel, content: bytes, mistake: Any) -> None:
    with pytest.raises(OnnxDiffersError):
        check_onnx(content, mistake(trained), DIGITS.test)


def test_a_graph_that_gives_no_number_is_refused(trained: TrainedModel, content: bytes) -> None:
    graph = onnx.load_from_string(content)
    [bias] = [one for one in graph.graph.initializer if one.name.endswith("linear.bias")]
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(10, np.nan, np.float32), bias.name))
    with pytest.raises(OnnxDiffersError, match="differ by at most inf"):
        check_onnx(graph.SerializeToString(), trained, DIGITS.test)


def test_a_class_may_be_another_only_where_the_two_best_are_as_close_as_the_tolerance(
    trained: TrainedModel, content: bytes
) -> None:
    check = check_onnx(content, trained, DIGITS.test)
    swapped = dataclasses.replace(check, classes_differ=1, widest_margin=0.9 * check.tolerance)
    assert swapped.holds
    assert not dataclasses.replace(swapped, widest_margin=1.1 * check.tolerance).holds
    assert not dataclasses.replace(check, logit_difference=1.1 * check.tolerance).holds


def test_a_graph_that_fails_leaves_the_one_before(
    made: Path, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(made, tmp_path / "run")
    real = torch.onnx.export

    class Program:
        """Torch's, with another bias."""

        def __init__(self, program: Any) -> None:
            self.model_proto = program.model_proto
            for one in self.model_proto.graph.initializer:
                if one.name.endswith("linear.bias"):
                    one.CopyFrom(onnx.numpy_helper.from_array(np.full(10, 0.5, np.float32), one.name))

    monkeypatch.setattr(torch.onnx, "export", lambda *arguments, **options: Program(real(*arguments, **options)))
    assert main(["export", str(run), "--format", "onnx"]) == 5
    error = capsys.readouterr().err
    assert re.match(
        r"lrlab: The ONNX graph does not compute the same as the network: 359 images: logits differ by .* accuracy "
        r"0\.\d+ in PyTorch, 0\.\d+ in onnxruntime\.\n$",
        error,
    )
    assert [path.name for path in (run / "export").iterdir()] == ["model.onnx"]
    assert (run / "export" / "model.onnx").read_bytes() == content


def test_images_of_another_run_are_no_check(tmp_path: Path, made: Path) -> None:
    run = shutil.copytree(made, tmp_path / "run")
    (run / "run.json").write_text((run / "run.json").read_text().replace('"num_train": 1438', '"num_train": 1437'))
    with pytest.raises(DataError, match="num_train: 1437 -> 1438"):
        export_run(run, "onnx", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_colour_images_of_a_folder_that_has_moved_are_checked_on_its_validation_split(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for split, number in (("train", 20), ("test", 4)):
        for label, level in (("dark", 60), ("light", 200)):
            (tmp_path / "here" / split / label).mkdir(parents=True)
            for index in range(number):
                pixels = random.integers(level - 50, level + 50, (9, 7, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "here" / split / label / f"{index}.png")
    data = {"name": "folder", "dir": str(tmp_path / "here"), "validation_fraction": 0.2}
    settings = {"model": {"width": 2}, "steps": 6, "batch_size": 8, "schedule": {"name": "constant"}, "data": data}
    for _ in Experiment(parse_config(settings)).run(tmp_path / "run"):
        pass
    (tmp_path / "here").rename(tmp_path / "there")
    with pytest.raises(DataError, match="there is no such folder"):
        export_run(tmp_path / "run", "onnx")
    made = export_run(str(tmp_path / "run"), "onnx", data_dir=str(tmp_path / "there"))
    assert (made.check["split"], made.check["images"]) == ("validation", 8)


def test_the_snippet_of_the_page_runs(made: Path, trained: TrainedModel, tmp_path: Path, monkeypatch: Any) -> None:
    page = (ROOT / "docs" / "trained.md").read_text()
    [code] = [block for block in re.findall(r"```python\n(.*?)```", page, re.S) if "onnxruntime" in block]
    (tmp_path / "runs" / "first" / "export").mkdir(parents=True)
    shutil.copy(made / "export" / "model.onnx", tmp_path / "runs" / "first" / "export")
    Image.fromarray(DIGITS.test.images[3, 0].numpy()).save(tmp_path / "photo.jpg", "PNG")  # told by its content
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code, "trained.md", "exec"), names)
    [expected] = trained.predict_files([tmp_path / "photo.jpg"])
    assert names["name"] == next(iter(expected.probabilities))


def test_nothing_of_the_exporter_is_printed(made: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lrlab", "export", str(made), "--format", "onnx", "--out", str(tmp_path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    document = json.loads(done.stdout)
    assert (document["format"], document["path"], document["step"]) == ("onnx", str(tmp_path / "model.onnx"), 60)
    assert document["check"]["images"] == 359
    assert len(done.stderr.splitlines()) == 2, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not (SPRITES / "unpack.py").is_file(), reason="../shared/cifar10 is absent")
def test_a_graph_equals_pytorch_on_the_whole_cifar10_test_set(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, str(SPRITES / "unpack.py"), str(tmp_path / "data")], check=True, capture_output=True
    )
    data = {"name": "cifar10", "dir": str(tmp_path / "data")}
    settings = {"model": {"width": 4}, "steps": 30, "schedule": {"name": "constant"}, "data": data}
    for _ in Experiment(parse_config(settings)).run(tmp_path / "run"):
        pass
    made = export_run(tmp_path / "run", "onnx")
    assert made.check["images"] == 10_000
    assert made.check["classes_differ"] == 0 and made.check["torch_accuracy"] == made.check["onnx_accuracy"]


def test_what_the_page_shows_names_the_classes_that_predict_names(
    made: Path, trained: TrainedModel, tmp_path: Path
) -> None:
    (block,) = [one for one in blocks(ROOT / "docs" / "trained.md", name="") if "InferenceSession" in one.text]
    code = block.text.replace("runs/first", str(made))
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[274] = 6  # to be turned by a quarter
    for number in range(8):
        digit = DIGITS.test.images[number, 0].numpy()
        wide = np.full((32, 64), rng.integers(0, 256), np.uint8)
        wide[:, 16:48] = digit.repeat(4, axis=0).repeat(4, axis=1)
        path = tmp_path / f"{number}.jpg"
        picture = Image.fromarray(wide)
        if number % 2:  # in colour, for a network of grey images
            picture = Image.merge("RGB", [picture, picture.point(lambda level: level // 2), picture])
        picture.save(path, exif=exif, quality=95)
        found: dict[str, Any] = {}
        exec(code.replace("photo.jpg", str(path)), found)
        (prediction,) = trained.predict_files([path])
        assert found["name"] == next(iter(prediction.probabilities))
        theirs = torch.from_numpy(found["logits"]).softmax(1)[0]
        ours = torch.tensor([prediction.probabilities[name] for name in trained.classes])
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-6)
