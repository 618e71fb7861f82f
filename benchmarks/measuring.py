"""What the benchmarks share: turns, spreads, tables, and what is written of a measurement."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from scipy import stats

from lrlab.runs import Run
from lrlab.runs.environment import describe_environment

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("tensorboard", "lightning", "transformers", "accelerate")
"""Besides those that every run records."""
FAMILIES = ("epyc", "xeon", "ryzen", "threadripper")
NUM_RESAMPLES = 9_999

Name = TypeVar("Name")


def interleave(names: Sequence[Name], measure: Callable[[Name], float], *, repeats: int) -> dict[Name, list[float]]:
    """Measure each in turn, round after round (A B C, A B C, ...), so that what drifts on the machine hits all alike.

    Returns: name -> one figure a round, in the order of the rounds.
    """
    measured: dict[Name, list[float]] = {name: [] for name in names}
    for _ in range(repeats):
        for name in names:
            measured[name].append(measure(name))
    return measured


def ratios(one: Sequence[float], other: Sequence[float]) -> list[float]:
    """Divide each round of one by the same round of the other."""
    return [value / base for value, base in zip(one, other, strict=True)]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Number, least, quartiles, largest."""
    low, median, high = np.percentile(values, [25, 50, 75])
    figures = {"min": min(values), "low": low, "median": median, "high": high, "max": max(values)}
    return {"n": len(values), **{name: float(value) for name, value in figures.items()}}


def median_with_interval(values: Sequence[float]) -> dict[str, float]:
    """Median and its 95 % bootstrap interval (percentiles of resampled medians)."""
    interval = stats.bootstrap(
        (values,), np.median, n_resamples=NUM_RESAMPLES, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return {
        "n": len(values),
        "median": float(np.median(values)),
        "interval_low": float(interval.low),
        "interval_high": float(interval.high),
    }


def digits(value: float, num_digits: int = 3) -> str:
    """Write a number with so many significant digits, and without an exponent: 0.0123, 1.20, 1,230."""
    rounded = float(f"{value:.{num_digits - 1}e}")
    exponent = int(f"{rounded:e}".partition("e")[2])
    return f"{rounded:,.{max(0, num_digits - 1 - exponent)}f}"


def with_range(values: Sequence[float]) -> str:
    """Write a median and, in brackets, the least and the largest."""
    found = spread(values)
    return f"{digits(found['median'])} [{digits(found['min'])}, {digits(found['max'])}]"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table that reads as well where it is printed; numbers stand right, the first column left."""
    # Markdown wants a dash beside the colon
    widths = [max(2, *(len(cell) for cell in column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]

    def line(row: Sequence[str]) -> str:
        numbers = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        return f"| {' | '.join([row[0].ljust(widths[0]), *numbers])} |"

    return "\n".join(line(row) for row in (header, rule, *rows))


def parser(description: str, *, repeats: int = 5) -> argparse.ArgumentParser:
    """The options that every benchmark takes."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--repeats", type=int, default=repeats, help=f"rounds [{repeats}]")
    made.add_argument("--quick", action="store_true", help="tiny, to see that the script works; nothing is written")
    return made


def clock(device: str) -> float:
    """Seconds, once the device has done all that it was given."""
    if device == "cuda":
        import torch  # here, since not every benchmark needs it

        torch.cuda.synchronize()
    return time.perf_counter()


def environment(device: str = "cpu") -> dict[str, Any]:
    """What was measured on: versions, commit, processor, device, load, command, date."""
    facts = describe_environment()
    facts["packages"] |= {name: _version(name) for name in PACKAGES if _version(name)}
    facts["command"] = ["python", f"benchmarks/{facts['command'][0]}", *facts["command"][1:]]
    facts["commit"] = _commit()
    facts["load_average"] = os.getloadavg()[0]
    facts["date"] = datetime.date.today().isoformat()
    if device == "cuda":
        import torch

        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def machine(runs: Sequence[Run]) -> dict[str, Any]:
    """Facts on the one machine that all runs were made on."""
    facts = environment()
    found = [
        {key: run.info["environment"][key] for key in ("processor", "num_cpus", "python", "packages")}
        | {"device": run.info["engine"]["device"]}
        for run in runs
    ]
    if any(one != found[0] for one in found):
        raise SystemExit("These runs were made on different machines or versions: they cannot be compared.")
    device = found[0].pop("device")
    gpu = {"gpu": device.removeprefix("cuda (").removesuffix(")")} if device.startswith("cuda") else {}
    return facts | found[0] | gpu


def hardware(facts: Mapping[str, Any]) -> str:
    """One word for the machine, as in epyc-2-cores: it stands in the names of the files."""
    if "gpu" in facts:
        return _word(facts["gpu"])
    name = facts["processor"].partition("(")[0]
    family = next((family for family in FAMILIES if family in name.lower()), _word(name))
    return f"{family}-{facts['num_cpus']}-cores"


def conditions(facts: Mapping[str, Any]) -> str:
    """Say in a few lines what the figures were measured on, and how to get them again."""
    packages = ", ".join(f"{name} {found}" for name, found in facts["packages"].items() if found)
    machine = f"{facts['gpu']} beside a {facts['processor']}" if "gpu" in facts else facts["processor"]
    return (
        f"{facts['date']}; {machine}, {facts['num_cpus']} cores; load before it {facts['load_average']:.1f}; "
        f"commit {facts['commit']}; Python {facts['python']}; {packages}.\n\n"
        f"    {' '.join(facts['command'])}"
    )


def publish(what: str, *, title: str, page: str, document: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Write results/<what>_<hardware>_<yyyymm>.json and .md: everything measured, and what was printed."""
    RESULTS.mkdir(exist_ok=True)
    stem = f"{what}_{hardware(facts)}_{facts['date'][:7].replace('-', '')}"
    (RESULTS / f"{stem}.json").write_text(json.dumps({"environment": facts, **document}, indent=1) + "\n")
    (RESULTS / f"{stem}.md").write_text(f"# {title}\n\n{page}\n\n{conditions(facts)}\n")
    print(f"\nwritten: benchmarks/results/{stem}.json and .md")


def _word(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Commit of the checkout, with -dirty where tracked files were changed; None outside one."""
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip() or None
