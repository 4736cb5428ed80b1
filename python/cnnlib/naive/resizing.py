"""Plain-loop adaptive pooling and upsampling."""

from __future__ import annotations

import numpy as np

from cnnlib._typing import Array, Cache
from cnnlib.naive.windows import _float_dtype, _pair, _refuse_empty

__all__ = ["adaptive_avg_pool_backward_naive", "adaptive_avg_pool_forward_naive"]
__all__ += ["adaptive_max_pool_backward_naive", "adaptive_max_pool_forward_naive", "upsample_backward_naive"]
__all__ += ["upsample_forward_naive"]


def _adaptive_windows(x, size):
    """Yield (n, c, i, j, rows, cols): output pixel (i, j) of each plane, and the slices that it sees.

    Output i of ``outputs`` sees ``floor(i * length / outputs) .. ceil((i + 1) * length / outputs) - 1``.
    """
    N, C, H, W = x.shape
    OH, OW = _pair(size)
    for n, c, i, j in np.ndindex(N, C, OH, OW):
        rows = slice(i * H // OH, -(-(i + 1) * H // OH))
        cols = slice(j * W // OW, -(-(j + 1) * W // OW))
        yield n, c, i, j, rows, cols


def adaptive_avg_pool_forward_naive(x: Array, size: int | tuple[int, int]) -> tuple[Array, Cache]:
    """The mean of each of (OH, OW) windows that cover a plane evenly. The cache is ``(x, size)``."""
    _refuse_empty("adaptive_avg_pool_forward_naive", "x", x)
    out = np.zeros((*x.shape[:2], *_pair(size)), dtype=_float_dtype(x))
    for n, c, i, j, rows, cols in _adaptive_windows(x, size):
        out[n, c, i, j] = np.mean(x[n, c, rows, cols])
    return out, (x, size)


def adaptive_avg_pool_backward_naive(dout: Array, cache: Cache) -> Array:
    """Gradient of :func:`adaptive_avg_pool_forward_naive`: each pixel of a window gets an equal share."""
    x, size = cache
    dx = np.zeros(x.shape, dtype=_float_dtype(x))
    for n, c, i, j, rows, cols in _adaptive_windows(x, size):
        window = dx[n, c, rows, cols]
        window += dout[n, c, i, j] / window.size
    return dx


def adaptive_max_pool_forward_naive(x: Array, size: int | tuple[int, int]) -> tuple[Array, Cache]:
    """The maximum of each of (OH, OW) windows that cover a plane evenly; a NaN wins its window."""
    _refuse_empty("adaptive_max_pool_forward_naive", "x", x)
    out = np.zeros((*x.shape[:2], *_pair(size)), dtype=_float_dtype(x))
    for n, c, i, j, rows, cols in _adaptive_windows(x, size):
        out[n, c, i, j] = np.max(x[n, c, rows, cols])
    return out, (x, size)


def adaptive_max_pool_backward_naive(dout: Array, cache: Cache) -> Array:
    """Gradient of :func:`adaptive_max_pool_forward_naive`: all of it to the first maximum (or NaN)."""
    x, size = cache
    dx = np.zeros(x.shape, dtype=_float_dtype(x))
    for n, c, i, j, rows, cols in _adaptive_windows(x, size):
        window = x[n, c, rows, cols]
        best = np.unravel_index(np.argmax(window), window.shape)
        dx[n, c, rows, cols][best] += dout[n, c, i, j]
    return dx


def _interpolation(length, scale, mode, align_corners):
    """The matrix (length * scale, length) that maps an axis of the image to that of the result."""
    outputs = length * scale
    matrix = np.zeros((outputs, length))
    for o in range(outputs):
        if mode == "nearest":
            matrix[o, o // scale] = 1
            continue
        if align_corners:
            place = o * (length - 1) / (outputs - 1) if outputs > 1 else 0.0
        else:
            place = max((o + 0.5) / scale - 0.5, 0.0)
        before = min(int(place), length - 1)
        after = min(before + 1, length - 1)
        matrix[o, before] += 1 - (place - before)
        matrix[o, after] += place - before
    return matrix


def _interpolations(x, scale, mode, align_corners):
    return [_interpolation(n, s, mode, align_corners) for n, s in zip(x.shape[2:], _pair(scale), strict=True)]


def upsample_forward_naive(
    x: Array, scale: int | tuple[int, int], mode: str = "nearest", align_corners: bool = False
) -> tuple[Array, Cache]:
    """Enlarge images: ``out[n, c] = rows @ x[n, c] @ columns.T`` with a matrix for each axis.

    Parameters
    ----------
    x : ndarray (N, C, H, W)
    scale : int or (vertical, horizontal)
    mode : 'nearest' or 'bilinear'
        A row of a matrix has a 1 for the pixel that is repeated, or the shares of the two nearest pixels.
    align_corners : bool
        Where output o of an axis lies: ``o * (length - 1) / (outputs - 1)``, or
        ``(o + 1/2) / scale - 1/2`` and at least 0.

    Returns
    -------
    out : ndarray (N, C, H * vertical, W * horizontal)
    cache : tuple
        ``(x, scale, mode, align_corners)``
    """
    _refuse_empty("upsample_forward_naive", "x", x)
    rows, columns = _interpolations(x, scale, mode, align_corners)
    out = np.zeros((*x.shape[:2], len(rows), len(columns)), dtype=_float_dtype(x))
    for n, c in np.ndindex(x.shape[:2]):
        out[n, c] = rows @ x[n, c] @ columns.T
    return out, (x, scale, mode, align_corners)


def upsample_backward_naive(dout: Array, cache: Cache) -> Array:
    """Gradient of :func:`upsample_forward_naive`: ``dx[n, c] = rows.T @ dout[n, c] @ columns``."""
    x, scale, mode, align_corners = cache
    rows, columns = _interpolations(x, scale, mode, align_corners)
    dx = np.zeros(x.shape, dtype=_float_dtype(x))
    for n, c in np.ndindex(x.shape[:2]):
        dx[n, c] = rows.T @ dout[n, c] @ columns
    return dx
