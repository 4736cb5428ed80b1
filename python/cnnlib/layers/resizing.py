"""Adaptive pooling and upsampling: images of any size to a size, or a number of times larger."""

from __future__ import annotations

import math

from cnnlib import _core
from cnnlib._params import choice, flag, pair
from cnnlib._params.arrays import prepare, prepare_backward, prepare_out, result, unpack
from cnnlib._typing import Array, ArrayLike, Cache
from cnnlib.layers.pool import MaxPoolCache, remembered

__all__ = ["adaptive_avg_pool_backward", "adaptive_avg_pool_forward", "adaptive_max_pool_backward"]
__all__ += ["adaptive_max_pool_forward", "upsample_backward", "upsample_forward"]

_MODES = ("nearest", "bilinear")
# Of an image's result: no array may claim more bytes than 2**63, even if its batch is empty.
_MOST_VALUES = 2**56


def _pair(function, name, value, x, *sizes):
    """A pair of numbers, whose product with the channels and `sizes` an array can have."""
    numbers = pair(function, name, value)
    if math.prod((*x.shape[1:2], *sizes, *numbers)) > _MOST_VALUES:
        raise ValueError(f"{function}: {name} {numbers} makes the result of x {x.shape} too large")
    return numbers


def adaptive_avg_pool_forward(
    x: ArrayLike, size: int | tuple[int, int], *, out: Array | None = None
) -> tuple[Array, Cache]:
    """
    Take the means of windows that cover each plane evenly.

    Parameters
    ----------
    x : array, (N, C, H, W)
        Images.
    size : int or (OH, OW)
        The result's size, whatever the image's. Row i of the result sees the rows from floor(i * H / OH)
        to ceil((i + 1) * H / OH) - 1, columns alike: windows overlap where OH does not divide H.
    out : array, (N, C, OH, OW), optional
        C-contiguous buffer of the result's dtype to write the result to.

    Returns
    -------
    out : array, (N, C, OH, OW)
    cache : tuple
        (x, size), for `adaptive_avg_pool_backward`.

    Raises
    ------
    ValueError
        x not (N, C, H, W), empty images, a size below 1.
    TypeError
        Arrays or sizes of an unsupported type.

    Examples
    --------
    Three columns from five: the windows are columns 0-1, 1-3 and 3-4.

    >>> out, cache = adaptive_avg_pool_forward(np.array([[[[1.0, 3.0, 5.0, 7.0, 9.0]]]]), (1, 3))
    >>> out
    array([[[[2., 5., 8.]]]])
    >>> adaptive_avg_pool_backward(np.array([[[[2.0, 3.0, 2.0]]]]), cache)
    array([[[[1., 2., 1., 2., 1.]]]])
    """
    function = "adaptive_avg_pool_forward"
    (array,), dtype = prepare(function, ("x",), x)
    buffer = prepare_out(function, out, dtype, array)
    y = _core.adaptive_avg_pool_forward(function, array, _pair(function, "size", size, array), buffer)
    return result(y, dtype), (x, size)


def adaptive_avg_pool_backward(dout: ArrayLike, cache: Cache) -> Array:
    """
    Gradient of `adaptive_avg_pool_forward`: each window's gradient in equal shares to its pixels.

    Parameters
    ----------
    dout : array, (N, C, OH, OW)
    cache : tuple
        (x, size).

    Returns
    -------
    dx : array, (N, C, H, W)

    Raises
    ------
    ValueError, TypeError
        As in `adaptive_avg_pool_forward`, or `dout` of another shape than the output.
    """
    function = "adaptive_avg_pool_backward"
    x, size = unpack(function, cache, "x", "size")
    (dy, x), dtype = prepare_backward(function, dout, ("x",), x)
    size = pair(function, "size in cache", size)
    return result(_core.adaptive_avg_pool_backward(function, dy, x, size), dtype)


def adaptive_max_pool_forward(
    x: ArrayLike, size: int | tuple[int, int], *, out: Array | None = None
) -> tuple[Array, Cache]:
    """
    Take the maxima of windows that cover each plane evenly; NaN beats every number.

    Parameters
    ----------
    x : array, (N, C, H, W)
        Images.
    size : int or (OH, OW)
        The result's size; windows as in `adaptive_avg_pool_forward`.
    out : array, (N, C, OH, OW), optional
        C-contiguous buffer of the result's dtype to write the result to.

    Returns
    -------
    out : array, (N, C, OH, OW)
    cache : tuple
        (x, size), for `adaptive_max_pool_backward`.

    Raises
    ------
    ValueError, TypeError
        As in `adaptive_avg_pool_forward`.

    Examples
    --------
    >>> out, cache = adaptive_max_pool_forward(np.array([[[[1.0, 3.0, 5.0, 7.0, 9.0]]]]), (1, 3))
    >>> out
    array([[[[3., 7., 9.]]]])
    >>> adaptive_max_pool_backward(np.array([[[[1.0, 2.0, 4.0]]]]), cache)
    array([[[[0., 1., 0., 2., 4.]]]])
    """
    function = "adaptive_max_pool_forward"
    (array,), dtype = prepare(function, ("x",), x)
    sizes = _pair(function, "size", size, array)
    buffer = prepare_out(function, out, dtype, array)
    y, argmax = _core.adaptive_max_pool_forward(function, array, sizes, buffer)
    cache = MaxPoolCache((x, size))
    cache.winners = sizes, argmax
    return result(y, dtype), cache


def adaptive_max_pool_backward(dout: ArrayLike, cache: Cache) -> Array:
    """
    Gradient of `adaptive_max_pool_forward`.

    Each window's gradient goes to its maximum, of equals to the first in row-major order; overlapping
    windows add up.

    Parameters
    ----------
    dout : array, (N, C, OH, OW)
    cache : tuple
        (x, size).

    Returns
    -------
    dx : array, (N, C, H, W)

    Raises
    ------
    ValueError, TypeError
        As in `adaptive_max_pool_forward`, or `dout` of another shape than the output.
    """
    function = "adaptive_max_pool_backward"
    x, size = unpack(function, cache, "x", "size")
    (dy, x), dtype = prepare_backward(function, dout, ("x",), x)
    sizes = pair(function, "size in cache", size)
    argmax = remembered(cache, sizes)
    if argmax is None:
        _, argmax = _core.adaptive_max_pool_forward(function, x, sizes)
    return result(_core.adaptive_max_pool_backward(function, dy, x, sizes, argmax), dtype)


def _upsampling(function, scale, mode, align_corners, where=""):
    """(scale_h, scale_w), whether to interpolate, and align_corners."""
    scale = pair(function, f"scale{where}", scale)
    bilinear = choice(function, f"mode{where}", mode, _MODES) == "bilinear"
    if flag(function, f"align_corners{where}", align_corners) and not bilinear:
        raise ValueError(f"{function}: align_corners is for mode 'bilinear', got mode {mode!r}")
    return scale, bilinear, bool(align_corners)


def upsample_forward(
    x: ArrayLike,
    scale: int | tuple[int, int],
    mode: str = "nearest",
    align_corners: bool = False,
    *,
    out: Array | None = None,
) -> tuple[Array, Cache]:
    """
    Enlarge images by whole factors.

    Parameters
    ----------
    x : array, (N, C, H, W)
        Images.
    scale : int or (vertical, horizontal)
        Factors of at least 1.
    mode : 'nearest' or 'bilinear'
        Repeat each pixel, or interpolate linearly between the two nearest along each axis.
    align_corners : bool
        Of 'bilinear': where output row i lies. False: at (i + 1/2) / scale - 1/2, no less than 0, so that
        the images' edges coincide. True: at i * (H - 1) / (OH - 1), so that the corner pixels do. Columns
        alike.
    out : array, (N, C, OH, OW), optional
        C-contiguous buffer of the result's dtype to write the result to.

    Returns
    -------
    out : array, (N, C, OH, OW)
        OH = H * vertical scale, OW = W * horizontal scale.
    cache : tuple
        (x, scale, mode, align_corners), for `upsample_backward`.

    Raises
    ------
    ValueError
        x not (N, C, H, W), empty images, a scale below 1, an unknown mode, align_corners without 'bilinear'.
    TypeError
        Arrays or parameters of an unsupported type.

    Examples
    --------
    >>> out, cache = upsample_forward(np.array([[[[1.0, 2.0]]]]), (1, 3))
    >>> out
    array([[[[1., 1., 1., 2., 2., 2.]]]])
    >>> upsample_backward(np.ones_like(out), cache)
    array([[[[3., 3.]]]])
    >>> upsample_forward(np.array([[[[0.0, 3.0]]]]), (1, 2), "bilinear")[0]
    array([[[[0.  , 0.75, 2.25, 3.  ]]]])
    """
    function = "upsample_forward"
    (array,), dtype = prepare(function, ("x",), x)
    scales, bilinear, corners = _upsampling(function, scale, mode, align_corners)
    _pair(function, "scale", scale, array, *array.shape[2:])
    buffer = prepare_out(function, out, dtype, array)
    y = _core.upsample_forward(function, array, scales, bilinear, corners, buffer)
    return result(y, dtype), (x, scale, mode, align_corners)


def upsample_backward(dout: ArrayLike, cache: Cache) -> Array:
    """
    Gradient of `upsample_forward`: sum over the outputs that read a pixel, weighted as they read it.

    Parameters
    ----------
    dout : array, (N, C, OH, OW)
    cache : tuple
        (x, scale, mode, align_corners).

    Returns
    -------
    dx : array, (N, C, H, W)

    Raises
    ------
    ValueError, TypeError
        As in `upsample_forward`, or `dout` of another shape than the output.
    """
    function = "upsample_backward"
    x, scale, mode, align_corners = unpack(function, cache, "x", "scale", "mode", "align_corners")
    (dy, x), dtype = prepare_backward(function, dout, ("x",), x)
    scales, bilinear, corners = _upsampling(function, scale, mode, align_corners, " in cache")
    return result(_core.upsample_backward(function, dy, x, scales, bilinear, corners), dtype)
