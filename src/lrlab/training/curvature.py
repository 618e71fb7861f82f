"""The curvature of the loss at a network's weights: largest eigenvalue of the Hessian, trace, and SAM sharpness."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor, nn

from lrlab.gradients import WHOLE
from lrlab.training.surface import LossSurface

_TOLERANCE: Final = 5e-4
"""Of an eigenvalue, relative, guaranteed; where the largest stands apart the error is its square."""
_ATTEMPTS: Final = ((10, 3), (20, 5), (40, 25))
"""Vectors that Lanczos' method keeps, and restarts. On trained networks, whose largest eigenvalue stands apart, ten do
without a restart; where several are close, as at initialisation, more vectors help sooner than more restarts."""
_DENSE: Final = 12
"""Weights up to which the Hessian is written out: Lanczos needs more of them than it makes vectors."""


class CurvatureError(ArithmeticError):
    """The loss has no curvature that could be measured at these weights."""

    exit_code: ClassVar[int] = 4


@dataclass(frozen=True)
class Curvature:
    """What was measured at some weights, by layer group; `whole` is all of them together."""

    hessian_max: dict[str, float]
    """Largest eigenvalue of the Hessian of the group's weights: the largest, not the largest in size."""
    hessian_trace: dict[str, float]
    """Sum of its eigenvalues, estimated."""
    sam_sharpness: dict[str, float]
    """How much the loss rises at a distance rho along the gradient of the group's weights."""
    preconditioned_max: float | None
    """Largest eigenvalue of the whole Hessian as Adam sees it; None where no second moments were given."""


def measure_curvature(
    surface: LossSurface,
    *,
    seed: int,
    num_vectors: int = 10,
    rho: float = 0.05,
    by_group: bool = True,
    second_moments: Sequence[Tensor] | None = None,
) -> Curvature:
    """Measure how sharp a loss is, for all weights together and for each group by itself.

    Largest eigenvalue: Lanczos' method (ARPACK's, implicitly restarted), on Hessian-vector products. On the edge of
    stability it is 2 / lr for gradient descent: a larger one makes it oscillate (Cohen et al., 2021, arXiv:2103.00065).
    Trace: mean of z' H z over vectors z of random signs (Hutchinson, 1990), of a group the same with the group's part
    of H z, whose expectation is the group's trace.
    SAM sharpness: L(w + rho g / |g|) - L(w) for the gradient g, which is to first order the largest rise within a
    distance rho (Foret et al., 2021, arXiv:2010.01412). Of a group, its weights alone are moved.
    As Adam sees it: the largest eigenvalue of P^-1/2 H P^-1/2 with P = diag(sqrt(v) + 1e-8). Its edge of stability is
    (2 + 2 beta1) / ((1 - beta1) lr) (Cohen et al., 2022, arXiv:2207.14484).

    Args:
        surface: the loss.
        seed: of the first vector, and of the signs.
        num_vectors: of random signs, >= 1.
        rho: distance, in the unit of the weights, > 0.
        by_group: whether the groups are measured too; each is another run of Lanczos' method.
        second_moments: v of Adam with its bias corrected, of each of `surface.parameters` and in its shape.
    Raises: CurvatureError if something is not finite, or Lanczos' method does not come to an end; ValueError.
    """
    if num_vectors < 1 or rho <= 0:
        raise ValueError(
            f"measure_curvature: num_vectors must be >= 1 and rho > 0, got {num_vectors} and {rho}; give others."
        )
    groups = {WHOLE: surface.parameters, **(surface.groups if by_group else {})}
    scale = None if second_moments is None else [(v.sqrt() + 1e-8).rsqrt() for v in second_moments]
    return Curvature(
        {name: largest_eigenvalue(surface, parameters, seed=seed) for name, parameters in groups.items()},
        _traces(surface, groups, seed=seed, num_vectors=num_vectors),
        _sam_sharpness(surface, groups, rho),
        None if scale is None else largest_eigenvalue(surface, surface.parameters, seed=seed, scale=scale),
    )


def largest_eigenvalue(
    surface: LossSurface, parameters: Sequence[nn.Parameter], *, seed: int, scale: Sequence[Tensor] | None = None
) -> float:
    """Largest eigenvalue of the Hessian with respect to some parameters; with a scale D, of D H D.

    Raises: CurvatureError.
    """
    size = sum(parameter.numel() for parameter in parameters)

    def product(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        parts = _cut(torch.from_numpy(vector.astype(np.float64).ravel()), parameters)
        result = surface.hessian_product(parameters, _scaled(parts, scale))
        flat = torch.cat([part.reshape(-1) for part in _scaled(result, scale)]).double().cpu().numpy()
        if not np.isfinite(flat).all():
            raise CurvatureError("The loss or its curvature is not finite at these weights, so it cannot be measured.")
        return np.asarray(flat)

    if size <= _DENSE:
        return float(np.linalg.eigvalsh(np.stack([product(unit) for unit in np.eye(size)]))[-1])
    first = np.random.default_rng(seed).standard_normal(size)
    if not product(first).any():  # flat, behind a layer that is dead for instance; ARPACK cannot begin there
        return 0.0
    operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
    for num_vectors, num_restarts in _ATTEMPTS:
        options: dict[str, Any] = {"which": "LA", "ncv": min(num_vectors, size), "maxiter": num_restarts}
        try:
            return float(eigsh(operator, k=1, v0=first, tol=_TOLERANCE, return_eigenvectors=False, **options)[0])
        except ArpackNoConvergence:
            continue
        except ArpackError as error:
            raise CurvatureError(f"Lanczos' method cannot be used on this Hessian ({error}).") from error
    raise CurvatureError(
        f"Lanczos' method did not converge with {_ATTEMPTS[-1][0]} vectors and {_ATTEMPTS[-1][1]} restarts: the "
        "largest eigenvalues are too close to each other, as at initialisation. Measure later in the training."
    )


def _traces(
    surface: LossSurface, groups: Mapping[str, Sequence[nn.Parameter]], *, seed: int, num_vectors: int
) -> dict[str, float]:
    parameters = surface.parameters
    generator = torch.Generator().manual_seed(seed)
    sums = dict.fromkeys(groups, 0.0)
    for _ in range(num_vectors):
        signs = [torch.randint(0, 2, p.shape, generator=generator).mul_(2).sub_(1).to(p) for p in parameters]
        products = [
            float((sign * part).sum(dtype=torch.float64))
            for sign, part in zip(signs, surface.hessian_product(parameters, signs), strict=True)
        ]
        by_parameter = dict(zip(parameters, products, strict=True))
        for name, group in groups.items():
            sums[name] += sum(by_parameter[parameter] for parameter in group)
    return {name: total / num_vectors for name, total in sums.items()}


def _sam_sharpness(surface: LossSurface, groups: Mapping[str, Sequence[nn.Parameter]], rho: float) -> dict[str, float]:
    gradient = dict(zip(surface.parameters, surface.gradient(), strict=True))
    here = surface.loss({parameter: torch.zeros_like(parameter) for parameter in surface.parameters})
    found = {}
    for name, group in groups.items():
        length = math.sqrt(sum(float(gradient[parameter].square().sum(dtype=torch.float64)) for parameter in group))
        if length == 0:  # flat to first order: there is no direction to go
            found[name] = 0.0
            continue
        found[name] = surface.loss({parameter: gradient[parameter] * (rho / length) for parameter in group}) - here
        if not math.isfinite(found[name]):
            raise CurvatureError("The loss is not finite at these weights, or close by: its rise cannot be measured.")
    return found


def _cut(vector: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Part a vector of all numbers into the shapes, types and devices of parameters."""
    parts = vector.split([parameter.numel() for parameter in parameters])
    return [part.view(parameter.shape).to(parameter) for part, parameter in zip(parts, parameters, strict=True)]


def _scaled(tensors: list[Tensor], scale: Sequence[Tensor] | None) -> list[Tensor]:
    return tensors if scale is None else [one * by for one, by in zip(tensors, scale, strict=True)]
