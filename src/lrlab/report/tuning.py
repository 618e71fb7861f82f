"""What the page of a study says of how the rates of its arms were found."""

from __future__ import annotations

from pathlib import Path

from lrlab.runs.finding import read_plan
from lrlab.runs.storage import STUDY, TUNING_RESULT, RunError, read_json


def tuning_remarks(folder: Path) -> list[str]:
    """Return sentences on the rates of a study's arms: which, found how, at what cost, and what is to be doubted.

    Raises: StorageError if they were written and cannot be read.
    """
    found = read_json(folder / TUNING_RESULT)
    try:
        if found is None or "tune" not in read_plan(folder / STUDY):  # the plan may have been changed since
            return []
    except RunError:  # which whoever found the runs has warned of
        return []
    costs = {arm: f"{one['cost']['runs']} runs, {one['cost']['steps']:,} updates" for arm, one in found["arms"].items()}
    arms = "; ".join(f"{arm} {one['lr']} ({costs[arm]})" for arm, one in found["arms"].items())
    rates, seeds = (", ".join(map(str, found[name])) for name in ("rates", "seeds"))
    sentence = (
        f"The rates were chosen by [tune] among {rates}, with seed {seeds}, by the accuracy on "
        f"{found['validation_fraction']:.0%} of the training images set aside, never on the test images: {arms}. "
        f"That took {found['cost']['train_seconds']:,.0f} s of training."
    )
    return [sentence, *(f"{arm}: {one['remark']}." for arm, one in found["arms"].items() if one["remark"])]
