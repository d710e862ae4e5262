"""Conjugate gradient (Section 6, Appendix C). Nothing here knows what a policy is."""

from collections.abc import Callable
from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor


class Solution(NamedTuple):
    """What conjugate gradient found."""

    x: Tensor  # [D]
    residual: float  # norm of b - A x, relative to the norm of b
    iterations: int
    curvature: float  # the last p^T A p; not positive if the matrix is not positive definite


def conjugate_gradient(
    product: Callable[[Tensor], Tensor], b: Tensor, iterations: int, tolerance: float = 1e-10
) -> Solution:
    """Solve A x = b by at most ``iterations`` products with A, starting at zero (Appendix C).

    product: v ``[D]`` -> A v ``[D]``, A symmetric and positive definite.
    b: ``[D]``.
    tolerance: stop once the squared norm of the residual is below this fraction of b's.

    A direction without positive curvature, or a non-finite one, ends the loop; the caller reads ``curvature``.
    """
    x, residual, direction = torch.zeros_like(b), b.clone(), b.clone()
    start = squared = float(b @ b)
    curvature, n = float("inf"), 0
    while n < iterations and not squared <= tolerance * start:
        n += 1
        image = product(direction)
        curvature = float(direction @ image)
        if not curvature > 0:
            break
        step = squared / curvature
        x = x + step * direction
        residual = residual - step * image
        previous, squared = squared, float(residual @ residual)
        direction = residual + (squared / previous) * direction
    return Solution(x, sqrt(squared / start) if start > 0 else 0.0, n, curvature)
