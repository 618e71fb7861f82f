"""The network of a run, put to use: the same predictions as in the run's own evaluation, from files alone."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lrlab import load_trained
from lrlab.cli import main
from lrlab.config import parse_config
from lrlab.data import DataError, Split, image_data, load_digits_data
from lrlab.experiments import Experiment, UnreadableError
from lrlab.runs import read_run

DIGITS = load_digits_data()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose weights are averaged, so that what is used is not what was trained last."""
    directory = tmp_path_factory.mktemp("trained") / "run"
    settings = {"model": {"width": 4}, "steps": 60, "averaging": {"decay": 0.9}, "schedule": {"name": "constant"}}
    for _ in Experiment(parse_config(settings), data=DIGITS).run(directory):
        pass
    return directory


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test images as files, in their order."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, image in enumerate(DIGITS.test.images):
        Image.fromarray(image[0].numpy()).save(folder / f"{number:04d}.png")
    return folder


def test_files_are_predicted_as_the_run_was_evaluated(run: Path, pictures: Path) -> None:
    trained = load_trained(run)
    predictions = trained.predict_files([pictures])
    assert trained.classes == DIGITS.classes
    assert [found.path.name for found in predictions] == [f"{number:04d}.png" for number in range(len(DIGITS.test))]
    assert {found.changed for found in predictions} == {""}
    right = [
        next(iter(found.probabilities)) == DIGITS.classes[label]
        for found, label in zip(predictions, DIGITS.test.labels.tolist(), strict=True)
    ]
    assert np.mean(right) == read_run(run).result["test_accuracy"]
    assert np.mean(right) > 0.3


def test_a_folder_stands_for_the_images_within_it_too(run: Path, pictures: Path, tmp_path: Path) -> None:
    for folder, name in (("b", "0000.png"), ("a/deep", "0001.png"), ("", "0002.png")):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(pictures / name, tmp_path / folder / name)
    (tmp_path / "b" / "back").symlink_to(tmp_path)  # and no end of it, were each folder not seen once
    (tmp_path / "c").symlink_to(tmp_path / "b")
    found = load_trained(run).predict_files([tmp_path])
    assert [str(one.path.relative_to(tmp_path)) for one in found] == ["0002.png", "a/deep/0001.png", "b/0000.png"]


def test_it_leaves_the_process_as_it_is(run: Path) -> None:
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            load_trained(run)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_on_a_gpu_it_computes_in_float32_whatever_the_process_does(
    run: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    trained = load_trained(run)
    trained.model.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    trained.predict_files(pictures / "0000.png")
    assert (seen, torch.backends.cudnn.allow_tf32) == ([False], True)


def test_a_network_of_images_that_no_file_holds_takes_them_as_tensors(tmp_path: Path) -> None:
    def split(count: int) -> Split:
        return Split(torch.randint(0, 256, (count, 4, 8, 8), dtype=torch.uint8), torch.arange(count) % 2)

    data = image_data("mine", classes=["a", "b"], train=split(32), test=split(8))
    settings = {"model": {"width": 2}, "steps": 4, "batch_size": 8, "schedule": {"name": "constant"}}
    for _ in Experiment(parse_config(settings), data=data).run(tmp_path / "run"):
        pass
    trained = load_trained(tmp_path / "run")
    assert trained.probabilities(data.test.images).shape == (8, 2)
    with pytest.raises(DataError, match="images with 4 channels, which image files do not have"):
        trained.predict_files(tmp_path)


def test_probabilities_are_those_of_the_logits_highest_first(run: Path, pictures: Path) -> None:
    trained = load_trained(run)
    probabilities = trained.probabilities(DIGITS.test.images[:5])
    torch.testing.assert_close(probabilities.sum(1), torch.ones(5))
    [found] = trained.predict_files([pictures / "0003.png"])
    assert trained.predict_files(str(pictures / "0003.png")) == [found]
    assert list(found.probabilities.values()) == sorted(found.probabilities.values(), reverse=True)
    expected = dict(zip(trained.classes, probabilities[3].tolist(), strict=True))
    assert found.probabilities == pytest.approx(expected, abs=1e-6)


def test_an_image_that_does_not_fit_is_fitted_and_this_is_said(run: Path, tmp_path: Path) -> None:
    Image.new("RGB", (40, 20), (250, 5, 5)).save(tmp_path / "wide.png")
    wide = np.zeros((20, 40), np.uint8)
    wide[:, 5:35] = 200  # the middle and what the filter sees beside it
    Image.fromarray(wide).save(tmp_path / "middle.png")
    trained = load_trained(run)

    colour, middle = trained.predict_files([tmp_path / "wide.png", tmp_path / "middle.png"])

    assert (colour.changed, middle.changed) == ("resized from 40x20, made grey", "resized from 40x20")
    plain = trained.probabilities(torch.full((1, 1, 8, 8), 200, dtype=torch.uint8))[0].tolist()
    assert middle.probabilities == pytest.approx(dict(zip(trained.classes, plain, strict=True)), abs=1e-6)


def test_files_that_cannot_be_read_are_all_named(run: Path, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match=r"text\.png: not a PNG.*\n.*gone\.png: cannot be read"):
        load_trained(run).predict_files([tmp_path / "text.png", tmp_path / "gone.png"])
    (tmp_path / "empty" / ".hidden").mkdir(parents=True)
    Image.new("L", (8, 8)).save(tmp_path / "empty" / ".hidden" / "0.png")
    with pytest.raises(DataError, match="contains no PNG, JPEG, WebP or BMP files"):
        load_trained(run).predict_files([tmp_path / "empty"])
    with pytest.raises(ValueError, match=r"uint8 of shape \(N, 1, 8, 8\), got torch.float32 \(2, 1, 8, 8\)"):
        load_trained(run).probabilities(torch.zeros(2, 1, 8, 8))


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux alone")
def test_the_verb_takes_a_file_whose_name_no_encoding_has(
    run: Path, pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    picture = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    picture.write_bytes((pictures / "0000.png").read_bytes())
    assert main(["predict", str(run), str(picture)]) == 0
    assert "caf\N{REPLACEMENT CHARACTER}.png: " in capfd.readouterr().out


def test_the_verb_names_the_most_probable_classes(
    run: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = pictures / "0000.png"
    assert main(["predict", str(run), str(picture), "--top", "2", "--json"]) == 0
    said = capsys.readouterr()
    [found] = json.loads(said.out)["predictions"]
    [expected] = load_trained(run).predict_files([picture])
    assert list(found["probabilities"]) == list(expected.probabilities)[:2]
    best = next(iter(expected.probabilities))
    assert said.err.startswith(f"{picture}: {best} {100 * expected.probabilities[best]:.1f} %")

    assert main(["predict", str(run)]) == 2
    assert main(["predict", str(run), str(tmp_path / "gone.png")]) == 3
    assert main(["predict", str(tmp_path), str(picture)]) == 2


def test_a_file_that_cannot_be_read_does_not_keep_the_others_from_being_predicted(
    run: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_text("no image")
    (tmp_path / "b.png").write_bytes((pictures / "0000.png").read_bytes())
    Image.new("L", (5000, 4000), 200).save(tmp_path / "c.png")  # as large as a phone's, above what is trained on
    with pytest.raises(UnreadableError) as raised:
        load_trained(run).predict_files(tmp_path)
    assert [found.path.name for found in raised.value.predictions] == ["b.png", "c.png"]
    [alone] = load_trained(run).predict_files(tmp_path / "b.png")
    assert raised.value.predictions[0].probabilities == pytest.approx(alone.probabilities, rel=1e-4)

    assert main(["predict", str(run), str(tmp_path), "--json"]) == 3
    said = capsys.readouterr()
    assert [Path(found["image"]).name for found in json.loads(said.out)["predictions"]] == ["b.png", "c.png"]
    assert said.err.splitlines()[-1] == f"lrlab: {tmp_path / 'a.png'}: not a PNG, JPEG, WebP or BMP image"
