"""What the page of a very large study costs: seconds, memory, bytes, and whether it still moves smoothly.

    python benchmarks/report.py

1,000 runs of 10,000 rows (ten arms of 100 seeds, 57 columns, 20 evaluations, a rule that decays) are written as files
of made-up numbers; `lrlab report` then makes the page in a process of its own. A Chromium, if there is one, opens it,
draws one chart after another, and drags one: the time between two frames is what a hand feels.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lrlab.config import parse_config
from lrlab.runs import RunWriter
from lrlab.runs.storage import METRICS
from measuring import digits, environment, parser, publish, spread, table

TITLE = "The page of a study of 1,000 runs"
NUM_ARMS = 10
GROUPS = ("stem", "layer1", "layer2", "layer3", "layer4", "linear")
MEASURES = ("l2", "rms", "mean", "max")
NUM_EVALUATIONS = 20
NUM_CLASSES = 10
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LIMITS = {"seconds": 90, "gigabytes of memory": 2, "megabytes of page": 25}
NOTE = (
    "Seconds and memory are of the whole command, `lrlab report PATH`, with its figures as PNG and SVG. Rows are from "
    "the disk or from the system's memory of it, since they had just been written. Frames: a chart of all runs is "
    "dragged sideways by hand speed in a headless Chromium without a GPU."
)


def main() -> None:
    options = parser(__doc__ or "", repeats=5)
    options.add_argument("--runs", type=int, default=1000, help="runs [1000]")
    options.add_argument("--rows", type=int, default=10_000, help="rows of each [10000]")
    options.add_argument(
        "--keep", metavar="DIR", help="where the runs are put, or lie already [a folder that is deleted]"
    )
    given = options.parse_args()
    num_runs, num_rows = (20, 500) if given.quick else (given.runs, given.rows)
    facts = environment()
    with tempfile.TemporaryDirectory() as folder:
        study = Path(given.keep or folder) / "many"
        if not study.exists():
            write_study(study, num_runs, num_rows)
        rounds = [measure(study) for _ in range(1 if given.quick else given.repeats)]
        moved = drag(study / "report.html")
    text = page(rounds, moved)
    print(text)
    if not given.quick:
        publish("report", title=TITLE, page=text, document={"rounds": rounds, "frames": moved}, facts=facts)


def write_study(study: Path, num_runs: int, num_rows: int) -> None:
    """Write runs as `lrlab study` would leave them, but for what no report reads."""
    study.mkdir(parents=True)
    (study / "study.toml").write_text('name = "many"\n')
    random = np.random.default_rng(0)
    for index in range(num_runs):
        arm, seed = f"arm{index % NUM_ARMS}", index // NUM_ARMS
        config = parse_config({"steps": num_rows, "seed": seed, "schedule": {"name": "article", "multiplier": 0.2}})
        with RunWriter(study / arm / f"seed{seed}", config) as writer:
            writer.describe(data={"classes": [f"class {one}" for one in range(NUM_CLASSES)]}, engine={"threads": 1})
            for step in np.linspace(num_rows / NUM_EVALUATIONS, num_rows, NUM_EVALUATIONS).astype(int):
                writer.write_evaluation(make_evaluation(random, int(step)), png=b"\x89PNG\r\n\x1a\n" + bytes(24))
            writer.write_decisions([make_decision(step) for step in range(num_rows // 10, num_rows, num_rows // 10)])
            writer.finish(
                "complete", {"steps": num_rows, "epochs": 1.0, "test_accuracy": float(random.normal(0.9, 0.01))}
            )
        pq.write_table(make_rows(random, num_rows), study / arm / f"seed{seed}" / METRICS / "part-000001.parquet")


def make_rows(random: np.random.Generator, num_rows: int) -> pa.Table:
    steps = np.arange(1, num_rows + 1)
    columns: dict[str, Any] = {
        "step": steps,
        "epoch": np.ones(num_rows, np.int64),
        "train/loss": (2 * 0.9997**steps + random.gamma(2, 0.1, num_rows)).astype(np.float32),
    }
    rate = 1e-3 * 0.5 ** (steps // 1000)
    columns |= {f"lr/{group}": rate for group in GROUPS}
    for kind in ("grad", "grad_out"):
        for measure in MEASURES:
            noise = random.lognormal(0, 0.5, (len(GROUPS), num_rows)).astype(np.float32)
            columns |= {f"{kind}_{measure}/{group}": row for group, row in zip(GROUPS, noise, strict=True)}
    return pa.table(columns)


def make_evaluation(random: np.random.Generator, step: int) -> dict[str, Any]:
    counts = random.multinomial(1000, [0.91] + [0.01] * 9, NUM_CLASSES)
    confusion = [np.roll(row, index).tolist() for index, row in enumerate(counts)]
    shares = [row[index] / 1000 for index, row in enumerate(confusion)]
    accuracy = float(np.mean(shares))
    return {
        "step": step,
        "epoch": 1,
        "split": "test",
        "loss": 0.3,
        "accuracy": accuracy,
        "class_accuracy": shares,
        "confusion": confusion,
        "mean_probabilities": [[0.1] * NUM_CLASSES] * NUM_CLASSES,
    }


def make_decision(step: int) -> dict[str, Any]:
    rates = {"lr_before": [1e-3] * len(GROUPS), "lr_after": [5e-4] * len(GROUPS)}
    return {"step": step, "rule": "article", "mean_diff": -1e-4, "threshold": 5e-4, "decision": "decay", **rates}


def measure(study: Path) -> dict[str, float]:
    """Make the page once, in a process of its own."""
    code = (
        "import resource, sys; from lrlab.cli import main; code = main(); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr); sys.exit(code)"
    )
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, "report", str(study)], capture_output=True, text=True, check=True
    )
    seconds = time.perf_counter() - started
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "seconds": seconds,
        "gigabytes of memory": int(done.stderr.split()[-1]) * unit / 1e9,
        "megabytes of page": (study / "report.html").stat().st_size / 1e6,
    }


def drag(page_file: Path) -> dict[str, Any] | None:
    """Open the page and drag a chart; return milliseconds between frames, and what drawing took."""
    browser_path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser_path is None:
        return None
    from playwright.sync_api import sync_playwright  # here, since only this needs it

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        started = time.perf_counter()
        tab.goto(page_file.as_uri())
        opened = time.perf_counter() - started
        drawn = []
        plots = tab.locator("[data-chart]")
        for index in range(plots.count()):
            started = time.perf_counter()
            plots.nth(index).scroll_into_view_if_needed()
            plots.nth(index).locator(".main-svg").first.wait_for()
            drawn.append(time.perf_counter() - started)
        frames = drag_chart(tab, plots.first)
        browser.close()
    return {"opened": opened, "drawn": drawn, "frames": frames}


def drag_chart(tab: Any, plot: Any) -> list[float]:
    plot.scroll_into_view_if_needed()
    plot.hover()
    plot.locator('[data-title="Pan"]').click()
    box = plot.locator(".nsewdrag").first.bounding_box()
    middle = box["y"] + box["height"] / 2
    tab.mouse.move(box["x"] + box["width"] * 0.8, middle)
    tab.mouse.down()
    tab.evaluate(
        "() => { window.frames_ = []; let last = performance.now();"
        " const tick = (now) => { window.frames_.push(now - last); last = now; requestAnimationFrame(tick); };"
        " requestAnimationFrame(tick); }"
    )
    for share in np.linspace(0.8, 0.2, 60):
        tab.mouse.move(box["x"] + box["width"] * share, middle)
        tab.wait_for_timeout(16)
    frames: list[float] = tab.evaluate("() => window.frames_.slice(2)")
    tab.mouse.up()
    return frames


def page(rounds: list[dict[str, float]], moved: dict[str, Any] | None) -> str:
    rows = []
    for name, limit in LIMITS.items():
        found = spread([one[name] for one in rounds])
        rows.append([name, *(digits(found[part]) for part in ("median", "min", "max")), f"{limit}"])
    text = table(("", "median", "least", "largest", "at most"), rows)
    if moved is None:
        return f"{text}\n\nNo browser on this machine: how it moves is not measured.\n\n{NOTE}"
    frames = np.array(moved["frames"])
    return (
        f"{text}\n\nIn the browser: the page is there after {digits(moved['opened'])} s; a chart of all runs is drawn "
        f"in {digits(float(np.median(moved['drawn'])))} s (median of {len(moved['drawn'])}, largest "
        f"{digits(max(moved['drawn']))}). Dragged, a frame takes {digits(float(np.median(frames)))} ms (median of "
        f"{len(frames)}), 95 % of them less than {digits(float(np.quantile(frames, 0.95)))}.\n\n{NOTE}"
    )


if __name__ == "__main__":
    main()
