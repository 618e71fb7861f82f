"""What rules have in common that decide by something they measure now and then, in place of the loss."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor
from torch.optim import Optimizer

from lrlab.schedulers.rule import RuleLR


class SampledRuleLR(RuleLR):
    """A rule whose samples wait on the device until it looks at them.

    Args:
        optimizer: any.
        check_every: updates between two looks.
        sample_every: updates between two samples.
        factor: the rates are multiplied by it at a decay.
        min_lr: floor of the rates.
    """

    _STATE: ClassVar[tuple[str, ...]] = (*RuleLR._STATE, "_samples", "_num_samples")

    def __init__(
        self, optimizer: Optimizer, *, check_every: int, sample_every: int, factor: float, min_lr: float
    ) -> None:
        self.sample_every = sample_every
        self._samples: Tensor | None = None  # (samples of a look,), on the device
        self._num_samples = 0
        super().__init__(optimizer, check_every=check_every, factor=factor, min_lr=min_lr)

    @property
    def needs_observe(self) -> bool:
        """It reads the optimizer, so `observe` may be left out."""
        return False

    @property
    def _num_places(self) -> int:
        """Samples of a look, at most."""
        return -(-self.check_every // self.sample_every)

    def _fits(self) -> bool:
        has_all = self._num_samples == self._num_multiples(self.sample_every)
        return super()._fits() and has_all and (self._samples is None or len(self._samples) == self._num_places)

    def _begin_anew(self) -> None:
        super()._begin_anew()
        self._samples, self._num_samples = None, 0

    def _advance(self, loss: Tensor | float) -> None:
        if self.last_epoch % self.sample_every == 0:
            sample = self._sample()
            if self._samples is None:
                self._samples = sample.new_zeros(self._num_places)
            elif self._samples.device != sample.device:  # loaded from elsewhere
                self._samples = self._samples.to(sample.device)
            self._samples[self._num_samples] = sample
            self._num_samples += 1
        super()._advance(loss)

    @abstractmethod
    def _sample(self) -> Tensor:
        """Measure after an update, without waiting for the device: (), nan where there is nothing to measure."""

    def _take_samples(self) -> Tensor:
        """Those since the last look, oldest first, on the processor."""
        assert self._samples is not None, "check_every holds a sample"
        samples = self._samples[: self._num_samples].cpu()  # the only sync
        self._num_samples = 0
        return samples
