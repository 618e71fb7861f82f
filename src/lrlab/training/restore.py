"""Something is tried out and undone: what it changed is as it was before, whatever happened on the way."""

from __future__ import annotations

import random
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

_PLAIN = (dict, defaultdict, OrderedDict)
"""Dictionaries whose contents can be put back; others may have a meaning of their own and are left alone."""


@contextmanager
def restored(*changed: object, loader: object = None) -> Iterator[None]:
    """Leave everything as it was before, also if an error ends it.

    Put back are the attributes of each module in a model, and of any other object (an optimizer, also one that
    accelerator.prepare wrapped; a GradScaler): tensors
    in place and their gradients, in all lists and dicts within; the attributes of what listens to an optimizer's steps,
    so that a rule has counted no update. So weights, buffers, modes and rates are the same
    objects with the same bits. Of a loader, its samplers and its data set the attributes themselves are put back and
    the states of their random generators, but no tensors, which would be the data. Besides, the global random states
    of Python, NumPy and PyTorch, on the processor and on all CUDA devices.

    Not put back is what nobody can reach from here: the state of a loader's worker processes, and what a data set
    changes within its own lists.

    Args:
        changed: models, optimizers, whatever else is changed; each tensor in them is kept a second time.
        loader: whatever batches are drawn from.
    Raises: ValueError if a model has parameters without a shape yet.
    """
    kept = _Kept()
    for thing in changed:
        for part in thing.modules() if isinstance(thing, nn.Module) else [thing, *_wrapped(thing)]:
            kept.keep(vars(part))
            for hook in getattr(part, "_optimizer_step_post_hooks", {}).values():
                if hasattr(hook, "__self__"):  # by which a rule or a probe counts updates
                    kept.keep_attributes(hook.__self__)
    for part in _parts(loader):
        kept.keep_attributes(part)
    states = _global_states()
    try:
        yield
    finally:
        kept.put_back()
        for put_back in states:
            put_back()


def seed_all(seed: int, *, loader: object) -> None:
    """Begin every random state that `restored` puts back from a seed, those of a loader included.

    Args:
        seed: in [0, 2**32).
        loader: whatever batches are drawn from.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    for part in _parts(loader):
        for value in vars(part).values():
            if isinstance(value, torch.Generator):
                value.manual_seed(seed)
            elif isinstance(value, random.Random):
                value.seed(seed)
            elif isinstance(value, np.random.Generator):
                value.bit_generator.state = type(value.bit_generator)(seed).state


class _Kept:
    """What things were like, each once however often it is met."""

    def __init__(self) -> None:
        self._seen: dict[int, object] = {}  # keeps them alive, so that no number is used twice
        self._dicts: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
        self._lists: list[tuple[list[Any], list[Any]]] = []
        self._tensors: list[tuple[Tensor, Tensor]] = []
        self._gradients: list[tuple[Tensor, Tensor | None]] = []
        self._states: list[Callable[[], object]] = []

    def keep(self, value: object) -> None:
        """Keep a value, and what is in it."""
        if id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if isinstance(value, Tensor):
            self._keep_tensor(value)
        elif isinstance(value, dict) and type(value) in _PLAIN:
            self._dicts.append((value, dict(value)))
            for item in value.values():
                self.keep(item)
        elif isinstance(value, list | tuple):
            if type(value) is list:
                self._lists.append((value, list(value)))
            for item in value:
                self.keep(item)
        else:
            self._states += _generator_state(value)

    def keep_attributes(self, part: object) -> None:
        """Keep the attributes of an object, and of what is in them the random generators alone."""
        self._dicts.append((vars(part), dict(vars(part))))
        for value in vars(part).values():
            self._states += _generator_state(value)

    def _keep_tensor(self, tensor: Tensor) -> None:
        if is_lazy(tensor):
            raise ValueError("restored: a parameter has no shape yet. Run the model on one batch first.")
        single = tensor.detach()  # each number of it once: one that is expanded has several at one place
        for dim, stride in enumerate(tensor.stride() if tensor.layout == torch.strided else ()):
            single = single.narrow(dim, 0, 1) if stride == 0 and single.shape[dim] else single
        self._tensors.append((single, single.clone()))
        if tensor.is_leaf:
            self._gradients.append((tensor, tensor.grad))
            if tensor.grad is not None:
                self.keep(tensor.grad)

    @torch.no_grad()
    def put_back(self) -> None:
        """Make everything what it was like."""
        for changed, contents in self._dicts:
            changed.clear()
            changed.update(contents)
        for items, before in self._lists:
            items[:] = before
        for tensor, copy in self._tensors:
            tensor.copy_(copy)
        for tensor, gradient in self._gradients:
            tensor.grad = gradient
        for put_back in self._states:
            put_back()


def _wrapped(thing: object) -> list[Optimizer]:
    """The optimizer in what accelerator.prepare made of one."""
    inner = getattr(thing, "optimizer", None)
    return [inner] if isinstance(inner, Optimizer) else []


def _generator_state(value: object) -> list[Callable[[], object]]:
    """What puts a random generator back to where it is; nothing for any other object."""
    if isinstance(value, torch.Generator):
        return [partial(value.set_state, value.get_state())]
    if isinstance(value, random.Random):
        return [partial(value.setstate, value.getstate())]
    if isinstance(value, np.random.Generator):
        return [partial(setattr, value.bit_generator, "state", value.bit_generator.state)]
    return []


def _global_states() -> list[Callable[[], object]]:
    states: list[Callable[[], object]] = [
        partial(random.setstate, random.getstate()),
        partial(np.random.set_state, np.random.get_state()),
        partial(torch.set_rng_state, torch.get_rng_state()),
    ]
    if torch.cuda.is_initialized():  # asking for a state would begin CUDA
        states.append(partial(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all()))
    return states


def _parts(loader: object) -> list[object]:
    """A loader, its samplers and its data set, as far as they are there and have attributes."""
    parts = [loader, getattr(loader, "dataset", None)]
    for name in ("sampler", "batch_sampler"):
        sampler = getattr(loader, name, None)
        parts += [sampler, getattr(sampler, "sampler", None)]
    return list({id(part): part for part in parts if hasattr(part, "__dict__")}.values())
