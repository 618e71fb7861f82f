"""What `lrlab sharpness` costs: a Hessian-vector product, in training steps of the same images.

python benchmarks/curvature.py --data-dir data
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from loops import load_data
from lrlab.data import ImageData, normalise
from lrlab.models import layer_groups, resnet18
from lrlab.training import LossSurface
from measuring import clock, digits, environment, interleave, parser, publish, ratios, table, with_range

TITLE = "What sharpness costs"
NUM_EXAMPLES = 128


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--data-dir", type=Path, help="folder with CIFAR-10; without it, noise of its shape")
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    given = options.parse_args()
    sizes = [(2, 32)] if given.quick else [(8, 128), (8, 4), (64, 128)]
    facts, data = environment(given.device), load_data(given.data_dir, quick=given.quick)
    found = {f"width {width}, batch {size}": measure(given, data, width, size) for width, size in sizes}
    text = page(found)
    print(text)
    if not given.quick:
        publish("curvature", title=TITLE, page=text, document={"seconds": found}, facts=facts)


def measure(options: argparse.Namespace, data: ImageData, width: int, batch_size: int) -> dict[str, list[float]]:
    """Seconds of a step and of each part of a measurement, all over the same images, in turns."""
    torch.manual_seed(0)
    network = resnet18(num_classes=10, in_channels=data.num_channels, width=width)
    model = network.to(device=options.device, memory_format=torch.channels_last)
    images = normalise(data.train.images[:NUM_EXAMPLES], mean=data.mean, std=data.std).to(options.device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = data.train.labels[:NUM_EXAMPLES].to(options.device)
    batches = list(zip(images.split(batch_size), labels.split(batch_size), strict=True))
    groups = layer_groups(model)
    surface = LossSurface(model, groups, batches, batchnorm="training")
    vector = [torch.randn_like(parameter) for parameter in surface.parameters]
    layer4 = groups["layer4"]
    within = [torch.randn_like(parameter) for parameter in layer4]

    def steps() -> None:
        for inputs, targets in batches:
            F.cross_entropy(model(inputs), targets).backward()

    work: dict[str, Callable[[], object]] = {
        "training steps": steps,
        "product, all weights": lambda: surface.hessian_product(surface.parameters, vector),
        "product, layer4 alone": lambda: surface.hessian_product(layer4, within),
    }

    def timed(name: str) -> float:
        started = clock(options.device)
        work[name]()
        return clock(options.device) - started

    for name in work:
        timed(name)  # warm
    return interleave(list(work), timed, repeats=options.repeats)


def page(found: dict[str, dict[str, list[float]]]) -> str:
    rows = [
        [
            f"{where}: {name}",
            digits(sorted(seconds)[len(seconds) // 2]),
            with_range(ratios(seconds, of["training steps"])),
        ]
        for where, of in found.items()
        for name, seconds in of.items()
    ]
    return (
        f"{table(['', 'seconds', 'in training steps'], rows)}\n\n{NUM_EXAMPLES} images; the unit is one forward and "
        f"backward pass over all. ResNet-18, fp32, {torch.get_num_threads()} threads; medians [least, largest]."
    )


if __name__ == "__main__":
    main()
