"""Lightning with a rule that listens: two lines, the callback and the scheduler. Needs lrlab[lightning].

python examples/02_lightning.py
"""

import logging
import tempfile
import warnings

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lrlab.schedulers import SlopeLR

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Lightning's own
    import lightning.pytorch as pl

    from lrlab.integrations.lightning import ObserveCallback


class Digits(pl.LightningModule):
    """A small network for the digits."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the loss of a batch."""
        images, labels = batch
        return F.cross_entropy(self.model(images), labels)

    def configure_optimizers(self) -> dict[str, object]:
        """Return the optimizer with a scheduler that is stepped after every update."""
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-2)
        self.rule = SlopeLR(optimizer, window=100, min_progress=0.8)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.rule, "interval": "step"}}


def main() -> None:
    """Train for some epochs, and say when the rule decayed."""
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    images, labels = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
    loader = DataLoader(TensorDataset(images.float() / 16, labels), batch_size=32, shuffle=True)
    pl.seed_everything(0, verbose=False)
    module = Digits()
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            callbacks=[ObserveCallback()],  # tells the rule the loss of every batch
            max_epochs=15,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        trainer.fit(module, loader)
    decays = [look["step"] for look in module.rule.take_decisions() if look["decision"] == "decay"]
    print(f"{trainer.global_step} updates; the rate decayed after {', '.join(map(str, decays))}")


if __name__ == "__main__":
    main()
