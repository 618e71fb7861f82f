"""listen() in the loop of Hugging Face's Trainer."""

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from hand_written import (
    BATCH_SIZE,
    RULES,
    Classifier,
    assert_same_decisions,
    batches,
    examples,
    make_optimizer,
    rates,
    train,
    updates,
)
from lrlab.probes import GradientProbe
from lrlab.schedulers import SignalScheduler

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("transformers", reason="transformers is not installed: pip install lrlab[transformers]")
    from accelerate.state import AcceleratorState, GradientState
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from lrlab.integrations.transformers import ObserveCallback, listen

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def forget_what_accelerate_keeps_for_all_trainers() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


class Model(nn.Module):
    """The classifier as the Trainer wants it: keywords in, a dictionary with the loss out."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = Classifier()

    def forward(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss": F.cross_entropy(self.classifier(inputs), labels)}


class CountingModel(Model):
    """One that divides by the number of items in all batches of the update, as language models do."""

    def forward(self, inputs: Tensor, labels: Tensor, num_items_in_batch: Tensor, **kwargs: Any) -> dict[str, Tensor]:
        logits = self.classifier(inputs)
        return {"loss": F.cross_entropy(logits, labels, reduction="sum") / num_items_in_batch}


class Seen(TrainerCallback):
    """The rates after each update."""

    def __init__(self) -> None:
        self.rates: list[list[float]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.rates.append(rates(kwargs["lr_scheduler"].optimizer))


def make_trainer(
    directory: Path, *, rule: str = "slope", model: Model | None = None, num_epochs: int = 5, **settings: Any
) -> tuple[Trainer, SignalScheduler, Seen]:
    model, seen = model or Model(), Seen()
    scheduler = RULES[rule](make_optimizer(model.classifier))
    arguments = TrainingArguments(
        str(directory),
        per_device_train_batch_size=BATCH_SIZE,
        num_train_epochs=num_epochs,
        train_sampling_strategy="sequential",
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        **{"save_strategy": "no", "max_grad_norm": 0.0} | settings,
    )
    dataset = [{"inputs": image, "labels": label} for image, label in zip(*examples(), strict=True)]
    optimizers: tuple[Optimizer, Any] = (scheduler.optimizer, scheduler)
    trainer = Trainer(model, arguments, train_dataset=dataset, optimizers=optimizers, callbacks=[seen])
    return trainer, scheduler, seen


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("accumulate", [1, 2, 3])  # of 10 batches: with 3 the last update of an epoch has only one
@pytest.mark.parametrize("model", [Model, CountingModel])
def test_it_goes_as_by_hand(tmp_path: Path, rule: str, accumulate: int, model: type[Model]) -> None:
    settings = {"num_epochs": 5 * accumulate, "gradient_accumulation_steps": accumulate}
    trainer, scheduler, seen = make_trainer(tmp_path, rule=rule, model=model(), **settings)
    listen(trainer)
    trainer.train()
    by_hand = RULES[rule](make_optimizer(classifier := Classifier()))
    expected = train(by_hand, classifier, updates(accumulate=accumulate, num_epochs=5 * accumulate))
    assert seen.rates == [pytest.approx(row, rel=1e-5) for row in expected]  # float32 divided in another order
    assert_same_decisions(scheduler.take_decisions(), by_hand.take_decisions())


@pytest.mark.parametrize("stop", [10, 7])  # at the end of an epoch, and within one
def test_resumed_it_goes_as_if_never_stopped(tmp_path: Path, stop: int) -> None:
    settings = {"rule": "layerwise", "gradient_accumulation_steps": 2, "save_strategy": "steps", "save_steps": stop}
    whole, rule, all_rates = make_trainer(tmp_path, **settings)
    listen(whole)
    whole.train()
    resumed, second, seen = make_trainer(tmp_path / "resumed", **settings)
    probe = GradientProbe({"head": list(resumed.model.classifier.head.parameters())}, every=1)
    listen(resumed, probes=[probe])
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{stop}"))
    assert list(probe.take_rows()) == list(range(stop + 1, 26))
    assert seen.rates == all_rates.rates[stop:]
    assert second.take_decisions() == rule.take_decisions()
    assert len(all_rates.rates) == 25


def test_listening_twice_is_listening_once(tmp_path: Path) -> None:
    trainer, scheduler, _ = make_trainer(tmp_path)
    assert listen(trainer) is listen(trainer)
    trainer.train()
    once, other, _ = make_trainer(tmp_path)
    listen(once)
    once.train()
    assert scheduler.take_decisions() == other.take_decisions()


def test_training_goes_on_in_a_second_call(tmp_path: Path) -> None:
    trainer, scheduler, _ = make_trainer(tmp_path, num_epochs=2)
    listen(trainer)
    trainer.train()
    trainer.train()
    assert scheduler.last_epoch == 40


def test_the_loss_of_an_update_that_grad_scaler_left_out_is_forgotten(tmp_path: Path) -> None:
    class Overflow(TrainerCallback):
        """Spoils the gradient and the loss of some updates."""

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step in (4, 5, 21):
                kwargs["model"].classifier.head.bias.grad[0] = float("inf")

    trainer, scheduler, seen = make_trainer(tmp_path)
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)  # as with fp16, which needs a GPU
    probe = GradientProbe({"head": list(trainer.model.classifier.head.parameters())}, every=1)
    listen(trainer, probes=[probe])
    trainer.add_callback(Overflow())
    trainer.train()
    assert list(probe.take_rows()) == list(range(1, scheduler.last_epoch + 1))
    by_hand = RULES["slope"](make_optimizer(classifier := Classifier()))
    planned = [update for step, update in enumerate(updates(accumulate=1)) if step not in (4, 5, 21)]
    expected = train(by_hand, classifier, planned)
    assert [row for step, row in enumerate(seen.rates) if step not in (4, 5, 21)] == expected
    assert_same_decisions(scheduler.take_decisions(), by_hand.take_decisions())


def test_without_listening_the_scheduler_says_that_it_was_not_told(tmp_path: Path) -> None:
    trainer, _, _ = make_trainer(tmp_path)
    with pytest.raises(RuntimeError, match="SlopeLR was not given the loss of this update: call scheduler.observe"):
        trainer.train()


def test_a_trainer_with_a_scheduler_of_its_own_is_refused(tmp_path: Path) -> None:
    trainer, scheduler, _ = make_trainer(tmp_path)
    trainer.lr_scheduler = None
    listen(trainer)
    with pytest.raises(
        ValueError, match="listen: the trainer's scheduler must be a rule, as SlopeLR, got LambdaLR. Use"
    ):
        trainer.train()
    assert scheduler.last_epoch == 0


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda trainer: pickle.loads(pickle.dumps(trainer))])
def test_a_copy_of_a_trainer_listens_to_itself(tmp_path: Path, copied: Any) -> None:
    trainer, scheduler, _ = make_trainer(tmp_path, num_epochs=1)
    listen(trainer)
    other = copied(trainer)
    other.train()
    assert (other.lr_scheduler.last_epoch, scheduler.last_epoch) == (10, 0)
    assert any(isinstance(callback, ObserveCallback) for callback in other.callback_handler.callbacks)


def test_probes_measure_the_clipped_gradient_of_each_update(tmp_path: Path) -> None:
    trainer, _, _ = make_trainer(tmp_path, num_epochs=1, gradient_accumulation_steps=2, max_grad_norm=1e-3)
    model = trainer.model.classifier
    probe = GradientProbe({name: list(getattr(model, name).parameters()) for name in ("stem", "head")})
    listen(trainer, probes=[probe])
    trainer.train()
    rows = probe.take_rows()

    model = Classifier()
    for inputs, labels in batches()[:2]:
        (F.cross_entropy(model(inputs), labels) / 2).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    norm = torch.cat([parameter.grad.flatten() for parameter in model.stem.parameters()]).norm()
    assert list(rows) == [1, 2, 3, 4, 5]
    assert rows[1]["grad_l2/stem"] == pytest.approx(float(norm))
