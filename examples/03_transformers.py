"""Hugging Face's Trainer with a rule that listens: two lines, the scheduler and `listen`. Needs lrlab[transformers].

python examples/03_transformers.py
"""

import tempfile
import warnings

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from lrlab.schedulers import SlopeLR

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what transformers imports
    from transformers import Trainer, TrainingArguments

    from lrlab.integrations.transformers import listen


class Digits(nn.Module):
    """A small network for the digits, as the Trainer wants it: keywords in, a dictionary with the loss out."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the loss of a batch."""
        return {"loss": F.cross_entropy(self.model(images), labels)}


def main() -> None:
    """Train for some updates, and say when the rule decayed."""
    warnings.simplefilter("ignore")
    images, labels = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
    examples = [{"images": image, "labels": label} for image, label in zip(images.float() / 16, labels, strict=True)]
    torch.manual_seed(0)
    model = Digits()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    rule = SlopeLR(optimizer, window=100, min_progress=0.8)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=800,
            per_device_train_batch_size=32,
            remove_unused_columns=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_strategy="no",
            use_cpu=True,
        )
        trainer = Trainer(model, arguments, train_dataset=examples, optimizers=(optimizer, rule))
        listen(trainer)  # tells the rule the loss of every update
        trainer.train()
    decays = [look["step"] for look in rule.take_decisions() if look["decision"] == "decay"]
    print(f"{trainer.state.global_step} updates; the rate decayed after {', '.join(map(str, decays))}")


if __name__ == "__main__":
    main()
