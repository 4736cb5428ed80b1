"""Resizing along one axis as a product with a constant matrix."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cnnlib._typing import Array

_CUBIC = -0.75  # PyTorch's and ONNX's coefficient of the cubic kernel (Keys 1981)
# ONNX's names for the pixel that is taken for a place between two; the last two differ at a half.
ROUNDINGS: dict[str, Callable[[Array], Array]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda centres: np.ceil(centres - 0.5),
    "round_prefer_ceil": lambda centres: np.floor(centres + 0.5),
}
COORDINATES = ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "asymmetric", "align_corners")
PYTORCH_NEAREST = "pytorch_nearest"


def places_of_pixels(n: int, m: int, coordinates: str, scale: float | None = None) -> Array:
    """Return the places, in n pixels, of the m pixels of a result; `coordinates` is ONNX's name for the rule.

    'half_pixel': ``(j + 1/2) / scale - 1/2``; 'pytorch_half_pixel' the same, but 0 for a single one;
    'half_pixel_symmetric': about the middle of both; 'asymmetric': ``j / scale``; 'align_corners': the first
    and the last pixels of both lie in one place. 'pytorch_nearest' is 'asymmetric' in the float32 in which
    PyTorch looks for the nearest pixel. `scale` is m / n if it is not given.
    """
    pixels = np.arange(m)
    if coordinates == PYTORCH_NEAREST:
        step = np.float32(n) / np.float32(m) if scale is None else np.float32(1 / scale)
        return pixels.astype(np.float32) * step
    scale = m / n if scale is None else scale
    if coordinates == "align_corners":
        return pixels * ((n - 1) / max(m - 1, 1))
    if coordinates == "asymmetric":
        return pixels / scale
    if coordinates == "pytorch_half_pixel" and m == 1:
        return np.zeros(1)
    beside = n / 2 * (1 - m / (scale * n)) if coordinates == "half_pixel_symmetric" else 0.0
    return beside + (pixels + 0.5) / scale - 0.5


def resizing_matrix(n: int, centres: Array, mode: str, rounding: str = "floor") -> Array:
    """The matrix (n, m) by which x (..., n) becomes (..., m), pixel j of which lies at ``centres[j]`` of x.

    `mode` is 'nearest', which takes the pixel that `rounding` names, 'bilinear' or 'bicubic'. What is outside
    x is replaced by its border.
    """
    places = np.arange(len(centres))
    matrix = np.zeros((n, len(centres)))
    if mode == "nearest":
        at = ROUNDINGS[rounding](centres).astype(int)
        matrix[np.clip(at, 0, n - 1), places] = 1
        return matrix
    if mode == "bilinear":
        centres = np.clip(centres, 0, n - 1)
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
