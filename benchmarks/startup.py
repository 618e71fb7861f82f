"""How long lrlab takes to begin: its import, its help, and the first update of a training on the digits.

    python benchmarks/startup.py

Each measurement is a process of its own, in turns; the start of Python is the floor of all, that of PyTorch the floor
of whatever trains. The first update counts once its row lies in the run directory.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import environment, interleave, parser, publish, spread, table

TITLE = "Time to begin"
PYTHON, IMPORT, HELP, TORCH, FIRST_STEP = (
    "python",
    "import lrlab",
    "lrlab --help",
    "import torch",
    "lrlab train, to its first update",
)
COMMANDS = {
    PYTHON: ["-c", "pass"],
    IMPORT: ["-c", "import lrlab"],
    HELP: ["-m", "lrlab", "--help"],
    TORCH: ["-c", "import torch"],
}
PATIENCE = 120.0
"""Seconds after which a first update is no longer waited for."""
BETWEEN_LOOKS = 0.002


def measure(name: str) -> float:
    """Seconds of one start."""
    if name == FIRST_STEP:
        return first_step()
    started = time.perf_counter()
    subprocess.run([sys.executable, *COMMANDS[name]], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def first_step() -> float:
    """Seconds until a training has its first row on disk; it is then stopped."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "run"
        command = ["train", "--data", "digits", "--width", "16", "--set", "telemetry.flush_every=1"]
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "lrlab", *command, "--run", str(directory)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while not any(directory.glob("metrics/part-*.parquet")):
                if process.poll() is not None or time.perf_counter() - started > PATIENCE:
                    raise SystemExit(f"lrlab {' '.join(command)}: no first update came.")
                time.sleep(BETWEEN_LOOKS)
            return time.perf_counter() - started
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def main() -> None:
    options = parser(__doc__, repeats=10).parse_args()
    facts = environment()
    names = [*COMMANDS, FIRST_STEP]
    for name in names:
        measure(name)  # thrown away: files come into the page cache, bytecode is written
    seconds = interleave(names, measure, repeats=1 if options.quick else options.repeats)
    columns = ("median", "min", "low", "high", "max")
    rows = [[name, *(f"{1e3 * spread(seconds[name])[column]:,.0f}" for column in columns)] for name in names]
    text = f"{table(['ms', *columns], rows)}\n\n{len(seconds[PYTHON])} rounds; low and high are the quartiles."
    print(text)
    if not options.quick:
        summary = {name: spread(values) for name, values in seconds.items()}
        publish("startup", title=TITLE, page=text, document={"summary": summary, "seconds": seconds}, facts=facts)


if __name__ == "__main__":
    main()
