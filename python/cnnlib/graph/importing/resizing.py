"""Resizing along one axis as a product with a constant matrix."""

from __future__ import annotations

import numpy as np

from cnnlib._typing import Array

_CUBIC = -0.75  # PyTorch's and ONNX's coefficient of the cubic kernel (Keys 1981)


def resizing_matrix(
    n: int, m: int, mode: str, *, align_corners: bool = False, step: float | None = None
) -> Array:
    """The matrix (n, m) by which x (..., n) becomes (..., m).

    `mode` is 'nearest', 'nearest-exact', 'bilinear' or 'bicubic'; pixel j of the result lies at
    ``(j + 1/2) * step - 1/2`` of x, by whose border what is outside is replaced. `step` is n / m if it is not
    given. With `align_corners` the first and the last pixels of both lie in one place.
    """
    step, places = n / m if step is None else step, np.arange(m)
    matrix = np.zeros((n, m))
    if mode.startswith("nearest"):
        half = 0.5 if mode == "nearest-exact" else 0.0
        at = np.floor((places + half) * np.float64(step)).astype(int)
        matrix[np.clip(at, 0, n - 1), places] = 1
        return matrix
    centres = places * ((n - 1) / max(m - 1, 1)) if align_corners else (places + 0.5) * step - 0.5
    if mode == "bilinear":
        centres = np.maximum(centres, 0)
    first = np.floor(centres).astype(int)
    for tap in (0, 1) if mode == "bilinear" else (-1, 0, 1, 2):
        far = np.abs(centres - first - tap)
        weights = 1 - far if mode == "bilinear" else _cubic(far)
        np.add.at(matrix, (np.clip(first + tap, 0, n - 1), places), weights)
    return matrix


def _cubic(far: Array) -> Array:
    """The cubic kernel at a distance of less than 2."""
    a = _CUBIC
    near = ((a + 2) * far - (a + 3)) * far * far + 1
    return np.where(far <= 1, near, ((a * far - 5 * a) * far + 8 * a) * far - 4 * a)
