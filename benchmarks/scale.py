"""What grows with runs, with updates and with ranks: seconds and bytes, from one to many.

    python benchmarks/scale.py

Runs: studies of 1 to 1,000 tiny runs on real 8x8 digits, five updates each, by two workers and by Ray's tasks on this
machine, from the first run's beginning to the last one's end; then what finding all of them done takes, and comparing
them. Updates: rows of a run's usual columns given to its writer, 1,000 at a time. Ranks: the two collectives of an
update, of a ResNet-18 of full width, between processes on the loopback; beyond two they share two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lrlab.compare import compare_runs
from lrlab.config import parse_config, read_study
from lrlab.runs import RunWriter, find_runs, read_run
from lrlab.studies import run_study
from lrlab.training import joined
from measuring import digits, environment, parser, publish, table

TITLE = "What grows with runs, updates and ranks"
PLAN = """
name = "many"
seeds = {seeds}
[base]
steps = 5
batch_size = 16
model.width = 2
engine.threads = 1
[arms]
{arms}
"""
ARM = 'a{} = {{ schedule.name = "constant" }}'

GROUPS = ("stem", "layer1", "layer2", "layer3", "layer4", "linear")
QUANTITIES = ("lr", "grad_l2", "grad_rms", "grad_mean", "grad_max", "grad_out_l2", "grad_out_rms")
NUM_PARAMETERS = 11_173_962


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--exchange", action="store_true", help=argparse.SUPPRESS)  # as a rank that main() starts
    options.add_argument("--executor", choices=("workers", "ray"), help=argparse.SUPPRESS)  # likewise
    options.add_argument("--runs", type=int, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.exchange:
        exchange()
        return
    if given.executor:
        print(json.dumps(study(given.runs, given.executor)))
        return
    facts = environment()
    num_runs, num_rows, num_ranks = ([1, 4], [1_000, 2_000], [2]) if given.quick else (
        [1, 10, 100, 1_000], [1_000, 10_000, 100_000, 1_000_000], [2, 4, 8]
    )  # fmt: skip
    studies = {
        executor: [in_a_process("--executor", executor, "--runs", str(number)) for number in num_runs]
        for executor in ("workers", "ray")
    }
    rows = [rows_of(number) for number in num_rows]
    ranks = [exchanged(number) for number in num_ranks]
    text = "\n\n".join([studies_page(studies), rows_page(rows), ranks_page(ranks)])
    print(text)
    if not given.quick:
        document = {"studies": studies, "rows": rows, "ranks": ranks}
        publish("scale", title=TITLE, page=text, document=document, facts=facts)


def in_a_process(*arguments: str) -> dict[str, Any]:
    """Call this script for one measurement, so that none has the memory of another; what it prints last."""
    ended = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(ended.stderr)
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def study(num_runs: int, executor: str) -> dict[str, Any]:
    """Make a study of so many runs, find them all done, and compare them."""
    with tempfile.TemporaryDirectory() as folder:
        root, file = Path(folder), Path(folder) / "many.toml"
        num_arms = min(2, num_runs)
        arms = "\n".join(ARM.format(number) for number in range(num_arms))
        file.write_text(PLAN.format(seeds=list(range(num_runs // num_arms)), arms=arms))
        plan = read_study(file)
        how: dict[str, Any] = {"workers": 2} if executor == "workers" else {"ray": "local"}
        started = time.perf_counter()
        for _ in run_study(plan, file, root=root, **how):
            pass
        whole = time.perf_counter() - started
        infos = [run.stat() for run in root.glob("many/*/seed*/config.toml")]
        ends = [run.stat() for run in root.glob("many/*/seed*/run.json")]
        started = time.perf_counter()
        for _ in run_study(plan, file, root=root, workers=1):
            pass
        again = time.perf_counter() - started
        started = time.perf_counter()
        runs = find_runs(root / "many")
        if num_runs > 1:
            compare_runs(runs)
        compared = time.perf_counter() - started
        files = [path for path in (root / "many").rglob("*") if path.is_file()]
        return {
            "runs": num_runs,
            "seconds": whole,
            "seconds_at_work": max(end.st_mtime for end in ends) - min(info.st_mtime for info in infos),
            "seconds_again": again,
            "seconds_compared": compared,
            "files_per_run": len(files) / num_runs,
            "kilobytes_per_run": sum(path.stat().st_size for path in files) / num_runs / 1e3,
            "megabytes_of_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        }


def studies_page(studies: dict[str, list[dict[str, Any]]]) -> str:
    header = ["runs", "by", "s in all", "s a run at work", "s when all is done", "s to compare", "files a run",
              "kB a run", "MB of the study's process"]  # fmt: skip
    rows = [
        [
            f"{found['runs']:,}",
            executor,
            digits(found["seconds"]),
            digits(found["seconds_at_work"] / found["runs"]),
            digits(found["seconds_again"]),
            digits(found["seconds_compared"]),
            digits(found["files_per_run"]),
            digits(found["kilobytes_per_run"]),
            digits(found["megabytes_of_memory"]),
        ]
        for position in range(len(studies["workers"]))
        for executor, all_found in studies.items()
        for found in [all_found[position]]
    ]
    return f"## Runs\n\n{table(header, rows)}\n\nOne study each. Seconds in all hold the loading of PyTorch, or of Ray."


def rows_of(num_rows: int) -> dict[str, Any]:
    """Write a run of so many updates, merge it, and read a column."""
    random = np.random.default_rng(0)
    columns = ["train/loss", *(f"{quantity}/{group}" for quantity in QUANTITIES for group in GROUPS)]
    with tempfile.TemporaryDirectory() as folder:
        directory, parts = Path(folder) / "run", 0.0
        config = parse_config({"steps": num_rows})
        with RunWriter(directory, config, num_steps=num_rows) as writer:
            for first in range(1, num_rows + 1, 1_000):
                rows: dict[str, Any] = {"step": np.arange(first, first + 1_000), "epoch": np.ones(1_000, np.int64)}
                rows |= {name: random.standard_normal(1_000).astype(np.float32) for name in columns}
                started = time.perf_counter()
                writer.write_rows(rows)
                writer.wait()
                parts += time.perf_counter() - started
            started = time.perf_counter()
            writer.finish("complete", {"steps": num_rows})
            merging = time.perf_counter() - started
        started = time.perf_counter()
        _, values = read_run(directory).series("grad_l2/stem")
        reading = time.perf_counter() - started
        assert len(values) == num_rows
        sizes = {
            name: sum(path.stat().st_size for path in directory.glob(pattern))
            for name, pattern in (("rows", "metrics/*.parquet"), ("events", "events*"))
        }
    return {
        "rows": num_rows,
        "microseconds_a_row": 1e6 * parts / num_rows,
        "seconds_merging": merging,
        "seconds_reading": reading,
        **{f"megabytes_{name}": size / 1e6 for name, size in sizes.items()},
    }


def rows_page(found: list[dict[str, Any]]) -> str:
    header = ["updates", "us a row, written", "s at the end", "s to read a column", "MB of rows", "MB of events"]
    names = ("microseconds_a_row", "seconds_merging", "seconds_reading", "megabytes_rows", "megabytes_events")
    rows = [[f"{one['rows']:,}", *(digits(one[name]) for name in names)] for one in found]
    return f"## Updates\n\n{table(header, rows)}\n\n45 columns, noise, which does not compress. One run each."


def exchanged(num_ranks: int) -> dict[str, Any]:
    """Time the collectives of an update between so many processes."""
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(num_ranks), "--"]
    environment_ = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, *launcher, __file__, "--exchange"]
    ended = subprocess.run(command, env=environment_, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(ended.stderr)
    return {"ranks": num_ranks, **json.loads(ended.stdout.splitlines()[-1])}


def exchange() -> None:
    """As a rank, add up gradients and tell a number; rank 0 prints the median milliseconds."""
    with joined(device="cpu") as ranks:
        torch.set_num_threads(1)
        gradients, seconds = torch.ones(NUM_PARAMETERS), {"gradients": [], "number": []}
        for _ in range(20):
            for name, call in (
                ("gradients", lambda: ranks.total(gradients.fill_(1))),
                ("number", lambda: ranks.highest(0)),
            ):
                ranks.meet()
                started = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - started)
        if ranks.rank == 0:
            print(json.dumps({name: 1e3 * float(np.median(found)) for name, found in seconds.items()}), flush=True)
        ranks.meet()
        os._exit(0)


def ranks_page(found: list[dict[str, Any]]) -> str:
    rows = [[str(one["ranks"]), digits(one["gradients"]), digits(one["number"])] for one in found]
    header = ["ranks", "ms to add up 45 MB of gradients", "ms to tell a number"]
    return f"## Ranks\n\n{table(header, rows)}\n\nMedians of 20, gloo on the loopback of {os.cpu_count()} cores."


if __name__ == "__main__":
    main()
