"""How a step is computed: where, in which arithmetic and which memory layout. The one place that decides it."""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, TypeVar

import torch
from torch import Tensor, nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)
Compile = Literal["auto"] | bool


_DEFAULT_THREADS = torch.get_num_threads()
"""What PyTorch chose when the process began, or OMP_NUM_THREADS said."""


_BACKENDS: Final[Any] = torch.backends  # whose types do not know all that it has

_OPERATIONS: Final[tuple[Any, ...]] = (
    _BACKENDS.cudnn.conv,
    _BACKENDS.cudnn.rnn,  # in no network here, but the old flag is of both
    _BACKENDS.cuda.matmul,
    _BACKENDS.mkldnn.conv,
    _BACKENDS.mkldnn.matmul,
)
"""What PyTorch may compute in less than float32, each by its `fp32_precision`, on a GPU or a processor."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGE = 2**31 - 1


class EngineError(ValueError):
    """The machine cannot compute what was asked for, or not in this way."""

    exit_code: ClassVar[int] = 2


@dataclass(frozen=True)
class Engine:
    """A device, an arithmetic, and how to run a network with them."""

    device: torch.device
    """Where the data lives and the steps are computed."""
    precision: Literal["fp32", "bf16"]
    """Arithmetic of the forward and backward pass; weights, the optimizer and the loss are float32 either way."""
    compile: Compile = False
    """What torch.compile is for: the network and the telemetry, the telemetry alone (auto), or nothing."""
    memory: Literal["kept", "returned"] = "returned"
    """Whether the process keeps the memory that a step frees for the next one, or gives it back to the system."""

    @property
    def device_name(self) -> str:
        """cpu, or the GPU's name."""
        return "cpu" if self.device.type == "cpu" else f"cuda ({torch.cuda.get_device_name(self.device)})"

    def place(self, model: ModuleT) -> ModuleT:
        """Move a model to the device, its convolutions' weights in channels-last order (faster on every device)."""
        # torch's types know of one argument or the other
        return model.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def logits(self, model: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """(B, C, H, W) images -> (B, num_classes) logits: float32, or float64 of a model of such numbers."""
        with self.autocast():
            outputs = model(images.contiguous(memory_format=torch.channels_last))
        return outputs.to(torch.promote_types(outputs.dtype, torch.float32))

    def autocast(self) -> AbstractContextManager[object]:
        """Where operations are computed in the engine's precision, as far as they gain by it."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")


def choose_engine(
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["auto", "fp32", "bf16"] = "fp32",
    threads: int | None = None,
    compile: Compile = False,  # noqa: A002 - the word for it everywhere
    keep_memory: bool = False,
    flush_denormals: bool = False,
) -> Engine:
    """Choose where and how to compute on this machine, and set what holds for the whole process.

    Args:
        device: auto takes a GPU where PyTorch sees one.
        precision: auto takes bf16 where the processor has instructions for it; bf16 without them comes with a warning.
        threads: threads for one operation, set for the whole process; what the process began with if None.
        compile: true compiles the network and the telemetry; auto the telemetry of large networks on a processor.
        keep_memory: ask the C library to keep freed memory for the next step; it cannot be taken back.
        flush_denormals: let numbers below 1.2e-38 become zero, in every thread of the process.
    Raises: EngineError if the device is not there, denormals are not flushed in every thread, or PyTorch has no folder
        for what it compiles.
    """
    chosen = choose_device(device)
    _check_folder_of_compiler()
    torch.set_num_threads(threads or _DEFAULT_THREADS)  # an earlier run in this process may have set another
    _set_denormals(flush=flush_denormals)
    if precision == "auto":
        precision = "bf16" if _has_bf16(chosen) else "fp32"
    elif precision == "bf16" and not _has_bf16(chosen):
        warnings.warn(
            "precision bf16: this processor has neither AVX512-BF16 nor AMX, without which bf16 in PyTorch is many "
            "times slower than fp32. Use auto, which chooses bf16 only where it is known to be fast.",
            stacklevel=2,
        )
    if precision == "fp32":
        _compute_in_float32()
    else:
        torch.backends.cudnn.allow_tf32 = True  # for what autocast leaves in float32
    is_kept = keep_memory and chosen == "cpu" and _keep_memory()
    return Engine(torch.device(chosen), precision, compile, "kept" if is_kept else "returned")


@contextmanager
def without_tf32() -> Iterator[None]:
    """Compute float32 in float32, and leave the process as it was: cuDNN's own choice is TF32."""
    before = [(operation, operation.fp32_precision) for operation in _OPERATIONS]
    allows_tf32, matmul = _old_flag("cudnn"), _old_flag("matmul")
    _compute_in_float32()
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = allows_tf32
        torch.set_float32_matmul_precision(matmul)
        for operation, precision in before:
            operation.fp32_precision = "none"  # that of torch.backends, where it was
            if operation.fp32_precision != precision:
                operation.fp32_precision = precision


def _compute_in_float32() -> None:
    """Have no operation keep less than float32's 23 bits of the mantissa, of which TF32 keeps 10, and bf16 7.

    PyTorch has two sets of settings, and raises where somebody reads an old one that a new one contradicts.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    for operation in _OPERATIONS:  # false and highest alone let them follow torch.backends.fp32_precision
        operation.fp32_precision = "ieee"


def _old_flag(of: Literal["cudnn", "matmul"]) -> Any:
    try:
        return torch.backends.cudnn.allow_tf32 if of == "cudnn" else torch.get_float32_matmul_precision()
    except RuntimeError:  # contradicted by a new one, so that nobody goes by it: as it is when a process begins
        return True if of == "cudnn" else "highest"


def choose_device(device: Literal["auto", "cpu", "cuda"]) -> Literal["cpu", "cuda"]:
    """Choose where to compute, and set nothing.

    Args:
        device: auto takes a GPU where PyTorch sees one.
    Raises: EngineError if the device is not there.
    """
    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise EngineError("device cuda: PyTorch sees no CUDA device here. Use --device cpu, or auto.")
    return "cuda" if has_cuda and device != "cpu" else "cpu"


def _check_folder_of_compiler() -> None:
    try:
        import torch._dynamo  # noqa: F401 - which every optimizer imports, and which makes the folder
    except OSError as error:
        raise EngineError(
            f"PyTorch cannot create its compiler's cache folder ({error}), which its optimizers need. "
            "Set TORCHINDUCTOR_CACHE_DIR or TMPDIR in the environment to another folder."
        ) from error
    except KeyError as error:  # of getpwuid, up to torch 2.12
        raise EngineError(
            f"PyTorch names its compiler's cache folder after the user, who has no name here ({error.args[0]}). "
            "Set USER in the environment, or TORCHINDUCTOR_CACHE_DIR to a folder."
        ) from error


def _has_bf16(device: str) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _keep_memory() -> bool:
    """Have glibc serve large blocks from the heap, and keep the heap's top; whether there is a glibc that does.

    By default it maps each block above 32 MB anew, and the system hands it over page by page, zeroed, at every step.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library; another system
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGE) and mallopt(_M_TRIM_THRESHOLD, _LARGE))


def _set_denormals(*, flush: bool) -> None:
    """Set the mode of this thread and, since threads inherit it, of those to come; then see whether all have it.

    Raises: EngineError if some have not: PyTorch's own threads were there before.
    """
    if not torch.set_flush_denormal(flush) and flush:
        raise EngineError("engine.flush_denormals: this processor does not support it. Leave the key out.")
    # normal numbers whose halves are not, counted as integers, since a thread that flushes takes a denormal for zero
    if flush and torch.full((1_000_000,), 2e-38).mul_(0.5).view(torch.int32).count_nonzero():
        torch.set_flush_denormal(False)
        raise EngineError(
            "engine.flush_denormals: PyTorch's threads were started without it, which cannot be changed. "
            "Set it for the first run of a process, or leave the key out."
        )
