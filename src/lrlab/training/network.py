"""A network as the loop trains it: its parameters in one tensor, their gradients in another."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lrlab.data import Batch
from lrlab.gradients import ROW, group_sums, row_sums
from lrlab.training.compiling import compiled
from lrlab.training.distributed import ALONE, Ranks
from lrlab.training.divergence import DivergedError, first_output_not_finite
from lrlab.training.engine import Engine

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
        ranks: that train it together, each with an equal part of every batch. It must be the same on all.
    """

    def __init__(
        self,
        model: nn.Module,
        groups: Mapping[str, Sequence[nn.Parameter]],
        *,
        engine: Engine,
        ranks: Ranks = ALONE,
    ) -> None:
        self.model = model
        self.engine = engine
        self.ranks = ranks
        self.layers = {name: list(group) for name, group in groups.items()}
        """Name -> the model's own parameters in the group, which are views of `groups`."""
        parameters = [parameter for group in groups.values() for parameter in group]
        self._num_rows = [-(-sum(parameter.numel() for parameter in group) // ROW) for group in groups.values()]
        self._weights = parameters[0].new_zeros(sum(self._num_rows) * ROW, requires_grad=False)
        self._statistics = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        num_statistics = sum(buffer.numel() for buffer in self._statistics) if ranks.size > 1 else 0
        # what the ranks add up at an update: gradients, the loss, the running statistics
        self._shared = self._weights.new_zeros(len(self._weights) + 1 + num_statistics)
        self._gradients = self._shared[: len(self._weights)]
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
        self._compiled = torch.compile(self._compute) if engine.compile is True else None
        rows = self._gradients.view(-1, ROW)
        self._row_sums = compiled(
            partial(row_sums, num_rows=self._num_rows), rows, engine=engine, num_parameters=self._gradients.numel()
        )
        self._sums: Tensor | None = None  # of the gradients that are gathered

    @property
    def total(self) -> Callable[[Tensor], Tensor] | None:
        """Adds a tensor up over the ranks; None if there is one alone."""
        return self.ranks.total if self.ranks.size > 1 else None

    @property
    def telemetry(self) -> Literal["compiled", "eager"]:
        """How the gradients' sums are computed: in one compiled pass, or in one for each of them."""
        return "compiled" if self._row_sums else "eager"

    def compiled(self, measure: Pairwise) -> Pairwise | None:
        """Compile what is measured of the groups' gradients, or weights, and others.

        Returns: a function that takes groups of one vector each; None where compiling neither is asked for nor pays.
        """
        groups = [[whole.detach()] for (whole,) in self.groups.values()]
        return compiled(measure, groups, groups, engine=self.engine, num_parameters=self._gradients.numel())

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

    def logits(self, images: Tensor, *, compiles: bool = True) -> Tensor:
        """Compute the logits, to be differentiated.

        Args:
            images: (B, C, H, W).
            compiles: whether to take the compiled network where there is one. A pass that hooks watch is better off
                without: they break its graph in pieces, and the passes after it would be made of those.
        Returns: (B, num_classes), float32.
        """
        if self._half is not None:
            self._half.copy_(self._weights)
        return self._compiled(images) if self._compiled is not None and compiles else self._compute(images)

    def _compute(self, images: Tensor) -> Tensor:
        return self.engine.logits(self._call, images)

    def _call(self, images: Tensor) -> Tensor:
        outputs: Tensor = functional_call(self.model, self._working, (images,))
        return outputs

    def backward(self, loss: Tensor) -> Tensor:
        """Bring the gradients of a loss together, where the optimizer, probes and schedulers read them.

        Of several ranks it is the mean of their losses, which is that of the whole batch, since their parts are equally
        large. Running statistics become the mean of theirs. A parameter that the loss does not depend on has a gradient
        of zeros.

        Args:
            loss: of this rank's part of the batch, ().
        Returns: the loss of the whole batch, (), detached.
        """
        if self.ranks.size > 1:
            loss = loss / self.ranks.size  # its gradients then only have to be added up
        loss.backward()
        self._gather_gradients()
        if self.ranks.size > 1:
            self._share(loss.detach())
            return self._shared[len(self._weights)].clone()
        return loss.detach()

    @torch.no_grad()
    def _share(self, loss: Tensor) -> None:
        """Add gradients, loss and running statistics up over the ranks: one collective."""
        rest = self._shared[len(self._weights) :]
        rest[0] = loss
        views = rest[1:].split([buffer.numel() for buffer in self._statistics])
        for view, buffer in zip(views, self._statistics, strict=True):
            torch.div(buffer.flatten(), self.ranks.size, out=view)
        self.ranks.total(self._shared)
        for view, buffer in zip(views, self._statistics, strict=True):
            buffer.copy_(view.view_as(buffer))

    def _gather_gradients(self) -> None:
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

    def checksum(self) -> int:
        """A number that all bits of the weights go into."""
        bits = self._weights.view(torch.int64 if self._weights.dtype == torch.float64 else torch.int32)
        return int(bits.sum(dtype=torch.int64))

    def check_finite(self, batch: Batch, loss: Tensor) -> None:
        """Look whether the loss and the gathered gradients allow an update; on a processor, where that is no waiting.

        Raises: DivergedError with the layer group in which it shows first.
        """
        if self.engine.device.type != "cpu":
            return
        if not math.isfinite(loss.item()):
            found = first_output_not_finite(self.model, lambda: self._compute(batch.images))
            names = [name for name, _ in self.model.named_children()]
            # of all ranks' parts of the batch, the one in which it shows first
            depth = self.ranks.highest(len(names) - names.index(found) if found is not None else 0)
            raise DivergedError(batch.step, loss=loss.item(), group=names[-depth] if depth else None)
        if not _is_finite(self.gradient_sums()):
            backwards = reversed(list(self.groups.items()))  # as the gradient flows
            group = next((name for name, (whole,) in backwards if not _is_finite(whole.grad)), None)
            if group is not None:  # else it is a square that is too large, no gradient
                raise DivergedError(batch.step, group=group)


def _is_finite(numbers: Tensor | None) -> bool:
    return numbers is None or bool(torch.isfinite(numbers).all())


def _view(whole: Tensor, start: int, like: Tensor) -> Tensor:
    """The numbers from `start` on, in the shape and memory order of a parameter."""
    part = whole[start : start + like.numel()]
    if like.dim() == 4 and like.is_contiguous(memory_format=torch.channels_last):
        planes, channels, height, width = like.shape
        return part.view(planes, height, width, channels).permute(0, 3, 1, 2)
    return part.view(like.shape)
