"""The schedule that the gradients of a run call for, as a configuration for the next run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import tomli_w
import torch

from lrlab.config import ConfigError, parse_config, to_table
from lrlab.runs import Run
from lrlab.runs.storage import write_whole
from lrlab.schedulers import refined_multipliers
from lrlab.schedulers.refined import Norm

LEAST_NORMS = 10
"""Of which a schedule is made."""
NUM_DIGITS = 6
"""Of the multipliers: far more than the noise of a run's gradients leaves."""


def refine_run(run: Run, file: Path | str, *, smoothing: float = 0.1) -> list[float]:
    """Write a run's configuration with the refined schedule, for `lrlab train --config`, and return its multipliers.

    The schedule takes the place of the run's own, with its warm-up and cooldown and an end by `stop_below_lr`.

    A run with SGD is refined by the L2 norm of the whole gradient, one with Adam by its L1 norm.

    Args:
        run: with the gradients of every layer group on record, at evenly spaced updates.
        file: TOML file to write.
        smoothing: width of the median filter, as a share of the run, in (0, 0.5).
    Raises: ConfigError if the run has not what is needed; RunError, StorageError.
    """
    config = parse_config(dict(run.config))
    norm: Norm = "l2" if config.optimizer.name == "sgd" else "l1"
    norms = _norms(run, norm)
    wrong = int((~(np.isfinite(norms) & (norms > 0))).sum())
    if len(norms) < LEAST_NORMS or wrong:
        raise ConfigError(
            f"{run.directory}: a refinement needs the gradients of {LEAST_NORMS} updates or more, none of them zero or "
            f"infinite; this run recorded {len(norms)}, of which {wrong} are. Use a longer run, or one that did not "
            "diverge."
        )
    try:
        multipliers = refined_multipliers(torch.from_numpy(norms), norm=norm, smoothing=smoothing)
    except ValueError as error:
        raise ConfigError(f"{run.directory}: {error}") from error
    rounded = [round(multiplier, NUM_DIGITS) for multiplier in multipliers]
    about = f"# Refined from {norm} norms of the gradients of {run.directory.name!r}: arXiv:2310.07831.\n"
    kept = {key: value for key, value in to_table(config).items() if key not in ("phases", "stop_below_lr")}
    refined = kept | {"schedule": {"name": "refined", "multipliers": rounded}}
    write_whole(Path(file), (about + tomli_w.dumps(refined)).encode())
    return rounded


def _norms(run: Run, norm: Norm) -> npt.NDArray[np.float64]:
    """Norm of the whole gradient at each update that was measured, (T,)."""
    groups = [column.removeprefix("grad_l2/") for column in run.columns if column.startswith("grad_l2/")]
    if not groups:
        raise ConfigError(f"{run.directory}: it recorded no gradients, so it cannot be refined.")
    quantities = ("grad_l2",) if norm == "l2" else ("grad_l2", "grad_rms", "grad_mean")
    series = run.all_series([f"{quantity}/{group}" for quantity in quantities for group in groups])
    l2, *others = (np.stack([series[f"{quantity}/{group}"][1] for group in groups]) for quantity in quantities)
    if norm == "l2":
        return np.asarray(np.sqrt((l2**2).sum(0)))  # of (groups, T)
    rms, mean = others
    sizes = [_size(*pair) for pair in zip(l2, rms, strict=True)]
    return np.asarray((mean * np.array(sizes)[:, None]).sum(0))


def _size(l2: npt.NDArray[np.float64], rms: npt.NDArray[np.float64]) -> float:
    """How many numbers a group's gradient has: its L2 norm over its root mean square is the root of that."""
    measured = rms > 0
    return float(np.rint(np.median((l2[measured] / rms[measured]) ** 2))) if measured.any() else 0.0
