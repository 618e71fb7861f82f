"""How a step is computed: where, in which arithmetic and which memory layout. The one place that decides it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


_DEFAULT_THREADS = torch.get_num_threads()
"""What PyTorch chose when the process began, or OMP_NUM_THREADS said."""


class EngineError(ValueError):
    """The machine cannot compute what was asked for, or not in this way."""

    exit_code: ClassVar[int] = 2


@dataclass(frozen=True)
class Engine:
    """A device, an arithmetic, and how to run a network with them."""

    device: torch.device
    """Where the data lives and the steps are computed."""
    precision: Literal["fp32", "bf16"]
    """Arithmetic of the forward pass; weights, their gradients and the loss are float32 either way."""

    @property
    def device_name(self) -> str:
        """cpu, or the GPU's name."""
        return "cpu" if self.device.type == "cpu" else f"cuda ({torch.cuda.get_device_name(self.device)})"

    def place(self, model: ModuleT) -> ModuleT:
        """Move a model to the device, its convolutions' weights in channels-last order (faster on every device)."""
        return model.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def logits(self, model: nn.Module, images: Tensor) -> Tensor:
        """(B, C, H, W) images -> (B, num_classes) float32 logits."""
        with self._autocast():
            outputs: Tensor = model(images.contiguous(memory_format=torch.channels_last))
        return outputs.float()

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")


def choose_engine(
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["auto", "fp32", "bf16"] = "fp32",
    threads: int | None = None,
) -> Engine:
    """Choose where and how to compute on this machine.

    Args:
        device: auto takes a GPU where PyTorch sees one.
        precision: auto takes bf16 where the processor has instructions for it.
        threads: threads for one operation, set for the whole process; what the process began with if None.
    Raises: EngineError if the device is not there.
    """
    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise EngineError("device cuda: PyTorch sees no CUDA device here. Use --device cpu, or auto.")
    chosen = "cuda" if has_cuda and device != "cpu" else "cpu"
    torch.set_num_threads(threads or _DEFAULT_THREADS)  # an earlier run in this process may have set another
    if precision == "auto":
        precision = "bf16" if _has_bf16(chosen) else "fp32"
    torch.backends.cudnn.allow_tf32 = precision != "fp32"  # TF32 keeps 10 bits of the mantissa, float32 has 23
    return Engine(torch.device(chosen), precision)


def _has_bf16(device: str) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
