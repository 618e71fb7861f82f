"""What is kept of a model."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from safetensors.torch import save
from torch import nn


def save_checkpoint(run: Path, model: nn.Module, *, step: int) -> Path:
    """Save the weights after `step` updates as checkpoints/step-<n>/, with a manifest of sizes and SHA-256.

    The folder is filled under another name and renamed when it is whole.
    """
    weights = save({name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()})
    manifest = {
        "format_version": 1,
        "step": step,
        "files": {"model.safetensors": {"size": len(weights), "sha256": hashlib.sha256(weights).hexdigest()}},
    }
    target = run / "checkpoints" / f"step-{step:06d}"
    aside = target.with_name(target.name + ".tmp")
    aside.mkdir(parents=True)
    (aside / "model.safetensors").write_bytes(weights)
    (aside / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    return aside.rename(target)
