"""A network as the loop trains it: its parameters in one tensor, their gradients in another."""

from __future__ import annotations

import itertools
import math
import os
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lrlab.data import Batch
from lrlab.gradients import ROW, group_sums, row_sums
from lrlab.training.divergence import DivergedError, first_output_not_finite
from lrlab.training.engine import Engine, EngineError

NUM_PARAMETERS_TO_COMPILE = 1_000_000
"""Read at an update, on the average: from here on telemetry is compiled where engine.compile is auto."""

Pairwise = Callable[[Sequence[Sequence[Tensor]], Sequence[Sequence[Tensor]]], Tensor]
"""What is measured of each group of tensors and one of the same shapes, as `lrlab.gradients.group_products`."""


class Network:
    """A model whose trainable parameters lie in one tensor, layer group after layer group.

    What is done to every parameter (the optimizer's step, telemetry, a cast) then is one call on one tensor or on
    one for each group instead of one on each of the model's: at batch 4 that is an eighth of the step of a
    ResNet-18. The model stays what it was: its parameters become views, so it can be evaluated, averaged and saved.

    A forward pass uses working copies of the parameters. In bf16 these are a cast of the whole tensor, made once an
    update; in fp32 they are the parameters themselves. Their gradients are gathered after the backward pass, so that
    `p.grad` of the model's parameters is right from there on; hooks on those parameters never fire.

    Args:
        model: placed by the engine; its trainable parameters are of one type. They become views.
        groups: name -> its trainable parameters, every one in one group, as from `lrlab.models.layer_groups`.
        engine: how to compute.
    """

    def __init__(self, model: nn.Module, groups: Mapping[str, Sequence[nn.Parameter]], *, engine: Engine) -> None:
        self.model = model
        self.engine = engine
        self.layers = {name: list(group) for name, group in groups.items()}
        """Name -> the model's own parameters in the group, which are views of `groups`."""
        parameters = [parameter for group in groups.values() for parameter in group]
        self._num_rows = [-(-sum(parameter.numel() for parameter in group) // ROW) for group in groups.values()]
        self._weights = parameters[0].new_zeros(sum(self._num_rows) * ROW, requires_grad=False)
        self._gradients = torch.zeros_like(self._weights)
        self.groups: dict[str, list[nn.Parameter]] = {}
        """Name -> one parameter, (N,), that is the whole group, with its gradient: what the optimizer is given."""
        starts: dict[nn.Parameter, int] = {}
        start = 0
        for (name, group), num_rows in zip(groups.items(), self._num_rows, strict=True):
            end = start
            for parameter in group:
                starts[parameter] = end
                end += parameter.numel()
            whole = nn.Parameter(self._weights[start:end])
            whole.grad = self._gradients[start:end]
            self.groups[name] = [whole]
            start += num_rows * ROW
        self._adopt(starts)
        self._forward = torch.compile(self._compute) if engine.compile is True else self._compute
        rows = self._gradients.view(-1, ROW)
        self._row_sums = self._compiled(partial(row_sums, num_rows=self._num_rows), rows, every=1)
        self._sums: Tensor | None = None  # of the gradients that are gathered

    @property
    def telemetry(self) -> Literal["compiled", "eager"]:
        """How the gradients' sums are computed: in one compiled pass, or in one for each of them."""
        return "compiled" if self._row_sums else "eager"

    def compiled(self, measure: Pairwise, *, every: int) -> Pairwise | None:
        """Compile what is measured at each `every`-th update of the groups' gradients, or weights, and others.

        Returns: a function that takes groups of one vector each; None where compiling neither is asked for nor pays.
        """
        groups = [[whole.detach()] for (whole,) in self.groups.values()]
        return self._compiled(measure, groups, groups, every=every)

    def _compiled(self, measure: Callable[..., Tensor], *examples: object, every: int) -> Callable[..., Tensor] | None:
        """Compile a pass over the numbers where that is asked for, or pays: seconds now against a large network."""
        engine = self.engine
        pays = engine.device.type == "cpu" and self._gradients.numel() / every >= NUM_PARAMETERS_TO_COMPILE
        if engine.compile is False or (engine.compile == "auto" and not (pays and _has_compiler())):
            return None
        compiled = torch.compile(measure, dynamic=False)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's own, of what it imports
                compiled(*examples)  # compiles it now
        except RuntimeError as error:
            if engine.compile is True:
                raise EngineError(f"engine.compile: torch.compile failed ({error}). Leave the key out.") from error
            warnings.warn(
                f"The telemetry could not be compiled and costs more ({str(error).splitlines()[0]}). "
                "Silence this with engine.compile = false.",
                stacklevel=2,
            )
            return None
        return compiled

    def _adopt(self, starts: Mapping[nn.Parameter, int]) -> None:
        """Make the model's parameters views into the whole, and working copies of them."""
        is_half = self.engine.precision == "bf16"
        self._half = self._weights.to(torch.bfloat16) if is_half else None
        self._working: dict[str, Tensor] = {}
        self._views: list[Tensor] = []
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if parameter not in starts:
                    continue
                start = starts[parameter]
                view = _view(self._weights, start, parameter)
                view.copy_(parameter)
                parameter.data = view
                parameter.grad = _view(self._gradients, start, parameter)
                self._views.append(parameter.grad)
                # vectors are normalisations' scales and biases: few numbers, which autocast leaves in full as well
                source = self._weights if self._half is None or parameter.dim() < 2 else self._half
                self._working[name] = _view(source, start, parameter).detach().requires_grad_()

    def by_parameter(self, wholes: Mapping[str, Tensor]) -> list[Tensor]:
        """Numbers of each group, (N,), what the optimizer holds of it for instance, as one view for each parameter."""
        views = []
        for name, parameters in self.layers.items():
            ends = itertools.accumulate(parameter.numel() for parameter in parameters)
            views += [_view(wholes[name], end - p.numel(), p) for p, end in zip(parameters, ends, strict=True)]
        return views

    def logits(self, images: Tensor) -> Tensor:
        """(B, C, H, W) images -> (B, num_classes) float32 logits, to be differentiated."""
        if self._half is not None:
            self._half.copy_(self._weights)
        return self._forward(images)

    def _compute(self, images: Tensor) -> Tensor:
        return self.engine.logits(self._call, images)

    def _call(self, images: Tensor) -> Tensor:
        outputs: Tensor = functional_call(self.model, self._working, (images,))
        return outputs

    def gather_gradients(self) -> None:
        """Bring the gradients of the last backward pass together, where the optimizer, probes and schedulers read them.

        A parameter that the loss does not depend on has a gradient of zeros.
        """
        working = list(self._working.values())
        if any(copy.grad is None for copy in working):
            self._gradients.zero_()
        pairs = [(view, copy.grad) for view, copy in zip(self._views, working, strict=True) if copy.grad is not None]
        self._sums = None
        torch._foreach_copy_([view for view, _ in pairs], [gradient for _, gradient in pairs])
        for copy in working:
            copy.grad = None

    def gradient_sums(self) -> Tensor:
        """Sum g^2, sum |g| and max |g| of each group's gradient, (3, len(groups)), on the device."""
        if self._sums is None:
            self._sums = self._measured_sums()
        return self._sums

    def _measured_sums(self) -> Tensor:
        if self._row_sums is None:
            return group_sums(
                [[whole.grad for whole in group if whole.grad is not None] for group in self.groups.values()]
            )
        return self._row_sums(self._gradients.view(-1, ROW))

    def check_finite(self, batch: Batch, loss: Tensor) -> None:
        """Look whether the loss and the gathered gradients allow an update; on a processor, where that is no waiting.

        Raises: DivergedError with the layer group in which it shows first.
        """
        if self.engine.device.type != "cpu":
            return
        if not math.isfinite(loss.item()):
            group = first_output_not_finite(self.model, lambda: self._compute(batch.images))
            raise DivergedError(batch.step, loss=loss.item(), group=group)
        if not _is_finite(self.gradient_sums()):
            backwards = reversed(list(self.groups.items()))  # as the gradient flows
            group = next((name for name, (whole,) in backwards if not _is_finite(whole.grad)), None)
            if group is not None:  # else it is a square that is too large, no gradient
                raise DivergedError(batch.step, group=group)


def _is_finite(numbers: Tensor | None) -> bool:
    return numbers is None or bool(torch.isfinite(numbers).all())


def _has_compiler() -> bool:
    return any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++")))


def _view(whole: Tensor, start: int, like: Tensor) -> Tensor:
    """The numbers from `start` on, in the shape and memory order of a parameter."""
    part = whole[start : start + like.numel()]
    if like.dim() == 4 and like.is_contiguous(memory_format=torch.channels_last):
        planes, channels, height, width = like.shape
        return part.view(planes, height, width, channels).permute(0, 3, 1, 2)
    return part.view(like.shape)
