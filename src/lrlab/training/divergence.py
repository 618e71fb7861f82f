"""A training that has come to numbers which are not finite: what is said of it, and where they show first."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn


class DivergedError(RuntimeError):
    """The loss or a gradient is no longer finite, or the loss of an evaluation at the end."""

    exit_code: ClassVar[int] = 4

    def __init__(
        self, step: int, *, loss: float | None = None, evaluated: float | None = None, group: str | None = None
    ) -> None:
        """Say what is not finite, the gradient if the losses are.

        Args:
            step: the update that it is of.
            loss: of that update, where it is not finite.
            evaluated: loss of the evaluation after it, where that is not finite.
            group: layer group in which it shows first: whose output it is that the loss comes from, or the one nearest
                to the output whose gradient is not finite; None where that is not known.
        """
        what = f"the gradient of update {step} is not finite"
        if loss is not None:
            what = f"the loss of update {step} is {loss}"
        elif evaluated is not None:
            what = f"after update {step}, the last one, the loss of the evaluation is {evaluated}"
        where = f", first in {group if loss is None else f'the output of {group}'}" if group else ""
        super().__init__(f"diverged: {what}{where}. Lower optimizer.lr, or look at the data.")
        self.step = step
        self.group = group


def first_output_not_finite(model: nn.Module, forward: Callable[[], object]) -> str | None:
    """Return which of a model's children puts out something that is not finite first; None if none does.

    Args:
        model: whose children are watched, in the order in which they are called.
        forward: calls the model once.
    """
    found: list[str] = []

    def look(name: str, module: nn.Module, args: object, output: object) -> None:
        if isinstance(output, Tensor) and not bool(torch.isfinite(output).all()):
            found.append(name)

    handles = [child.register_forward_hook(partial(look, name)) for name, child in model.named_children()]
    try:
        with torch.no_grad():
            forward()
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None
