"""A loop of one's own with a rule that listens, and the gradients of every layer on record. Takes seconds.

python examples/01_own_loop.py
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from lrlab.models import layer_groups
from lrlab.probes import GradientProbe
from lrlab.schedulers import PhasesLR, SlopeLR

NUM_UPDATES = 1500


def main() -> None:
    """Train a small network, and say what the rule did."""
    images, labels = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
    images = images.float() / 16  # (1797, 64)
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

    rule = SlopeLR(optimizer, window=200, min_progress=0.05)
    scheduler = PhasesLR(rule, warmup_steps=50, cooldown_steps=300, total_steps=NUM_UPDATES)
    probe = GradientProbe(layer_groups(model), every=500)

    for _ in range(NUM_UPDATES):
        batch = torch.randint(len(images), (32,), generator=generator)
        loss = F.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        scheduler.observe(loss)  # a tensor: nothing is synchronised
        probe.observe()
        optimizer.step()
        scheduler.step()

    for decision in scheduler.take_decisions():
        print(f"update {decision['step']:>5}: {decision['decision']}, p = {decision.get('p', float('nan')):.3f}")
    for step, row in probe.take_rows().items():
        print(f"update {step:>5}: " + ", ".join(f"{name} {value:.2e}" for name, value in row.items() if "l2" in name))


if __name__ == "__main__":
    main()
