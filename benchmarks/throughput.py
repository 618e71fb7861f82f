"""How many images a second the loops train on: the textbook's, lrlab's, Lightning's and Hugging Face's.

    python benchmarks/throughput.py --data-dir data

ResNet-18 of width 64 on CIFAR-10 (or noise of its shape) at batches of 4, 128 and 512. Each measurement is a process of
its own: some updates that are thrown away, then a block of several seconds. The loops take turns, and ratios are taken
within a round. torchvision has no CPU build for every machine, so the textbook's images are made by the operations of
its ToTensor and Normalize; its loader has no workers, since on two cores they would take the time from the training.
On a GPU every loop and yardstick in fp32 computes in float32: TF32, which cuDNN would take for it, is off.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from frameworks import lightning, transformers
from loops import Enough, Meter, Setting, load_data, lrlab, textbook
from lrlab.models import resnet18
from lrlab.training import choose_engine
from measuring import clock, environment, interleave, parser, publish, ratios, spread, table, with_range

TITLE = "Images a second of four training loops"
BATCHES = (4, 128, 512)
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
YARDSTICKS = [f"{what} {precision}" for what in ("matrix product", "convolution") for precision in PRECISIONS]
"""What the machine can do at its best. On AMD's processors MKL's matrix product in fp32 is far from that."""
NUM_TRIES = 10
LOOPS: dict[str, Callable[[Setting], None]] = {
    "textbook": textbook,
    "lrlab fp32": lambda setting: lrlab(setting, precision="fp32"),
    "lrlab bf16": lambda setting: lrlab(setting, precision="bf16"),
    "Lightning": lambda setting: lightning(setting, best=False),
    "Lightning, best": lambda setting: lightning(setting, best=True),
    "Transformers": lambda setting: transformers(setting, best=False),
    "Transformers, best": lambda setting: transformers(setting, best=True),
}
"""Name -> loop."""
NEEDS = {"Lightning": ("lightning",), "Transformers": ("transformers", "accelerate")}
"""Name up to its comma -> packages without which it is left out."""
IN_BF16 = ("lrlab bf16", "Lightning, best", "Transformers, best")
"""Compared with what the machine can do in bf16, where it has that; the others with what it can in fp32."""


def flops_per_image(*, width: int, side: int) -> int:
    """Floating-point operations of a forward and a backward pass over one image, counted by PyTorch."""
    model = resnet18(num_classes=10, width=width)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(2, 3, side, side)).sum().backward()
    return int(counter.get_total_flops()) // 2


def best_rate(name: str, *, device: str, quick: bool) -> float:
    """Operations a second of one large matrix product or 3x3 convolution, the best of some tries."""
    dtype = PRECISIONS[name.rpartition(" ")[2]]
    if name.startswith("matrix"):
        size = 256 if quick else 8192 if device == "cuda" else 2048
        one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        run, flops = partial(torch.mm, one, other), 2 * size**3
    else:
        batch_size, planes, side = 256 if device == "cuda" else 16, 16 if quick else 256, 32
        shapes = (batch_size, planes, side, side), (planes, planes, 3, 3)
        images, kernels = (
            torch.randn(shape, device=device).to(dtype, memory_format=torch.channels_last) for shape in shapes
        )
        # counted as in the network, the zeros around the images included
        run, flops = partial(F.conv2d, images, kernels, padding=1), 2 * batch_size * side**2 * 9 * planes**2
    best = float("inf")
    for _ in range(NUM_TRIES):
        started = clock(device)
        run()
        best = min(best, clock(device) - started)
    return flops / best


def yardsticks(precision: str) -> list[str]:
    """Those that make sense on a machine, by the arithmetic in which it computes most quickly."""
    return [name for name in YARDSTICKS if precision == "bf16" or name.endswith("fp32")]


def ceiling(rates: Mapping[str, list[float]], name: str) -> float:
    """The best rate of the machine, in any round, in the arithmetic of a loop."""
    precision = quickest(rates) if name in IN_BF16 else "fp32"
    return max(rate for one in YARDSTICKS if one.endswith(precision) for rate in rates[one])


def quickest(rates: Mapping[str, list[float]]) -> str:
    """The arithmetic in which the machine that was measured computes most quickly."""
    return "bf16" if any(name in rates for name in YARDSTICKS if name.endswith("bf16")) else "fp32"


def measure_here(name: str, batch_size: int, precision: str, options: argparse.Namespace) -> float:
    """Images a second of one loop, or operations a second of a yardstick, in this process."""
    if name not in IN_BF16 and not name.endswith("bf16"):
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    if name in YARDSTICKS:
        return best_rate(name, device=options.device, quick=options.quick)
    warmup = 20 if options.device == "cuda" else max(2, min(20, 512 // batch_size))
    meter = Meter(seconds=options.seconds, warmup=warmup, at_least=2, device=options.device)
    with tempfile.TemporaryDirectory() as directory:
        setting = Setting(
            data=load_data(options.data_dir, quick=options.quick),
            width=options.width,
            batch_size=batch_size,
            device=options.device,
            num_workers=options.workers,
            directory=Path(directory),
            meter=meter,
            quickest=precision,
        )
        try:
            LOOPS[name](setting)
        except Enough:
            return batch_size / meter.seconds_per_update
    raise RuntimeError(f"{name}: ended before it was measured.")


def measure(name: str, *, batch_size: int, precision: str, options: argparse.Namespace) -> float:
    """The same in a process of its own: threads, allocator and the libraries' settings are process-wide."""
    command = [sys.executable, __file__, *sys.argv[1:], "--measure", name, str(batch_size), precision]
    threads = {"OMP_NUM_THREADS": str(options.threads)} if options.threads else {}
    done = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} at batch {batch_size} failed:\n{done.stderr[-3000:]}")
    return float(json.loads(done.stdout.splitlines()[-1])["rate"])


def available(names: Sequence[str], precision: str) -> list[str]:
    """The loops whose libraries and arithmetic are there; says which are left out, and why."""
    found = []
    for name in names:
        if name.endswith("bf16") and precision != "bf16":
            print(
                f"left out: {name}, since this machine has no instructions for it, and it would take hours", flush=True
            )
            continue
        missing = [
            package for package in NEEDS.get(name.partition(",")[0], ()) if not importlib.util.find_spec(package)
        ]
        if missing:
            print(f"left out: {name}, since {' and '.join(missing)} is not installed", flush=True)
        else:
            found.append(name)
    if not found:
        raise SystemExit("No loop is left to be measured: name others by --loop.")
    return found


def summarise(rates: dict[str, list[float]], *, batch_size: int, flops: int) -> dict[str, Any]:
    """Images a second, ratios to each other loop taken within rounds, and shares of the machine's best rate."""
    loops = [name for name in rates if name not in YARDSTICKS]
    rows = {}
    for name in loops:
        rows[name] = {
            "images_per_second": spread(rates[name]),
            "ratio_to": {other: spread(ratios(rates[name], rates[other])) for other in loops if other != name},
            "share_of_best_rate": spread([rate * flops / ceiling(rates, name) for rate in rates[name]]),
        }
    return {
        "batch_size": batch_size,
        "loops": rows,
        "best_rates": {name: max(rates[name]) for name in YARDSTICKS if name in rates},
    }


def page(measured: dict[int, dict[str, list[float]]], *, flops: int, data: str, options: argparse.Namespace) -> str:
    """One table a batch size: median of the rounds, in brackets the least and the largest."""
    parts = []
    for batch_size, rates in measured.items():
        loops = [name for name in rates if name not in YARDSTICKS]
        others = [name for name in ("textbook", "Lightning, best", "Transformers, best") if name in loops]
        rows = []
        for name in loops:
            against = [with_range(ratios(rates[name], rates[other])) if other != name else "1" for other in others]
            share = [100 * rate * flops / ceiling(rates, name) for rate in rates[name]]
            rows.append([name, with_range(rates[name]), *against, with_range(share)])
        header = ["loop", "images/s", *(f"/ {other}" for other in others), "% of best rate"]
        best = ", ".join(f"{name} {max(rates[name]) / 1e9:,.0f}" for name in YARDSTICKS if name in rates)
        parts.append(f"Batch {batch_size} (best rates in GFLOP/s: {best}):\n\n{table(header, rows)}")
    precision = quickest(next(iter(measured.values())))
    parts.append(
        f"Median of {options.repeats} rounds [least, largest]; ratios are taken within a round. Data: {data}; "
        f"ResNet-18 of width {options.width}, {flops / 1e9:.3f} GFLOP an image; "
        f"{options.threads or torch.get_num_threads()} threads, {options.workers} loader workers, device "
        f"{options.device}. lrlab watches every layer at every update, the others watch nothing. 'best': {precision}, "
        "channels-last, fused optimizer, images in memory, no logging, no checkpoints. Best rate: the better of one "
        "large matrix product and one large 3x3 convolution in the same arithmetic."
    )
    return "\n\n".join(parts)


def read_options() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--data-dir", type=Path, help="folder with CIFAR-10; without it, noise of its shape")
    made.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    made.add_argument("--batch", type=int, action="append", help="batch size, repeatable [4, 128, 512]")
    made.add_argument("--loop", action="append", choices=LOOPS, help="loop, repeatable [all]")
    made.add_argument("--width", type=int, default=64, help="planes of the network's first stage [64]")
    made.add_argument("--seconds", type=float, default=8.0, help="that a measured block should take [8]")
    made.add_argument("--threads", type=int, help="for one operation [PyTorch's choice]")
    made.add_argument("--workers", type=int, default=0, help="processes of PyTorch's loader [0]")
    made.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)  # what a process of its own is told
    options = made.parse_args()
    if options.quick:
        options.repeats, options.width, options.seconds = 1, 4, 0.2
    return options


def main() -> None:
    options = read_options()
    if options.measure:
        name, batch_size, precision = options.measure
        print(json.dumps({"rate": measure_here(name, int(batch_size), precision, options)}))
        return
    facts = environment(options.device)
    precision = choose_engine(device=options.device, precision="auto").precision
    names = [*yardsticks(precision), *available(options.loop or list(LOOPS), precision)]
    measured, started = {}, time.perf_counter()
    for batch_size in options.batch or ([16] if options.quick else BATCHES):
        one = partial(measure, batch_size=batch_size, precision=precision, options=options)
        measured[batch_size] = interleave(names, one, repeats=options.repeats)
        print(f"batch {batch_size}: done after {time.perf_counter() - started:.0f} s", flush=True)
    flops = flops_per_image(width=options.width, side=8 if options.quick and not options.data_dir else 32)
    data = "CIFAR-10" if options.data_dir else "noise of 8x8" if options.quick else "noise of CIFAR-10's shape"
    text = page(measured, flops=flops, data=data, options=options)
    print(text)
    if not options.quick:
        document = {
            "settings": {key: value for key, value in vars(options).items() if key not in ("measure", "data_dir")},
            "data": data,
            "flops_per_image": flops,
            "summary": [summarise(rates, batch_size=batch_size, flops=flops) for batch_size, rates in measured.items()],
            "rates": measured,
        }
        publish("throughput", title=TITLE, page=text, document=document, facts=facts)


if __name__ == "__main__":
    main()
