"""Warm-up, then a rule, then a cooldown that ends with the run."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from lrlab.schedulers.base import SignalScheduler
from lrlab.schedules import COOLDOWNS, CooldownShape


class PhasesLR(SignalScheduler):
    """A warm-up, then a rule that listens, then a cooldown whose length is reserved, so that the run ends on time.

        update index                          rate of each group
        0 ... warmup_steps - 1                initial * ((index + 1) / warmup_steps)
        warmup_steps ... cooldown's start     what the rule makes of the initial rate; it hears nothing before
        the last cooldown_steps               rate at the cooldown's start, falling to `end` times it

    The index counts the updates already made, as everywhere in PyTorch. Past `total_steps` the last rate stays; nothing
    raises. For a body that is a function of the step there is `lrlab.schedules.phases`.

    Args:
        rule: on the same optimizer; its rates at this moment are the initial ones, whatever they were set to and, of
            a `LayerwiseLR`, multiplied: the warm-up comes to the very rates that the rule goes on from.
        warmup_steps: updates, >= 0. The first rate is set here, since the first update comes before the first step.
        cooldown_steps: updates, >= 0.
        total_steps: updates of the whole run, never epochs; it may be None where there is no cooldown.
        shape: "1-sqrt", "linear" or "cosine", as in `lrlab.schedules`.
        end: share of the rate that is left at the last update, in [0, 1].
    Raises: ValueError for values outside these ranges, or phases that do not fit into the run.
    Source: the cooldown after Haegele et al., 2024, arXiv:2405.18392.
    """

    _STATE: ClassVar[tuple[str, ...]] = (*SignalScheduler._STATE, "_warmup_to", "_cooldown_from", "_rule_state")

    def __init__(
        self,
        rule: SignalScheduler,
        *,
        warmup_steps: int = 0,
        cooldown_steps: int = 0,
        total_steps: int | None = None,
        shape: CooldownShape = "1-sqrt",
        end: float = 0.0,
    ) -> None:
        if not isinstance(rule, SignalScheduler):
            raise ValueError(
                f"PhasesLR: rule must be a scheduler that listens, as SlopeLR(optimizer), got {type(rule).__name__}. "
                "For a function of the step: LambdaLR(optimizer, lrlab.schedules.phases(...))."
            )
        if min(warmup_steps, cooldown_steps) < 0 or not 0 <= end <= 1 or shape not in COOLDOWNS:
            raise ValueError(
                f"PhasesLR: warmup_steps and cooldown_steps must be >= 0, end in [0, 1] and shape one of "
                f"{', '.join(COOLDOWNS)}, got {warmup_steps}, {cooldown_steps}, {end} and {shape!r}."
            )
        if cooldown_steps and (total_steps is None or warmup_steps + cooldown_steps > total_steps):
            raise ValueError(
                "PhasesLR: total_steps must be given and hold warm-up and cooldown, "
                f"got {warmup_steps} + {cooldown_steps} of {total_steps}. It counts updates."
            )
        self.rule = rule
        self.warmup_steps = warmup_steps
        self.cooldown_steps = cooldown_steps
        # not public as total_steps: Accelerate takes a scheduler that has it for OneCycleLR
        self._cooldown_start = None if not cooldown_steps or total_steps is None else total_steps - cooldown_steps
        self.shape: CooldownShape = shape
        self.end = end
        self._cooldown_from: list[float] = []
        self._warmup_to = [float(rate) for rate in rule.get_lr()]  # those of LayerwiseLR are multiplied
        super().__init__(rule.optimizer)

    @property
    def needs_observe(self) -> bool:
        """Whether the rule does."""
        return self.rule.needs_observe

    @property
    def _rule_state(self) -> dict[str, Any]:
        return self.rule.state_dict()

    @_rule_state.setter
    def _rule_state(self, state: dict[str, Any]) -> None:
        self.rule.load_state_dict(state)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned, after the optimizer's.

        Where this run is the longer one, the coming update is made at the rate of its own warm-up or cooldown, and a
        cooldown that had begun too early is taken back: the rate is again what the rule made of it, and falls from
        there in time. The rule heard nothing of the cooldown, and begins anew what it looks at in a row.
        """
        rates = self._rates()
        # an earlier version kept no rates of the warm-up, to which it came from those that this one was made with
        super().load_state_dict({"_warmup_to": self._warmup_to, **state_dict})
        if not self._is_the_rules(self.last_epoch):
            self._set_rates(rates)  # those of LayerwiseLR it has just set are not for now
        if self._cooldown_from and not self._cools(self.last_epoch):
            self._set_rates([*self._cooldown_from, *self._rates(len(self._cooldown_from))])
            self._cooldown_from = []
            self.rule._begin_anew()
        elif self.last_epoch < self.warmup_steps:  # of a longer run it is longer, and may begin again
            self.rule._begin_anew()
        if not self._is_the_rules(self.last_epoch):  # what was saved may be the rate of a shorter run's phase
            self._set_rates([float(rate) for rate in self.get_lr()])

    def get_lr(self) -> list[float | Tensor]:
        """Rates of the groups for the coming update."""
        index, groups = self.last_epoch, self.optimizer.param_groups
        if index < self.warmup_steps:
            share = (index + 1) / self.warmup_steps
            self._warmup_to += self._rates(len(self._warmup_to))  # of groups added on the way
            return [rate * share for rate in self._warmup_to]
        if self._cools(index):
            assert self._cooldown_start is not None, "it cools"
            fall = COOLDOWNS[self.shape](self.cooldown_steps + 1, end=self.end)  # its index 0 is the last update before
            left = fall(index - self._cooldown_start + 1)
            self._cooldown_from += self._rates(len(self._cooldown_from))  # of groups added on the way
            return [rate * left for rate in self._cooldown_from]
        return [group["lr"] for group in groups]

    def _advance(self, loss: Tensor | float) -> None:
        if self._is_the_rules(self.last_epoch - 1):  # the index of the update that was just made
            self.rule._go_on(loss)
            # the rule counts from its first update
            self._keep([{**decision, "step": self.last_epoch} for decision in self.rule.take_decisions()])
        if not self._is_the_rules(self.last_epoch):
            self._set_rates([float(rate) for rate in self.get_lr()])

    @property
    def _reads_gradients(self) -> bool:
        return self.rule._reads_gradients

    def _read_gradients(self) -> None:
        if self._is_the_rules(self.last_epoch):
            self.rule._read_gradients()

    def _is_the_rules(self, index: int) -> bool:
        return index >= self.warmup_steps and not self._cools(index)

    def _cools(self, index: int) -> bool:
        return self._cooldown_start is not None and index >= self._cooldown_start
