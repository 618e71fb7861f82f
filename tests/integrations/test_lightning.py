"""ObserveCallback in Lightning's own loop."""

import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hand_written import (
    RULES,
    Classifier,
    assert_same_decisions,
    batches,
    loader,
    make_optimizer,
    rates,
    train,
    updates,
)
from lrlab.probes import GradientProbe
from lrlab.schedulers import PlateauLR, SignalScheduler, SlopeLR

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pl = pytest.importorskip("lightning.pytorch", reason="Lightning is not installed: pip install lrlab[lightning]")
    from lightning.pytorch.plugins.precision import MixedPrecision

    from lrlab.integrations.lightning import ObserveCallback

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")


class Module(pl.LightningModule):
    """The small training; `seen` are the rates after each update."""

    def __init__(self, rule: str = "slope", *, automatic: bool = True, **config: Any) -> None:
        super().__init__()
        self.automatic_optimization = automatic
        self.model = Classifier()
        self.make_rule = RULES[rule]
        self.config = {"interval": "step"} | config
        self.seen: list[list[float]] = []

    def configure_optimizers(self) -> Any:
        self.rule = self.make_rule(make_optimizer(self.model))
        return {"optimizer": self.rule.optimizer, "lr_scheduler": {"scheduler": self.rule, **self.config}}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        inputs, labels = batch
        return F.cross_entropy(self.model(inputs), labels)

    def lr_scheduler_step(self, scheduler: SignalScheduler, metric: Any) -> None:
        super().lr_scheduler_step(scheduler, metric)
        self.seen.append(rates(scheduler.optimizer))


def fit(module: Module, directory: Path, *, num_epochs: int = 5, resume: Path | None = None, **settings: Any) -> Any:
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=num_epochs,
        default_root_dir=directory,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **{"callbacks": [ObserveCallback()], "enable_checkpointing": False} | settings,
    )
    trainer.fit(module, loader(), ckpt_path=resume, weights_only=True)
    return trainer


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("accumulate", [1, 2, 3])  # of 10 batches: with 3 the last update of an epoch has only one
def test_it_goes_as_by_hand(tmp_path: Path, rule: str, accumulate: int) -> None:
    module = Module(rule)
    fit(module, tmp_path, num_epochs=5 * accumulate, accumulate_grad_batches=accumulate)
    by_hand = RULES[rule](make_optimizer(model := Classifier()))
    planned = updates(accumulate=accumulate, num_epochs=5 * accumulate)
    assert module.seen == train(by_hand, model, planned, divisor=accumulate)
    assert_same_decisions(module.rule.take_decisions(), by_hand.take_decisions())


def test_resumed_it_goes_as_if_never_stopped(tmp_path: Path) -> None:
    whole = Module("layerwise")
    fit(whole, tmp_path, accumulate_grad_batches=2)
    first = Module("layerwise")
    trainer = fit(first, tmp_path, num_epochs=3, accumulate_grad_batches=2, enable_checkpointing=True)
    trainer.save_checkpoint(tmp_path / "stopped.ckpt")
    second = Module("layerwise")
    fit(second, tmp_path, accumulate_grad_batches=2, resume=tmp_path / "stopped.ckpt")
    assert first.seen + second.seen == whole.seen
    assert second.rule.take_decisions() == whole.rule.take_decisions()
    assert len(second.seen) == 10


class Overflow(pl.Callback):
    """Puts an infinity into the gradient of some updates, before GradScaler looks for one."""

    def __init__(self, *skipped: int) -> None:
        self.skipped, self.num_updates = skipped, 0

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        if self.num_updates in self.skipped:
            pl_module.model.head.bias.grad[0] = float("inf")
        self.num_updates += 1


def test_in_mixed_precision_the_loss_is_unscaled_and_skipped_updates_count_for_nothing(tmp_path: Path) -> None:
    skipped = (4, 5, 21)
    module = Module("slope")
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    precision = MixedPrecision("16-mixed", "cpu", scaler=scaler)
    probe = GradientProbe({"head": list(module.model.head.parameters())}, every=1)
    fit(module, tmp_path, plugins=[precision], callbacks=[ObserveCallback(probes=[probe]), Overflow(*skipped)])
    rows = probe.take_rows()
    assert list(rows) == list(range(1, 48))
    assert all(math.isfinite(row["grad_l2/head"]) for row in rows.values())
    made = [row for step, row in enumerate(module.seen) if step not in skipped]
    plain = RULES["slope"](make_optimizer(model := Classifier()))
    planned = [update for step, update in enumerate(updates(accumulate=1)) if step not in skipped]
    train(plain, model, planned)
    losses, expected = ([look.get("mean_loss", 0.0) for look in rule.take_decisions()] for rule in (module.rule, plain))
    assert losses == pytest.approx(expected, rel=0.05)  # float16 within, and its weights go their own way
    assert len(made) == 47 and module.rule.last_epoch == 47
    assert all(module.seen[step] == module.seen[step - 1] for step in skipped)


def test_without_the_callback_the_scheduler_says_that_it_was_not_told(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="SlopeLR was not given the loss of this update: call scheduler.observe"):
        fit(Module(), tmp_path, callbacks=[])


@pytest.mark.parametrize("config", [{"interval": "epoch"}, {"frequency": 2}])
def test_a_scheduler_that_would_not_step_after_every_update_is_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    module = Module(**config)
    with pytest.raises(ValueError, match=r'SlopeLR: it counts updates, and Lightning would step it with interval "'):
        fit(module, tmp_path)
    assert module.seen == []


def test_the_default_of_lightning_is_epochs_and_refused(tmp_path: Path) -> None:
    class Bare(Module):
        def configure_optimizers(self) -> Any:
            optimizer = make_optimizer(self.model)
            return [optimizer], [SlopeLR(optimizer)]

    with pytest.raises(ValueError, match='with interval "epoch" and frequency 1. Return {"optimizer": optimizer'):
        fit(Bare(), tmp_path)


def test_manual_optimization_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="in manual optimization only the module knows"):
        fit(Module(automatic=False), tmp_path)


def test_a_batch_that_is_left_out_counts_for_nobody(tmp_path: Path) -> None:
    class Skipping(Module):
        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor | None:  # type: ignore[override]
            return None if batch_idx == 3 else super().training_step(batch, batch_idx)

    module = Skipping()
    probe = GradientProbe({"all": list(module.model.parameters())})
    fit(module, tmp_path, num_epochs=2, callbacks=[ObserveCallback(probes=[probe])])
    assert module.rule.last_epoch == probe.num_updates == 18  # of 20 batches


def test_probes_of_several_optimizers_are_refused(tmp_path: Path) -> None:
    class Two(Module):
        def configure_optimizers(self) -> Any:
            return [torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.model.stem, self.model.head)]

    module = Two(automatic=False)
    probe = GradientProbe({"all": list(module.model.parameters())})
    with pytest.raises(ValueError, match="with several optimizers only the module knows which probe belongs to which"):
        fit(module, tmp_path, callbacks=[ObserveCallback(probes=[probe])])


def test_nobody_to_tell_is_refused(tmp_path: Path) -> None:
    class Silent(Module):
        def configure_optimizers(self) -> Any:
            return make_optimizer(self.model)

    with pytest.raises(ValueError, match="there is no rule and no probe"):
        fit(Silent(), tmp_path)


class Closures(Module):
    """Trained by an optimizer that calls its closure several times an update."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[tuple[int, float]] = []

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=4)
        self.rule = PlateauLR(optimizer, check_every=1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.rule, **self.config}}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.losses.append((batch_idx, loss.item()))
        return loss


def test_of_an_optimizer_that_calls_its_closure_several_times_the_first_loss_counts(tmp_path: Path) -> None:
    module = Closures()
    probe = GradientProbe({"head": list(module.model.head.parameters())}, every=1)
    fit(module, tmp_path, num_epochs=1, callbacks=[ObserveCallback(probes=[probe])])
    first = [next(loss for batch, loss in module.losses if batch == number) for number in range(10)]
    assert len(module.losses) > 20
    assert [look["mean_loss"] for look in module.rule.take_decisions()] == pytest.approx(first)
    assert list(probe.take_rows()) == list(range(1, 11))


def test_resumed_probes_count_on(tmp_path: Path) -> None:
    from lightning.pytorch.callbacks import ModelCheckpoint

    saves = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=7, save_top_k=-1)
    fit(Module(), tmp_path, num_epochs=1, callbacks=[ObserveCallback(), saves], enable_checkpointing=True)
    module = Module()
    probe = GradientProbe({"head": list(module.model.head.parameters())}, every=2)
    callbacks = [ObserveCallback(probes=[probe])]
    fit(module, tmp_path / "resumed", num_epochs=1, resume=tmp_path / "step=7.ckpt", callbacks=callbacks)
    assert list(probe.take_rows()) == [8, 10]


def test_probes_measure_the_whole_gradient_of_each_update(tmp_path: Path) -> None:
    module = Module()
    groups = {name: list(getattr(module.model, name).parameters()) for name in ("stem", "head")}
    probe = GradientProbe(groups, every=1)
    settings = {"accumulate_grad_batches": 2, "gradient_clip_val": 1e-3}
    fit(module, tmp_path, num_epochs=1, callbacks=[ObserveCallback(probes=[probe])], **settings)
    rows = probe.take_rows()

    model = Classifier()
    for inputs, labels in batches()[:2]:
        (F.cross_entropy(model(inputs), labels) / 2).backward()
    norm = torch.cat([parameter.grad.flatten() for parameter in model.stem.parameters()]).norm()
    assert list(rows) == [1, 2, 3, 4, 5]
    assert rows[1]["grad_l2/stem"] == pytest.approx(float(norm))
