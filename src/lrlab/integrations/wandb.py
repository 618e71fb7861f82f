"""Weights & Biases: a run of ours as one of theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import wandb

from lrlab.integrations.sent import Row
from lrlab.integrations.tracking import Card


class WandbRun:
    """A run on Weights & Biases, or offline in ./wandb with WANDB_MODE=offline.

    The x axis is `step`, a value of its own: their own counter may not go back, and evaluations come beside rows.
    """

    holds_back: ClassVar[bool] = True

    def __init__(self, card: Card, key: str | None) -> None:
        settings = wandb.Settings(
            console="off",  # what this process prints, and what it costs, is not the training's
            silent=True,
            save_code=False,
            disable_git=True,
            disable_job_creation=True,
            x_disable_stats=True,
            x_disable_meta=True,
            x_save_requirements=False,
        )
        self._run = wandb.init(
            project=card.project,
            name=card.name,
            group=card.group,
            config=dict(card.config),
            id=key,
            resume=None if key is None else "allow",
            reinit="create_new",
            settings=settings,
        )
        self._run.define_metric("*", step_metric="step")

    @property
    def key(self) -> str:
        """Their id."""
        return str(self._run.id)

    def log(self, rows: Sequence[Row]) -> None:
        """Log rows."""
        for step, values in rows:
            self._run.log({"step": step, **values})

    def finish(self, status: str, result: Mapping[str, float]) -> None:
        """Put the result into the summary."""
        self._run.summary.update({"status": status, **result})

    def close(self) -> None:
        """Upload, or write to disk, what is left."""
        self._run.finish()
