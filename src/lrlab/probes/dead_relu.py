"""How many of each layer group's ReLUs let nothing through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn

from lrlab.probes.base import Probe

_FIRST_EXAMPLES: Final = 8
"""Of a batch, in which nearly all units that live show it: only the others are looked for in the rest."""


class DeadReluProbe(Probe):
    """Share of a group's rectified units that are zero for every example of the batch.

    Columns, where a unit is a channel of the output of one `nn.ReLU`, (B, C, ...), with all its places:
        dead_relu/<group>:  number of units that are zero at all places of all examples / number of units

    A unit that is dead for one batch has no gradient from it; one that is dead for all never learns again (Lu et al.,
    2019, arXiv:1903.06733). A small batch makes units look dead that are only rare: compare shares at one batch size.

    Outputs are read by hooks on the `nn.ReLU` modules, which return nothing, in updates that are measured and where
    gradients are recorded; rectifiers that are called as functions are not seen. Where one `nn.ReLU` is called several
    times in a pass through its group, as torchvision's blocks do, each call has units of its own. Of several forward
    passes before one `observe()` a unit must be zero in all. An output that is not a number is not zero. Where
    activations are recomputed in the backward pass (torch.utils.checkpoint), they count once.

    Args:
        modules: name -> module, as from `dict(model.named_children())`; those that hold no `nn.ReLU` have no column.
        every: measure at each `every`-th update.
        dim: of the channels in an output: -1 for a `Linear` over sequences, (B, T, C).
        total: adds a tensor up over the processes that share each batch, where there are several.
    Raises: ValueError if no module holds an `nn.ReLU`; RuntimeError at `observe()` if nothing went through one.
    """

    watches_forward = True

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        *,
        every: int = 1,
        dim: int = 1,
        total: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        relus = {
            name: [one for one in module.modules() if isinstance(one, nn.ReLU)] for name, module in modules.items()
        }
        self._relus = {name: found for name, found in relus.items() if found}
        if not self._relus:
            raise ValueError(
                f"DeadReluProbe: none of {', '.join(modules)} holds an nn.ReLU; there is nothing to count."
            )
        super().__init__([f"dead_relu/{name}" for name in self._relus], every=every)
        self._dim = dim
        self._total = total
        self._is_alive: dict[nn.Module, list[Tensor]] = {}  # of each call of a ReLU, whether its units live, (C,)
        self._num_calls: dict[nn.Module, int] = {}  # of a ReLU in this pass through its group
        self._in_forward: set[nn.Module] = set()  # those that were seen in a forward pass of this update
        all_relus = dict.fromkeys(one for found in self._relus.values() for one in found)
        self._handles = [
            *(modules[name].register_forward_pre_hook(partial(self._begin, name)) for name in self._relus),
            *(one.register_forward_hook(partial(self._watch, one)) for one in all_relus),
        ]

    def detach(self) -> None:
        """Take the hooks off the modules."""
        for handle in self._handles:
            handle.remove()

    def _begin(self, name: str, module: nn.Module, args: object) -> None:
        if self.due:
            self._num_calls.update(dict.fromkeys(self._relus[name], 0))

    @torch.no_grad()
    def _watch(self, relu: nn.Module, module: nn.Module, args: object, output: Tensor) -> None:
        if not self.due or not output.requires_grad:  # nothing requires a gradient during an evaluation
            return
        if torch.compiler.is_compiling() or torch._C._current_graph_task_id() == -1:
            self._in_forward.add(relu)
        elif relu in self._in_forward:  # recomputed during the backward pass
            return
        is_alive = _is_alive(output.movedim(self._dim, 1))
        calls, index = self._is_alive.setdefault(relu, []), self._num_calls.get(relu, 0)
        self._num_calls[relu] = index + 1
        if index < len(calls):
            calls[index] |= is_alive
        else:
            calls.append(is_alive)

    def _measure(self) -> Tensor:
        is_alive, self._is_alive = self._is_alive, {}
        self._in_forward.clear()
        missing = [name for name, relus in self._relus.items() if not all(relu in is_alive for relu in relus)]
        if missing:
            raise RuntimeError(
                f"DeadReluProbe: nothing went through all ReLUs of {', '.join(missing)}. Call probe.observe() once for "
                "each update, with the probe made before the forward pass."
            )
        groups = [torch.cat([units for relu in relus for units in is_alive[relu]]) for relus in self._relus.values()]
        if self._total is not None:
            counts = self._total(torch.cat(groups).int())  # of the processes in which a unit lives
            groups = list((counts > 0).split([len(alive) for alive in groups]))
        return torch.stack([1 - alive.float().mean() for alive in groups])


def _is_alive(output: Tensor) -> Tensor:
    """Whether each unit is other than zero anywhere, (C,); on a processor the first examples mostly tell."""
    dims = [0, *range(2, output.dim())]
    if output.device.type != "cpu" or len(output) <= _FIRST_EXAMPLES:  # elsewhere, to look would mean waiting
        return ~(output.amax(dims) <= 0)
    is_alive = ~(output[:_FIRST_EXAMPLES].amax(dims) <= 0)
    left = torch.nonzero(~is_alive).flatten()
    if len(left):
        is_alive[left] = ~(output[_FIRST_EXAMPLES:].index_select(1, left).amax(dims) <= 0)
    return is_alive
