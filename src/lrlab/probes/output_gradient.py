"""How large the gradient is that flows back through each layer group's output, as the article logged it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from lrlab.probes.base import Probe


class OutputGradientProbe(Probe):
    """L2 norm and root mean square of the loss's gradient with respect to each group's output.

    Columns, for the gradient d of a mean loss over B examples, of shape (B, ...):
        grad_out_l2/<group>:   sqrt(sum d_i^2) over the whole batch
        grad_out_rms/<group>:  the same divided by sqrt(number of elements of d)

    The gradient is caught by a hook on the output tensor, set only in updates that are measured; the hook reads
    and returns nothing, so training is the same with it and without. Where several backward passes come before one
    `observe()`, the last one counts. The gradient is that of what `backward()` was called on: where that was multiplied
    by GradScaler's scale, which changes, or divided by the number of batches in an update, so is this.

    Args:
        modules: name -> module whose single output tensor is watched, as from `dict(model.named_children())`.
        every: measure at each `every`-th update.
        total: adds a tensor up over the processes that share each batch, where there are several. The loss that each
            differentiates must then be the mean over its part divided by their number.
    Raises: RuntimeError at `observe()` if nothing flowed back through one of the modules; TypeError in the forward
        pass if the output of one is not a single tensor.
    """

    watches_forward = True

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        *,
        every: int = 1,
        total: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        names = list(modules)
        super().__init__(
            [f"grad_out_l2/{name}" for name in names] + [f"grad_out_rms/{name}" for name in names],
            every=every,
        )
        self._total = total
        self._caught: dict[str, Tensor] = {}  # norm and number of elements
        self._names = names
        self._handles = [module.register_forward_hook(partial(self._watch, name)) for name, module in modules.items()]

    def detach(self) -> None:
        """Take the hooks off the modules."""
        for handle in self._handles:
            handle.remove()

    def _watch(self, name: str, module: nn.Module, args: object, output: Tensor) -> None:
        if not isinstance(output, Tensor):
            raise TypeError(
                f"OutputGradientProbe: the output of {name} must be one tensor, got {type(output).__name__}. "
                "Watch another module."
            )
        if self.due and output.requires_grad:  # nothing requires a gradient during an evaluation
            output.register_hook(partial(self._catch, name))

    def _catch(self, name: str, gradient: Tensor) -> None:
        dtype = torch.promote_types(gradient.dtype, torch.float32)
        norm = torch.linalg.vector_norm(
            gradient.to(dtype)
        )  # on a processor, the norm's own cast takes ten times as long
        self._caught[name] = torch.stack([norm, torch.full_like(norm, gradient.numel())])

    def _measure(self) -> Tensor:
        missing = [name for name in self._names if name not in self._caught]
        if missing:
            raise RuntimeError(
                f"OutputGradientProbe: nothing flowed back through {', '.join(missing)}. Call probe.observe() after "
                "loss.backward(), once for each update, with the probe made before the forward pass."
            )
        caught, self._caught = self._caught, {}
        norms, numbers = torch.stack([caught[name] for name in self._names], dim=1)  # (G,) each
        if self._total is not None:
            squares, numbers = self._total(torch.stack([norms.square(), numbers]))
            norms = squares.sqrt()
        return torch.cat([norms, norms / numbers.sqrt()])
