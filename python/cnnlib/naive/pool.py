"""Plain-loop pooling layers."""

from __future__ import annotations

import numpy as np

from cnnlib._typing import Array, Cache
from cnnlib.naive.windows import _float_dtype, _pool_windows, _refuse_empty
from cnnlib.typing import AvgPoolParam, MaxPoolParam

__all__ = ["avg_pool_backward_naive", "avg_pool_forward_naive", "global_avg_pool_backward_naive"]
__all__ += ["global_avg_pool_forward_naive", "max_pool_backward_naive", "max_pool_forward_naive"]


def max_pool_forward_naive(x: Array, pool_param: MaxPoolParam) -> tuple[Array, Cache]:
    """The largest value of each window: ``out[n, c, i, j] = max of x[n, c, window(i, j)]``.

    Parameters
    ----------
    x : ndarray (N, C, H, W)
    pool_param : dict
        ``size``, or ``pool_height`` and ``pool_width``; ``stride`` (the pool's size), ``pad`` (0),
        ``dilation`` (1), ``ceil_mode`` (False). Padding counts as minus infinity. A NaN wins its window.

    Returns
    -------
    out : ndarray (N, C, OH, OW)
        ``OH = 1 + (H + top + bottom - dilation * (pool_height - 1) - 1) // stride``, OW alike; with
        ``ceil_mode`` the division is rounded up, unless the last window would then start below the image.
    cache : tuple
        ``(x, pool_param)``
    """
    return _max_forward("max_pool_forward_naive", x, pool_param)


def _max_forward(function, x, pool_param):
    """In images, sequences and volumes: `place` is (i, j), (i,) or (h, i, j), `window` as many slices."""
    windows = _pool_windows(function, pool_param, x)
    out = np.zeros((*x.shape[:2], *windows.outputs), dtype=_float_dtype(x))
    for n, c in np.ndindex(x.shape[:2]):
        for place, window in windows.inside:
            values = x[(n, c, *window)]
            # A dilated window may step over a small image and meet only padding.
            out[(n, c, *place)] = np.max(values) if values.size else -np.inf
    return out, (x, pool_param)


def max_pool_backward_naive(dout: Array, cache: Cache) -> Array:
    """Gradient of :func:`max_pool_forward_naive`.

    The maximum alone mattered, so it gets the whole of ``dout[n, c, i, j]``: of equal maxima the first in
    row-major order, of several NaN the first. What overlapping windows send to a pixel adds up; padding
    gets nothing.
    """
    return _max_backward("max_pool_backward_naive", dout, *cache)


def _max_backward(function, dout, x, pool_param):
    windows = _pool_windows(function, pool_param, x)
    dx = np.zeros(x.shape, dtype=_float_dtype(x))
    for n, c in np.ndindex(x.shape[:2]):
        for place, window in windows.inside:
            values = x[(n, c, *window)]
            if values.size:
                winner = np.unravel_index(np.argmax(values), values.shape)
                dx[(n, c, *window)][winner] += dout[(n, c, *place)]
    return dx


def avg_pool_forward_naive(x: Array, pool_param: AvgPoolParam) -> tuple[Array, Cache]:
    """The mean of each window: ``out[n, c, i, j] = sum of x[n, c, window(i, j)] / count(i, j)``.

    Parameters
    ----------
    x : ndarray (N, C, H, W)
    pool_param : dict
        ``size``, or ``pool_height`` and ``pool_width``; ``stride`` (the pool's size), ``pad`` (0),
        ``ceil_mode`` (False), ``count_include_pad`` (True). Padding adds zeros to the sum, and to the count
        if ``count_include_pad``; the part of a window that overhangs the padding (``ceil_mode``) never
        counts.

    Returns
    -------
    out : ndarray (N, C, OH, OW)
        The size is that of :func:`max_pool_forward_naive`.
    cache : tuple
        ``(x, pool_param)``
    """
    return _avg_forward("avg_pool_forward_naive", x, pool_param)


def _avg_forward(function, x, pool_param):
    windows, counted = _pool_windows(function, pool_param, x), pool_param.get("count_include_pad", True)
    out = np.zeros((*x.shape[:2], *windows.outputs), dtype=_float_dtype(x))
    for n, c in np.ndindex(x.shape[:2]):
        for place, window in windows.inside:
            out[(n, c, *place)] = np.sum(x[(n, c, *window)], dtype=np.float64) / windows.divisor(
                place, counted
            )
    return out, (x, pool_param)


def avg_pool_backward_naive(dout: Array, cache: Cache) -> Array:
    """Gradient of :func:`avg_pool_forward_naive`: every pixel of a window gets dout / count."""
    return _avg_backward("avg_pool_backward_naive", dout, *cache)


def _avg_backward(function, dout, x, pool_param):
    windows, counted = _pool_windows(function, pool_param, x), pool_param.get("count_include_pad", True)
    dx = np.zeros(x.shape, dtype=_float_dtype(x))
    for n, c in np.ndindex(x.shape[:2]):
        for place, window in windows.inside:
            dx[(n, c, *window)] += dout[(n, c, *place)] / windows.divisor(place, counted)
    return dx


def global_avg_pool_forward_naive(x: Array) -> tuple[Array, Cache]:
    """The mean of each channel of each image: x (N, C, H, W) -> out (N, C). The cache is (shape, dtype)."""
    _refuse_empty("global_avg_pool_forward_naive", "x", x)
    N, C, H, W = x.shape
    out = np.zeros((N, C), dtype=_float_dtype(x))
    for n, c in np.ndindex(N, C):
        out[n, c] = np.sum(x[n, c], dtype=np.float64) / (H * W)
    return out, (x.shape, out.dtype)


def global_avg_pool_backward_naive(dout: Array, cache: Cache) -> Array:
    """Gradient of :func:`global_avg_pool_forward_naive`: dout (N, C) spread evenly over dx (N, C, H, W)."""
    (N, C, H, W), dtype = cache
    dx = np.zeros((N, C, H, W), dtype=dtype)
    for n, c in np.ndindex(N, C):
        dx[n, c] = dout[n, c] / (H * W)
    return dx
