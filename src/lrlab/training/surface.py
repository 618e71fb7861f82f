"""The loss over fixed examples as a function of a network's weights: its value, gradient and second derivatives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from lrlab.gradients import WHOLE

BatchNormPolicy = Literal["training", "evaluation"]


class LossSurface:
    """The mean loss over fixed examples, as a function of a model's weights; nothing of the model is changed.

    What batch normalisation does decides what surface that is:
        training: each batch is normalised by its own statistics, as in a training step. The loss is the one that the
            updates descend, for batches of this size, and what a learning rate is held against.
        evaluation: by the running statistics, which stand still as the weights move. The loss is that of the network
            as it is used, but a training step sees another one.
    All other modules, dropout among them, are in evaluation mode: the surface must stand still while it is measured.

    Args:
        model: any module; hooks on it fire as in any forward pass.
        groups: name -> trainable parameters, none of them named `whole`, as from `lrlab.models.layer_groups`.
        batches: images and labels on the model's device; each batch is a forward pass by itself.
        batchnorm: see above.
        loss: logits, labels -> mean over a batch.
    Raises: ValueError for no batches, or a group named `whole`.
    """

    def __init__(
        self,
        model: nn.Module,
        groups: Mapping[str, Sequence[nn.Parameter]],
        batches: Sequence[tuple[Tensor, Tensor]],
        *,
        batchnorm: BatchNormPolicy,
        loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    ) -> None:
        if not batches:
            raise ValueError("LossSurface: a loss needs examples, got no batches.")
        if WHOLE in groups:
            raise ValueError(f"LossSurface: a layer group may not be named '{WHOLE}', which is all of them together.")
        self._model = model
        self.groups = {name: list(parameters) for name, parameters in groups.items()}
        self._names = {parameter: name for name, parameter in model.named_parameters()}
        self._batches = batches
        self._batchnorm = batchnorm
        self._loss = loss
        self._num_examples = sum(len(labels) for _, labels in batches)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Those of all groups, in order."""
        return [parameter for group in self.groups.values() for parameter in group]

    def loss(self, shift: Mapping[nn.Parameter, Tensor]) -> float:
        """The loss where some of the weights are shifted by so much."""
        with torch.no_grad():
            weights = {self._names[parameter]: parameter + by for parameter, by in shift.items()}
            return sum(float(loss) for loss in self._losses(weights))

    def gradient(self) -> list[Tensor]:
        """The loss's gradient with respect to `parameters`."""
        parameters = self.parameters
        total = [torch.zeros_like(parameter) for parameter in parameters]
        for loss in self._losses({}):
            torch._foreach_add_(total, _gradients(loss, parameters))
        return total

    def hessian_product(self, parameters: Sequence[nn.Parameter], vector: Sequence[Tensor]) -> list[Tensor]:
        """H v, for the Hessian H of the loss with respect to some of the parameters, by differentiating twice.

        Source: Pearlmutter, 1994, Neural Computation 6(1).
        """
        total = [torch.zeros_like(parameter) for parameter in parameters]
        for loss in self._losses({}):
            gradients = _gradients(loss, parameters, create_graph=True)
            # a gradient that does not depend on any weight has no graph, and no second derivative
            pairs = [pair for pair in zip(gradients, vector, strict=True) if pair[0].requires_grad]
            if pairs:
                product = torch.stack([(gradient * part).sum() for gradient, part in pairs]).sum()
                torch._foreach_add_(total, _gradients(product, parameters))
        return total

    def _losses(self, weights: Mapping[str, Tensor]) -> Iterator[Tensor]:
        """Yield each batch's share of the loss, some of the weights being replaced."""
        for images, labels in self._batches:
            buffers = {name: buffer.clone() for name, buffer in self._model.named_buffers()}  # written to in training
            with torch.enable_grad() if not weights else torch.no_grad(), self._modes():
                logits = functional_call(self._model, {**buffers, **weights}, (images,))
                loss = self._loss(logits, labels) * (len(labels) / self._num_examples)
            yield loss

    @contextmanager
    def _modes(self) -> Iterator[None]:
        before = {module: module.training for module in self._model.modules()}
        try:
            for module in before:
                module.training = self._batchnorm == "training" and isinstance(module, _BatchNorm)
            yield
        finally:
            for module, was_training in before.items():
                module.training = was_training


def _gradients(loss: Tensor, parameters: Sequence[nn.Parameter], *, create_graph: bool = False) -> list[Tensor]:
    found = torch.autograd.grad(loss, parameters, create_graph=create_graph, allow_unused=True, materialize_grads=True)
    return list(found)
