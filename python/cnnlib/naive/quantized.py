"""Eight-bit layers, which define what prepared networks with precision='int8' compute.

A value is an array of uint8 with a scale and a zero point: ``real = scale * (q - zero)``. Weights are int8,
symmetric, with a scale for each filter. Sums are exact, in int32. On the way back to uint8 there is one
rounding, :func:`requantize`: a sum becomes float32, is multiplied by a float32, clamped, and rounded to
the nearest integer, ties to the even one. No step adds two floats, so that a compiler that contracts a
product and a sum into one operation cannot change a bit; every instruction set rounds these steps alike.

See Jacob et al. 2017, arXiv:1712.05877, for the scheme.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnlib._typing import Array, ArrayLike
from cnnlib.naive.conv import conv_forward_naive
from cnnlib.naive.pool import max_pool_forward_naive
from cnnlib.naive.windows import _pool_windows
from cnnlib.typing import AvgPoolParam, ConvParam, MaxPoolParam

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


def quantize(x: Array, scale: float, zero: int) -> Bytes:
    """``clip(round(x / scale) + zero, 0, 255)`` in float32; NaN counts as the smallest value.

    Parameters
    ----------
    x : ndarray
    scale : float
        Positive; rounded to float32.
    zero : int
        The byte that stands for 0, 0 to 255.

    Returns
    -------
    ndarray of uint8, of x's shape

    Examples
    --------
    >>> q = quantize(np.array([-1.0, 0, 0.24, 0.26, 99]), 0.1, 5)
    >>> q
    array([  0,   5,   7,   8, 255], dtype=uint8)
    >>> dequantize(q, 0.1, 5)
    array([-0.5,  0. ,  0.2,  0.3, 25. ], dtype=float32)
    """
    steps = np.asarray(x, np.float32) / np.float32(scale)
    steps = np.where(
        np.isnan(steps), np.float32(-zero), np.clip(steps, np.float32(-zero), np.float32(255 - zero))
    )
    return (np.rint(steps).astype(np.int32) + zero).astype(np.uint8)


def dequantize(q: Bytes, scale: float, zero: int) -> Array:
    """``scale * (q - zero)`` in float32."""
    return (q.astype(np.int32) - zero).astype(np.float32) * np.float32(scale)


def requantize(sums: np.ndarray, multiplier: ArrayLike, zero: int, low: int = 0, high: int = 255) -> Bytes:
    """``clip(round(sums * multiplier) + zero, low, high)``: the one rounding of these layers.

    Parameters
    ----------
    sums : ndarray of int32
        Rounded to float32 where they are beyond 2**24.
    multiplier : ndarray of float32, which broadcasts with them
        ``scale of the sums / scale of the result``.
    zero : int
        The result's zero point.
    low, high : int
        The smallest and the largest result: ``low = zero`` is a ReLU.

    Returns
    -------
    ndarray of uint8
    """
    steps = sums.astype(np.float32) * np.asarray(multiplier, np.float32)
    steps = np.clip(steps, np.float32(low - zero), np.float32(high - zero))
    return (np.rint(steps).astype(np.int32) + zero).astype(np.uint8)


def conv_sums(
    x: Bytes, x_zero: int, w: np.ndarray, b: np.ndarray | None, conv_param: ConvParam
) -> np.ndarray:
    """The exact sums of a convolution, ``b[f] + sum of (x - x_zero) * w``: (N, F, OH, OW) of int32.

    Padding stands for 0, as in :func:`cnnlib.naive.conv_forward_naive`: it holds `x_zero`.

    Parameters
    ----------
    x : ndarray of uint8 (N, C, H, W)
    x_zero : int
    w : ndarray of int8 (F, C // groups, KH, KW)
    b : ndarray of int32 (F,) or None
    conv_param : dict
        ``stride``, ``pad``, ``dilation``, ``groups``.
    """
    # float64 holds sums of integers exactly below 2**53.
    return conv_forward_naive(x.astype(np.float64) - x_zero, w, b, conv_param)[0].astype(np.int32)


def add_to_sums(
    sums: np.ndarray, other: Bytes, other_zero: int, factor: np.ndarray, shift: int
) -> np.ndarray:
    """Add another value to a convolution's sums: ``sums * 2**shift + (other - zero) * factor``.

    Parameters
    ----------
    sums : ndarray of int32 (N, F, OH, OW)
    other : ndarray of uint8 (N, F, OH, OW)
    other_zero : int
    factor : ndarray of int32 (F,)
        ``2**shift * scale of other / scale of the sums``, rounded.
    shift : int
        As many bits as no sum overflows by: the finer the sums, the closer is `factor`.
    """
    return (sums << shift) + (other.astype(np.int32) - other_zero) * factor.reshape(-1, 1, 1)


def max_pool(x: Bytes, pool_param: MaxPoolParam) -> Bytes:
    """The largest byte of each window: (N, C, OH, OW) in the scale of x. Padding never wins."""
    return max_pool_forward_naive(x.astype(np.float32), pool_param)[0].astype(np.uint8)


def avg_pool(x: Bytes, x_zero: int, ratio: float, zero: int, pool_param: AvgPoolParam) -> Bytes:
    """The mean of each window: its exact sum of ``x - x_zero``, requantised by ``ratio / count``.

    Parameters
    ----------
    x : ndarray of uint8 (N, C, H, W)
    x_zero, zero : int
        Zero points of x and of the result.
    ratio : float
        The scale of x over that of the result, float32; divided by the window's count in float32.
    pool_param : dict
        As in :func:`cnnlib.naive.avg_pool_forward_naive`.
    """
    windows, counted = _pool_windows("avg_pool", pool_param, x), pool_param.get("count_include_pad", True)
    out = np.zeros((*x.shape[:2], *windows.outputs), np.uint8)
    for place, window in windows.inside:
        sums = (x[(..., *window)].astype(np.int32) - x_zero).sum(axis=(2, 3), dtype=np.int32)
        multiplier = np.float32(ratio) / np.float32(windows.divisor(place, counted))
        out[(..., *place)] = requantize(sums, multiplier, zero)
    return out


def add(
    a: Bytes, b: Bytes, factors: tuple[int, int], constant: int, multiplier: float, zero: int, low: int = 0
) -> Bytes:
    """``requantize(a * factors[0] + b * factors[1] + constant)``: a sum of two values of different scales.

    The factors, of which the larger is 2**14, have the ratio of the scales; `constant` is what the zero
    points take away.
    """
    sums = a.astype(np.int32) * factors[0] + b.astype(np.int32) * factors[1] + constant
    return requantize(sums, np.float32(multiplier), zero, low)
