"""How much of each layer group's gradient is noise, by the gradients of parts of the batch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from lrlab.gradients import WHOLE, group_norms
from lrlab.probes.base import Probe

_DECAY: Final = 0.9
"""Of the running means that the noise scale is the quotient of."""
_HOOKS: Final = ("_forward_hooks", "_forward_pre_hooks")


class NoiseScaleProbe(Probe):
    """Square of the true gradient, variance of an example's, and their quotient, for each group and for all together.

    A batch is cut into k micro-batches of b examples. With their gradients g_i and the mean g of these:
        grad_square/<group>:  (k |g|^2 - mean |g_i|^2) / (k - 1), an estimate of |G|^2 for the expected gradient G
        grad_variance/<group>:  b k / (k - 1) (mean |g_i|^2 - |g|^2), one of the trace of an example's covariance
        noise_scale/<group>:  the second over the first, each as a mean over all measurements so far in which one counts
            0.9 times the next; nan while that of the first is not positive

    Those of `whole` are of all groups together. Both estimates are unbiased, and noisy: the first may be negative.
    The noise scale is about the batch size beyond which more examples hardly help: below it twice the examples are
    worth nearly twice the rate, far above it next to nothing.

    Batch normalisation in training mode makes an example's gradient depend on the others, so there is no gradient of an
    example, and one of a larger batch has another expectation. Here all gradients are of batches of b: what is measured
    is right for that size, and in between examples of one micro-batch it includes what they do to each other.

    It costs about one more step each time, for k passes over parts of the batch, without autocast; so it is thinned
    unless told otherwise. Running statistics, random streams and hooks of other probes do not notice. All other hooks
    are taken for parts of the model, as those of weight normalisation and pruning are, and see these passes too. What
    torch.compile made of the model is left alone: the passes are of the model that it was made of.

    Args:
        groups: name -> parameters of the model, none of them named `whole`, as from `lrlab.models.layer_groups(model)`.
        model: in the mode in which it is trained.
        batch: update, from 1 -> its images and labels; in a loop of your own `lambda step: (images, labels)` will do.
        criterion: outputs, labels -> mean over a batch.
        num_parts: micro-batches, k >= 2; what the batch has over a multiple of k is left out.
        every: measure at each `every`-th update.
    Raises: ValueError for fewer parts, or a group named `whole`; at `observe()` for a batch of fewer than k examples.
    Source: McCandlish et al., 2018, arXiv:1812.06162, appendix A.1, with B_small = b and B_big = k b.
    """

    def __init__(
        self,
        groups: Mapping[str, Sequence[nn.Parameter]],
        model: nn.Module,
        batch: Callable[[int], tuple[Tensor, Tensor]],
        *,
        criterion: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
        num_parts: int = 8,
        every: int = 250,
    ) -> None:
        if num_parts < 2:
            raise ValueError(f"NoiseScaleProbe: num_parts must be >= 2, got {num_parts}: it compares parts.")
        if WHOLE in groups:
            raise ValueError(f"NoiseScaleProbe: no group may be named '{WHOLE}', which is all of them together.")
        names = [*groups, WHOLE]
        quantities = ("grad_square", "grad_variance", "noise_scale")
        super().__init__([f"{quantity}/{name}" for quantity in quantities for name in names], every=every)
        self._groups = [list(parameters) for parameters in groups.values()]
        self._model = model
        self._batch = batch
        self._criterion = criterion
        self._num_parts = num_parts
        self._means: Tensor | None = None  # of grad_square and grad_variance, (2, G + 1), of weights 0.9^age

    def state_dict(self) -> dict[str, Any]:
        """Return what a probe must know to go on where it stopped, its running means included; no sync."""
        return {**super().state_dict(), "means": self._means}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        super().load_state_dict(state_dict)
        means = state_dict["means"]
        self._means = None if means is None else means.to(self._groups[0][0].device)

    def _measure(self) -> Tensor:
        images, labels = self._batch(self.num_updates + 1)
        num_parts, size = self._num_parts, len(labels) // self._num_parts
        if size < 1:
            raise ValueError(f"NoiseScaleProbe: a batch of {len(labels)} cannot be cut into {num_parts} parts.")
        parameters = [parameter for group in self._groups for parameter in group]
        trained = [parameter for parameter in parameters if parameter.requires_grad]  # one may be frozen by now
        total = [torch.zeros_like(parameter) for parameter in parameters]
        squares = []
        with self._unnoticed() as model:  # around all: parts with the same dropped units would share that noise
            for part in range(num_parts):
                rows = slice(part * size, (part + 1) * size)
                loss = self._criterion(model(images[rows]), labels[rows])
                found = torch.autograd.grad(loss, trained, allow_unused=True, materialize_grads=True)
                of_trained = dict(zip(trained, found, strict=True))
                gradients = [of_trained[one] if one in of_trained else torch.zeros_like(one) for one in parameters]
                squares.append(self._squares(gradients))
                torch._foreach_add_(total, gradients)
        torch._foreach_div_(total, num_parts)
        of_mean, mean = self._squares(total), torch.stack(squares).mean(0)  # (G,) each
        square = (num_parts * of_mean - mean) / (num_parts - 1)
        variance = size * num_parts / (num_parts - 1) * (mean - of_mean)
        estimates = torch.stack([_with_whole(square), _with_whole(variance)])
        # the weights cancel in the quotient, so that sums will do for means
        before = torch.zeros_like(estimates) if self._means is None else self._means
        self._means = torch.where(estimates.isfinite().all(), _DECAY * before + estimates, before)
        scale = torch.where(self._means[0] > 0, self._means[1] / self._means[0], torch.nan)
        return torch.cat([estimates.flatten(), scale])

    def _squares(self, gradients: Sequence[Tensor]) -> Tensor:
        """Square of each group's norm, (G,)."""
        left = iter(gradients)
        return group_norms([[next(left) for _ in group] for group in self._groups]).square()

    @contextmanager
    def _unnoticed(self) -> Iterator[Callable[[Tensor], Tensor]]:
        """Give a forward pass that leaves running statistics, random streams and hooks of probes alone."""
        modules = list(self._model.modules())
        hooks = [(module, name, getattr(module, name)) for module in modules for name in _HOOKS]
        hooks = [one for one in hooks if any(map(_is_of_a_probe, one[2].values()))]
        devices = {parameter.device for group in self._groups for parameter in group if parameter.is_cuda}
        kind = self._groups[0][0].device.type
        with (
            torch.random.fork_rng(devices=list(devices)),
            torch.enable_grad(),
            torch.autocast(kind, enabled=False),
            _uncompiled(),
        ):
            try:
                for module, name, held in hooks:
                    others = {key: hook for key, hook in held.items() if not _is_of_a_probe(hook)}
                    setattr(module, name, type(held)(others))
                yield lambda images: functional_call(
                    self._model, {name: buffer.clone() for name, buffer in self._model.named_buffers()}, (images,)
                )
            finally:
                for module, name, held in hooks:
                    setattr(module, name, held)


def _uncompiled() -> AbstractContextManager[object]:
    """Where compiled functions run as they were before: a graph made here would be taken for that of the training."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and to load it takes a second
        return nullcontext()
    eager: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return eager


def _is_of_a_probe(hook: Callable[..., object]) -> bool:
    function = hook.func if isinstance(hook, partial) else hook
    return isinstance(getattr(function, "__self__", None), Probe)


def _with_whole(values: Tensor) -> Tensor:
    return torch.cat([values, values.sum(0, keepdim=True)])
