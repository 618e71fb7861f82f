"""A network in a file that somebody else made: nothing in it is believed before it is checked."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save
from torch import Tensor

from lrlab import load_trained
from lrlab.cli import main
from lrlab.data.decode import MAX_PIXELS
from lrlab.experiments.network_file import (
    Description,
    build_network,
    describe_network,
    digest,
    network_bytes,
    read_network,
    weights_of,
)
from lrlab.models import resnet18
from lrlab.training.checkpoint import CheckpointError

TABLE: dict[str, Any] = {
    "format_version": 1,
    "lrlab": "0.1.0",
    "model": {"name": "resnet18", "width": 2, "batchnorm": "per_rank"},
    "classes": ["cat", "dog", "eel"],
    "image_shape": [3, 8, 8],
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.2, 0.2],
    "step": 7,
}


def weights(**changed: Tensor | None) -> dict[str, Tensor]:
    """Those of such a network; `stem_0_weight=...` changes one, None leaves it out."""
    torch.manual_seed(0)
    found: dict[str, Tensor] = weights_of(resnet18(num_classes=3, width=2))
    for name, tensor in changed.items():
        found.pop(name.replace("__", "."))
        if tensor is not None:
            found[name.replace("__", ".")] = tensor
    return found


def sealed(table: Any, tensors: dict[str, Tensor]) -> bytes:
    """A file whose SHA-256 is right, whatever is in it."""
    said = {"sha256": digest(table, tensors), "network": table}
    return save(tensors, metadata={"lrlab": json.dumps(said)})


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    description = describe_network(TABLE)
    (tmp_path / "model.safetensors").write_bytes(network_bytes(description, weights()))
    found, read = read_network(tmp_path / "model.safetensors")
    assert found == description
    assert all(torch.equal(read[name], tensor) for name, tensor in weights().items())
    assert sealed(TABLE, weights()) == network_bytes(description, weights())


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "version": ({"format_version": 2}, "its format_version is 2, this lrlab reads 1"),
    "no model": ({"model": None}, "model: "),
    "unknown model": ({"model": {"name": "vgg", "width": 2}}, "model.name: must be 'resnet18' or 'resnet34'"),
    "width as text": ({"model": {"name": "resnet18", "width": "2"}}, "model.width: "),
    "width that nobody has memory for": ({"model": {"name": "resnet18", "width": 10**5}}, "must be 100000"),
    "one class": ({"classes": ["cat"]}, "at least two classes"),
    "classes twice": ({"classes": ["cat", "cat", "eel"]}, "these are repeated: 'cat'"),
    "class that is no text": ({"classes": ["cat", "dog", 3]}, "classes.2: "),
    "class that cannot be printed": ({"classes": ["cat", "dog", "\x1b[2J"]}, "rename '\\x1b[2J'"),
    "more classes": ({"classes": ["cat", "dog", "eel", "fox"]}, "the first size of linear.bias must be 4"),
    "two channels": ({"image_shape": [2, 8, 8]}, "mean and std must be 2 each"),
    "more channels than there are": ({"image_shape": [1 << 20, 8, 8]}, "image_shape must be"),
    "grey": ({"image_shape": [1, 8, 8], "mean": [0.5], "std": [0.2]}, "'stem.0.weight' must be float32 (2, 1, 3, 3)"),
    "huge images": ({"image_shape": [3, 1, MAX_PIXELS + 1]}, "image_shape must be"),
    "no images": ({"image_shape": [3, 0, 8]}, "image_shape.1: "),
    "means": ({"mean": [0.5]}, "mean and std must be 3 each, one a channel, got 1 and 3"),
    "no deviation": ({"std": [0.2, 0.0, 0.2]}, "std.1: "),
    "infinite": ({"mean": [0.5, float("inf"), 0.5]}, "mean.1: "),
    "a key of theirs": ({"\x1b[2Jrun": "rm"}, "Unknown key '?[2Jrun'"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_description_that_cannot_be_is_refused_in_a_line(tmp_path: Path, what: str) -> None:
    changed, message = WRONG[what]
    path = tmp_path / "model.safetensors"
    path.write_bytes(sealed({**TABLE, **changed}, weights()))
    with pytest.raises(CheckpointError) as caught:
        load_trained(path)
    assert message in str(caught.value)
    assert str(caught.value).replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"linear__weight": None}, "'linear.weight' must be float32 (3, 16), got none (1 such)"),
        ({"linear__weight": torch.zeros(3, 17)}, "must be float32 (3, 16), got float32 (3, 17)"),
        ({"linear__weight": torch.zeros(3, 16, dtype=torch.float16)}, "got float16 (3, 16)"),
        ({"stem__0__weight": torch.zeros(())}, "the first size of stem.0.weight must be 2"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(sealed(TABLE, weights(**changed)))
    with pytest.raises(CheckpointError) as caught:
        load_trained(tmp_path / "model.safetensors")
    assert message in str(caught.value)


def test_a_tensor_too_many_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"'extra' must be left out, got float32 \(1\)"):
        build_network(describe_network(TABLE), {**weights(), "extra": torch.zeros(1)})


NOT_OURS: dict[str, tuple[bytes, str]] = {
    "text": (b"no weights at all, but long enough for a length", "not a safetensors file, or damaged"),
    "empty": (b"", "not a safetensors file, or damaged"),
    "somebody else's": (save(weights()), "lrlab export did not write it"),
    "no JSON": (save(weights(), metadata={"lrlab": "{"}), "not in the format of lrlab export"),
    "a list": (save(weights(), metadata={"lrlab": "[1]"}), "not in the format of lrlab export"),
    "deep": (save(weights(), metadata={"lrlab": "[" * 100_000}), "not in the format of lrlab export"),
    "no network": (save(weights(), metadata={"lrlab": '{"sha256": "0"}'}), "not in the format of lrlab export"),
}


@pytest.mark.parametrize("what", NOT_OURS)
def test_a_file_of_something_else_is_exit_code_5_and_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    content, message = NOT_OURS[what]
    (tmp_path / "model.safetensors").write_bytes(content)
    assert main(["predict", str(tmp_path), "image.png"]) == 5
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_path_with_nothing_in_it_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(tmp_path / "gone"), "image.png"]) == 2
    assert "neither a run nor an exported network" in capsys.readouterr().err


def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path: Path) -> None:
    good, path = network_bytes(describe_network(TABLE), weights()), tmp_path / "model.safetensors"
    choice = random.Random(0)
    for _ in range(300):
        content = bytearray(good)
        content[choice.randrange(len(good))] ^= 1 << choice.randrange(8)
        path.write_bytes(content)
        try:
            found, read = read_network(path)
        except CheckpointError:
            continue
        # of the header's padding, or of JSON that says the same
        assert isinstance(found, Description) and found == describe_network(TABLE)
        assert all(torch.equal(read[name], tensor) for name, tensor in weights().items())


def test_weights_that_give_no_number_are_told_and_name_no_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "image.png")
    broken = weights(linear__bias=torch.tensor([0.0, torch.nan, 0.0]))
    (tmp_path / "model.safetensors").write_bytes(sealed(TABLE, broken))
    assert main(["predict", str(tmp_path), str(tmp_path / "image.png"), "--json"]) == 5
    assert "logits that are not finite" in capsys.readouterr().err
