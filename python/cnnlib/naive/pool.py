"""Plain-loop pooling layers."""

from __future__ import annotations

import numpy as np

from cnnlib._typing import Array, Cache
from cnnlib.naive.dtypes import _float_dtype
from cnnlib.naive.windows import _pool_geometry, _refuse_empty, _taps_inside
from cnnlib.typing import AvgPoolParam, MaxPoolParam

__all__ = ["avg_pool_backward_naive", "avg_pool_forward_naive", "global_avg_pool_backward_naive"]
__all__ += ["global_avg_pool_forward_naive", "max_pool_backward_naive", "max_pool_forward_naive"]


def max_pool_forward_naive(x: Array, pool_param: MaxPoolParam) -> tuple[Array, Cache]:
    """The largest value of each window: ``out[n, c, i, j] = max of x[n, c, window(i, j)]``.

    Parameters
    ----------
    x : ndarray (N, C, H, W)
    pool_param : dict
        ``pool_height``, ``pool_width``, ``stride`` (the pool's size), ``pad`` (0), ``dilation`` (1),
        ``ceil_mode`` (False). Padding counts as minus infinity. A NaN wins its window.

    Returns
    -------
    out : ndarray (N, C, OH, OW)
        ``OH = 1 + (H + top + bottom - dilation * (pool_height - 1) - 1) // stride``, OW alike; with
        ``ceil_mode`` the division is rounded up, unless the last window would then start below the image.
    cache : tuple
        ``(x, pool_param)``
    """
    N, C, H, W = x.shape
    stride, dilation, pads, extent, OH, OW = _pool_geometry("max_pool_forward_naive", pool_param, x)
    (top, _), (left, _) = pads

    out = np.zeros((N, C, OH, OW), dtype=_float_dtype(x))
    for n in range(N):
        for c in range(C):
            for i in range(OH):
                rows = _taps_inside(i * stride[0] - top, extent[0], dilation[0], H)
                for j in range(OW):
                    cols = _taps_inside(j * stride[1] - left, extent[1], dilation[1], W)
                    window = x[n, c, rows, cols]
                    # A dilated window may step over a small image and meet only padding.
                    out[n, c, i, j] = np.max(window) if window.size else -np.inf
    return out, (x, pool_param)


def max_pool_backward_naive(dout: Array, cache: Cache) -> Array:
    """Gradient of :func:`max_pool_forward_naive`.

    The maximum alone mattered, so it gets the whole of ``dout[n, c, i, j]``: of equal maxima the first in
    row-major order, of several NaN the first. What overlapping windows send to a pixel adds up; padding
    gets nothing.

    Parameters
    ----------
    dout : ndarray (N, C, OH, OW)
    cache : tuple
        ``(x, pool_param)``

    Returns
    -------
    dx : ndarray (N, C, H, W)
    """
    x, pool_param = cache
    N, C, H, W = x.shape
    stride, dilation, pads, extent, OH, OW = _pool_geometry("max_pool_backward_naive", pool_param, x)
    (top, _), (left, _) = pads

    dx = np.zeros(x.shape, dtype=_float_dtype(x))
    for n in range(N):
        for c in range(C):
            for i in range(OH):
                rows = _taps_inside(i * stride[0] - top, extent[0], dilation[0], H)
                for j in range(OW):
                    cols = _taps_inside(j * stride[1] - left, extent[1], dilation[1], W)
                    window = x[n, c, rows, cols]
                    if window.size:
                        winner = np.unravel_index(np.argmax(window), window.shape)
                        dx[n, c, rows, cols][winner] += dout[n, c, i, j]
    return dx


def _divisor(start, span, length, pads, count_include_pad):
    """How many rows (or columns) of a window from `start` on count in the mean.

    Padding counts if asked for; what ceil_mode lets overhang the padding never does.
    """
    first, end = (-pads[0], length + pads[1]) if count_include_pad else (0, length)
    return min(start + span, end) - max(start, first)


def avg_pool_forward_naive(x: Array, pool_param: AvgPoolParam) -> tuple[Array, Cache]:
    """The mean of each window: ``out[n, c, i, j] = sum of x[n, c, window(i, j)] / count(i, j)``.

    Parameters
    ----------
    x : ndarray (N, C, H, W)
    pool_param : dict
        ``pool_height``, ``pool_width``, ``stride`` (the pool's size), ``pad`` (0), ``ceil_mode`` (False),
        ``count_include_pad`` (True). Padding adds zeros to the sum, and to the count if
        ``count_include_pad``; the part of a window that overhangs the padding (``ceil_mode``) never counts.

    Returns
    -------
    out : ndarray (N, C, OH, OW)
        The size is that of :func:`max_pool_forward_naive`.
    cache : tuple
        ``(x, pool_param)``
    """
    N, C, H, W = x.shape
    stride, _, pads, extent, OH, OW = _pool_geometry("avg_pool_forward_naive", pool_param, x)
    count_include_pad = pool_param.get("count_include_pad", True)

    out = np.zeros((N, C, OH, OW), dtype=_float_dtype(x))
    for n in range(N):
        for c in range(C):
            for i in range(OH):
                h = i * stride[0] - pads[0][0]
                rows = _taps_inside(h, extent[0], 1, H)
                height = _divisor(h, extent[0], H, pads[0], count_include_pad)
                for j in range(OW):
                    v = j * stride[1] - pads[1][0]
                    cols = _taps_inside(v, extent[1], 1, W)
                    width = _divisor(v, extent[1], W, pads[1], count_include_pad)
                    out[n, c, i, j] = np.sum(x[n, c, rows, cols]) / (height * width)
    return out, (x, pool_param)


def avg_pool_backward_naive(dout: Array, cache: Cache) -> Array:
    """Gradient of :func:`avg_pool_forward_naive`: every pixel of a window gets dout / count.

    Parameters
    ----------
    dout : ndarray (N, C, OH, OW)
    cache : tuple
        ``(x, pool_param)``

    Returns
    -------
    dx : ndarray (N, C, H, W)
    """
    x, pool_param = cache
    N, C, H, W = x.shape
    stride, _, pads, extent, OH, OW = _pool_geometry("avg_pool_backward_naive", pool_param, x)
    count_include_pad = pool_param.get("count_include_pad", True)

    dx = np.zeros(x.shape, dtype=_float_dtype(x))
    for n in range(N):
        for c in range(C):
            for i in range(OH):
                h = i * stride[0] - pads[0][0]
                rows = _taps_inside(h, extent[0], 1, H)
                height = _divisor(h, extent[0], H, pads[0], count_include_pad)
                for j in range(OW):
                    v = j * stride[1] - pads[1][0]
                    cols = _taps_inside(v, extent[1], 1, W)
                    width = _divisor(v, extent[1], W, pads[1], count_include_pad)
                    dx[n, c, rows, cols] += dout[n, c, i, j] / (height * width)
    return dx


def global_avg_pool_forward_naive(x: Array) -> tuple[Array, Cache]:
    """The mean of each channel of each image: x (N, C, H, W) -> out (N, C). The cache is (shape, dtype)."""
    _refuse_empty("global_avg_pool_forward_naive", "x", x)
    N, C, H, W = x.shape
    out = np.zeros((N, C), dtype=_float_dtype(x))
    for n in range(N):
        for c in range(C):
            out[n, c] = np.sum(x[n, c]) / (H * W)
    return out, (x.shape, out.dtype)


def global_avg_pool_backward_naive(dout: Array, cache: Cache) -> Array:
    """Gradient of :func:`global_avg_pool_forward_naive`: dout (N, C) spread evenly over dx (N, C, H, W)."""
    (N, C, H, W), dtype = cache
    dx = np.zeros((N, C, H, W), dtype=dtype)
    for n in range(N):
        for c in range(C):
            dx[n, c] = dout[n, c] / (H * W)
    return dx
