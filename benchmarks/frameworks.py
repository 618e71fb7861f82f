"""The same task in the frameworks' trainers: at their defaults, and with everything that makes them quick."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from loops import LR, WEIGHT_DECAY, MemoryLoader, Pictures, Setting, stock_loader


def lightning(setting: Setting, *, best: bool) -> None:
    """Lightning's Trainer: at its defaults, or with everything that makes it quick on one device."""
    import lightning as L

    class Classifier(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = setting.model()
            if best:
                self.model.to(memory_format=torch.channels_last)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            images, labels = batch
            loss = F.cross_entropy(self.model(images), labels)
            if not best:
                self.log("train_loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            options = {"fused": True} if best else {}
            return torch.optim.Adam(self.parameters(), lr=LR, weight_decay=WEIGHT_DECAY, **options)

    class Counting(L.Callback):
        def on_train_batch_end(self, *args: Any) -> None:
            setting.meter.update()

    options: dict[str, Any] = {"accelerator": "gpu" if setting.device == "cuda" else "cpu", "devices": 1}
    if best:
        off = ("logger", "enable_progress_bar", "enable_checkpointing", "enable_model_summary")
        precision = "bf16-mixed" if setting.quickest == "bf16" else "32-true"
        options |= {"precision": precision, **dict.fromkeys(off, False)}
    trainer = L.Trainer(max_epochs=-1, default_root_dir=setting.directory, callbacks=[Counting()], **options)
    trainer.fit(Classifier(), MemoryLoader(setting) if best else stock_loader(setting))


def transformers(setting: Setting, *, best: bool) -> None:
    """Hugging Face's Trainer, likewise; its default optimizer is fused AdamW, which costs what fused Adam does."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Named(Dataset[dict[str, Any]]):
        def __init__(self) -> None:
            self._pictures = Pictures(setting.data.train)

        def __len__(self) -> int:
            return len(self._pictures)

        def __getitem__(self, index: int) -> dict[str, Any]:
            return dict(zip(("images", "labels"), self._pictures[index], strict=True))

    class WithLoss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = setting.model()
            if best:
                self.model.to(memory_format=torch.channels_last)

        def forward(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
            logits = self.model(images)
            return {"loss": F.cross_entropy(logits, labels), "logits": logits}

    class Counting(TrainerCallback):
        def on_step_end(self, *args: Any, **state: Any) -> None:
            setting.meter.update()

    class InMemory(Trainer):
        def get_train_dataloader(self) -> Any:
            batches = MemoryLoader(setting)
            return NamedBatches(batches)

    options: dict[str, Any] = {}
    if best:
        options = {
            "bf16": setting.quickest == "bf16",
            "optim": "adamw_torch_fused",
            "max_grad_norm": 0.0,
            "disable_tqdm": True,
            "report_to": "none",
            "logging_strategy": "no",
            "logging_nan_inf_filter": False,
            "save_strategy": "no",
        }
    arguments = TrainingArguments(
        output_dir=str(setting.directory),
        per_device_train_batch_size=setting.batch_size,
        num_train_epochs=1000,
        learning_rate=LR,
        weight_decay=WEIGHT_DECAY,
        dataloader_num_workers=setting.num_workers,
        use_cpu=setting.device == "cpu",
        **options,
    )
    kind = InMemory if best else Trainer
    kind(model=WithLoss(), args=arguments, train_dataset=Named(), callbacks=[Counting()]).train()


class NamedBatches:
    """Batches under the names by which Hugging Face's Trainer hands them to the model."""

    def __init__(self, batches: MemoryLoader) -> None:
        self._batches = batches
        self.dataset = batches.dataset

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for images, labels in self._batches:
            yield {"images": images, "labels": labels}
