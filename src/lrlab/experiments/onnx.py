"""A trained network as an ONNX graph that takes images as bytes, and whether it computes what PyTorch does."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn

from lrlab.data import Split, normalise
from lrlab.experiments.network_file import metadata, weights_of
from lrlab.experiments.trained import BATCH, TrainedModel

OPSET: Final = 18
"""Of the operators: the one that torch's exporter translates to, so that nothing is converted afterwards."""
INPUT, OUTPUT = "images", "logits"
TOLERANCE: Final = 1e-5
"""Of a logit, as a share of the largest in size: docs/decisions/0014 says why."""
_LARGEST: Final = 2**31 - 1
"""Bytes of one file, by its format."""


class OnnxError(RuntimeError):
    """What writes or runs ONNX is not here, or cannot take this network."""

    exit_code: ClassVar[int] = 2


class OnnxDiffersError(RuntimeError):
    """An ONNX graph does not compute what the network does."""

    exit_code: ClassVar[int] = 5


@dataclass(frozen=True)
class OnnxCheck:
    """How a graph in onnxruntime compares with the network in PyTorch, on the same images."""

    images: int
    tolerance: float
    """Of a logit."""
    logit_difference: float
    """Greatest, over all images and classes."""
    probability_difference: float
    """Likewise, of the softmax in float64."""
    classes_differ: int
    """Images whose most probable class is another one."""
    widest_margin: float
    """Between PyTorch's two best logits, the widest of those images; 0 if there is none."""
    torch_accuracy: float
    onnx_accuracy: float

    @property
    def holds(self) -> bool:
        """Whether no logit is further off than the tolerance, and only classes as close as that are swapped."""
        return self.logit_difference <= self.tolerance and self.widest_margin <= self.tolerance

    @property
    def sentence(self) -> str:
        """Say it in words."""
        return (
            f"{self.images:,} images: logits differ by at most {self.logit_difference:.2g} (tolerance "
            f"{self.tolerance:.2g}), probabilities by {self.probability_difference:.2g}, the class of "
            f"{self.classes_differ:,} images; accuracy {self.torch_accuracy:.4f} in PyTorch, {self.onnx_accuracy:.4f} "
            "in onnxruntime"
        )


class _OfBytes(nn.Module):
    """A network behind the normalisation of its images."""

    def __init__(self, trained: TrainedModel) -> None:
        super().__init__()
        self.model = trained.model
        self.mean, self.std = trained.mean, trained.std

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8 -> (N, num_classes) logits."""
        logits: Tensor = self.model(normalise(images, mean=self.mean, std=self.std))
        return logits


def to_onnx(trained: TrainedModel) -> bytes:
    """Return a network as one ONNX file: `images` (N, C, H, W), uint8 -> `logits` (N, number of classes), float32.

    N is free. Mean and deviation are in the graph; what model.safetensors says of the network is in its metadata.

    Raises: OnnxError without the extra, or for a network that is too large for one file.
    """
    onnx, _ = _libraries()
    weights = weights_of(trained.model)
    size = sum(tensor.nbytes for tensor in weights.values())
    if size > _LARGEST:
        raise OnnxError(
            f"The weights take {size:,} bytes, and an ONNX file holds at most {_LARGEST:,}. Use safetensors."
        )
    network = _OfBytes(trained).eval()
    two = torch.zeros(2, *trained.image_shape, dtype=torch.uint8, device=trained.engine.device)  # of one, N is fixed
    with _silence():
        program = torch.onnx.export(
            network,
            (two,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("N")},),
            external_data=False,
            verbose=False,
        )
    assert program is not None
    graph = program.model_proto
    _strip(graph)
    for key, value in metadata(trained.description, weights).items():
        graph.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(graph, full_check=True)
    content: bytes = graph.SerializeToString(deterministic=True)
    return content


def check_onnx(content: bytes, trained: TrainedModel, split: Split) -> OnnxCheck:
    """Run a graph by onnxruntime on every image of a split, and compare it with the network.

    Raises: OnnxError without the extra; OnnxDiffersError if the check does not hold.
    """
    expected, found = trained.logits(split.images), _run(content, split.images)
    largest = float(expected.abs().max())
    differs = expected.argmax(1) != found.argmax(1)
    best = expected.topk(2, dim=1).values[differs]
    difference = (expected - found).abs().max()
    probabilities = (expected.double().softmax(1) - found.double().softmax(1)).abs().max()
    labels = split.labels.cpu()
    check = OnnxCheck(
        images=len(split),
        tolerance=TOLERANCE * max(1.0, largest),
        logit_difference=float(difference.nan_to_num(torch.inf)),
        probability_difference=float(probabilities.nan_to_num(1.0)),
        classes_differ=int(differs.sum()),
        widest_margin=float((best[:, 0] - best[:, 1]).max()) if len(best) else 0.0,
        torch_accuracy=float((expected.argmax(1) == labels).double().mean()),
        onnx_accuracy=float((found.argmax(1) == labels).double().mean()),
    )
    if not check.holds:
        raise OnnxDiffersError(f"The ONNX graph does not compute the same as the network: {check.sentence}.")
    return check


def _run(content: bytes, images: Tensor) -> Tensor:
    _, runtime = _libraries()
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    batches = images.cpu().split(BATCH)
    return torch.cat([torch.from_numpy(session.run([OUTPUT], {INPUT: batch.numpy()})[0]) for batch in batches])


def _libraries() -> tuple[Any, Any]:
    """Return onnx and onnxruntime.

    Raises: OnnxError if one of them, or what torch's exporter needs beside them, is not there.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 - by torch's exporter
    except ImportError as error:
        raise OnnxError(f"--format onnx needs more libraries ({error}): pip install 'lrlab[onnx]'.") from error
    return onnx, onnxruntime


def _strip(graph: Any) -> None:
    """Take away what the exporter notes beside the graph: the paths of source files on this machine, for instance."""
    parts = (graph.graph, *graph.graph.node, *graph.graph.initializer)
    for part in (*parts, *graph.graph.input, *graph.graph.output, *graph.graph.value_info):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep back what the exporter says of itself: that torchvision is not there, what Python will deprecate."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
