"""Several ranks against one process with as many threads: images a second on this machine, in turns.

    python benchmarks/ranks.py --data-dir data

Each measurement is a process, or a torchrun, of its own: it builds the run, makes updates, and times those after the
first few. PyTorch's own DistributedDataParallel around the same model, with the same fused optimizer and batches but
without rules, rows and probes, stands beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

from loops import experiment_config, load_data
from lrlab.config import parse_config
from lrlab.experiments import Experiment
from lrlab.models import resnet18
from lrlab.training import Ranks, joined
from measuring import digits, environment, interleave, median_with_interval, parser, publish, ratios, table, with_range

TITLE = "Ranks against threads"
WARMUP = 3
WAYS = {
    "1 process": (1, "per_rank", "lrlab"),
    "ranks, a thread each": (2, "per_rank", "lrlab"),
    "ranks, synchronised": (2, "synchronised", "lrlab"),
    "ranks, DistributedDataParallel": (2, "per_rank", "ddp"),
}


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--data-dir", type=Path, help="folder with CIFAR-10; without it, noise of its shape")
    options.add_argument("--ranks", type=int, default=2, help="that share the processor [2]")
    options.add_argument("--width", type=int, default=64, help="planes of the network's first stage [64]")
    options.add_argument("--batch-size", type=int, default=128)
    options.add_argument("--updates", type=int, default=10, help="that are timed [10]")
    options.add_argument("--measure", help=argparse.SUPPRESS)  # in a process that main() starts
    given = options.parse_args()
    if given.quick:
        given.repeats, given.width, given.updates, given.batch_size = 2, 4, 2, 8
    if given.measure:
        measure(given)
        return
    facts = environment()
    seconds = interleave(list(WAYS), lambda way: started(given, way), repeats=given.repeats)
    first, *others = WAYS
    rows = [[first, with_range([given.batch_size / s for s in seconds[first]]), "1"]]
    for way in others:
        share = median_with_interval(ratios(seconds[first], seconds[way]))
        speed = with_range([given.batch_size / s for s in seconds[way]])
        interval = f"{digits(share['median'])} [{digits(share['interval_low'])}, {digits(share['interval_high'])}]"
        rows.append([way.replace("ranks", f"{given.ranks} ranks"), speed, interval])
    threads = len(os.sched_getaffinity(0))
    text = (
        f"{table(['way', 'images a second', f'of 1 process with {threads} threads'], rows)}\n\nResNet-18 of width "
        f"{given.width}, batches of {given.batch_size} in all, Adam, fp32; medians of {given.repeats} rounds of "
        f"{given.updates} updates, with the range, and of ratios within a round with their 95 % bootstrap interval."
    )
    print(text)
    if not given.quick:
        publish("ranks", title=TITLE, page=text, document={"seconds_per_update": seconds}, facts=facts)


def started(options: argparse.Namespace, way: str) -> float:
    """Seconds of an update in processes of their own."""
    num_ranks = options.ranks if WAYS[way][0] > 1 else 1
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(num_ranks), "--"] if num_ranks > 1 else []
    data = ["--data-dir", str(options.data_dir)] if options.data_dir else []
    quick = ["--quick"] if options.quick else []
    numbers = [
        "--width",
        str(options.width),
        "--batch-size",
        str(options.batch_size),
        "--updates",
        str(options.updates),
    ]
    command = [sys.executable, *launcher, __file__, "--measure", way, *numbers, *data, *quick]
    ended = subprocess.run(command, env={**os.environ, "GLOO_SOCKET_IFNAME": "lo"}, capture_output=True, check=False)
    if ended.returncode:
        raise RuntimeError(ended.stderr.decode())
    return float(json.loads(ended.stdout.splitlines()[-1])["seconds"])


def measure(options: argparse.Namespace) -> None:
    """Time updates in this process, as one of the ranks or alone, and print seconds an update."""
    _, batchnorm, kind = WAYS[options.measure]
    config = experiment_config(batch_size=options.batch_size, width=options.width, device="cpu", precision="fp32")
    config["model"]["batchnorm"] = batchnorm
    with joined(device="cpu") as ranks:
        data = load_data(options.data_dir, quick=options.quick)
        experiment = Experiment(parse_config(config), data=data, ranks=ranks)
        with tempfile.TemporaryDirectory() as folder:
            events = experiment.run(Path(folder) / "run") if kind == "lrlab" else wrapped(experiment, ranks)
            list(islice(events, WARMUP))
            ranks.meet()
            started_at = time.perf_counter()
            list(islice(events, options.updates))
            seconds = (time.perf_counter() - started_at) / options.updates
            if ranks.rank == 0:
                print(json.dumps({"seconds": seconds}), flush=True)
            ranks.meet()
            os._exit(0)  # nothing of the run is wanted


def wrapped(experiment: Experiment, ranks: Ranks) -> Iterator[None]:
    """Updates of the same network in PyTorch's own wrapper."""
    torch.manual_seed(0)
    config, data = experiment.config, experiment.data
    model = resnet18(num_classes=len(data.classes), in_channels=data.num_channels, width=config.model.width)
    model = model.to(memory_format=torch.channels_last)
    parallel = DistributedDataParallel(model, gradient_as_bucket_view=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5, fused=True)
    step = 0
    while True:
        step += 1
        batch = experiment.batch(step)
        loss = F.cross_entropy(parallel(batch.images.contiguous(memory_format=torch.channels_last)), batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield


if __name__ == "__main__":
    main()
