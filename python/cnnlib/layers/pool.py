"""Max, average and global average pooling."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnlib import _core
from cnnlib._params import check_keys, flag, integer, pads, pair, pool_window
from cnnlib._params.arrays import prepare, prepare_backward, prepare_gradient, prepare_out, result, unpack
from cnnlib._typing import Array, ArrayLike, Cache
from cnnlib.typing import AvgPoolParam, MaxPoolParam

__all__ = ["avg_pool_backward", "avg_pool_forward", "global_avg_pool_backward", "global_avg_pool_forward"]
__all__ += ["max_pool_backward", "max_pool_forward"]

_SIZES = ("size", "pool_height", "pool_width")
_MAX_KEYS = (*_SIZES, "stride", "pad", "dilation", "ceil_mode")
_AVG_KEYS = (*_SIZES, "stride", "pad", "ceil_mode", "count_include_pad")
_CACHE = ("x", "pool_param")


class MaxPoolCache(tuple):
    """(x, pool_param), and in `winners` the windows' geometry and which position of each won."""

    winners: Any = None


def _geometry(function, param, x, keys):
    """The compiled layers' geometry tuple, and ceil_mode."""
    check_keys(function, "pool_param", param, keys)
    if x.ndim == 4 and 0 in x.shape[1:]:
        raise ValueError(f"{function}: x has an empty image: its shape is {x.shape}")
    get = param.get
    PH, PW = pool_window(function, param, 2)
    stride = get("stride")
    sh, sw = (PH, PW) if stride is None else pair(function, "stride", stride)
    dh, dw = pair(function, "dilation", get("dilation", 1))
    size, window = (x.shape[2:] if x.ndim == 4 else None), (dh * (PH - 1) + 1, dw * (PW - 1) + 1)
    top, bottom, left, right = pads(function, get("pad", 0), size, window, (sh, sw))
    ceil_mode = flag(function, "ceil_mode", get("ceil_mode", False))
    return (PH, PW, sh, sw, top, bottom, left, right, dh, dw), ceil_mode


def max_pool_forward(
    x: ArrayLike, pool_param: MaxPoolParam, *, out: Array | None = None
) -> tuple[Array, Cache]:
    """
    Take the maximum of each window; NaN beats every number.

    Parameters
    ----------
    x : array, (N, C, H, W)
        Images.
    pool_param : dict
        `size`: the window, an int or (vertical, horizontal), or else `pool_height` and `pool_width`.
        `stride` (the window's size), `dilation` (1): an int or (vertical, horizontal). `pad` (0; less than
        the window): an int, (vertical, horizontal), ((top, bottom), (left, right)), 'same' or 'valid';
        padding counts as minus infinity. `ceil_mode` (False): let a last window hang over the end if it
        starts inside the image or its leading padding.
    out : array, (N, C, OH, OW), optional
        C-contiguous buffer of the result's dtype to write the result to.

    Returns
    -------
    out : array, (N, C, OH, OW)
        OH = 1 + (H + pads - dilation * (pool_height - 1) - 1) // stride, rounded up with `ceil_mode`;
        OW alike.
    cache : tuple
        (x, pool_param), for `max_pool_backward`.

    Raises
    ------
    ValueError
        A window larger than the padded image, padding as large as the window.

    Examples
    --------
    >>> x = np.array([[[[1.0, 2.0, 5.0, 3.0], [4.0, 0.0, 1.0, 2.0]]]])
    >>> out, cache = max_pool_forward(x, {"size": 2})
    >>> out
    array([[[[4., 5.]]]])
    >>> max_pool_backward(np.array([[[[10.0, 20.0]]]]), cache)[0, 0]
    array([[ 0.,  0., 20.,  0.],
           [10.,  0.,  0.,  0.]])
    """
    return _max_pool("max_pool_forward", x, pool_param, out)


def _max_pool(function, x, pool_param, out=None):
    cache = MaxPoolCache((x, pool_param))
    (x,), dtype = prepare(function, ("x",), x)
    geometry = _geometry(function, pool_param, x, _MAX_KEYS)
    out, argmax = _core.max_pool_forward(function, x, *(*geometry, prepare_out(function, out, dtype, x)))
    cache.winners = geometry, argmax
    return result(out, dtype), cache


def max_pool_backward(dout: ArrayLike, cache: Cache) -> Array:
    """
    Gradient of `max_pool_forward`.

    Each window's gradient goes to its maximum, of equals to the first in row-major order; overlapping
    windows add up; padding receives none.

    Parameters
    ----------
    dout : array, (N, C, OH, OW)
    cache : tuple
        (x, pool_param).

    Returns
    -------
    dx : array, (N, C, H, W)

    Raises
    ------
    ValueError, TypeError
        As in `max_pool_forward`, or `dout` of another shape than the output.
    """
    return _max_pool_backward("max_pool_backward", dout, cache)


def _max_pool_backward(function, dout, cache):
    x, pool_param = unpack(function, cache, *_CACHE)
    (dout, x), dtype = prepare_backward(function, dout, ("x",), x)
    geometry = _geometry(function, pool_param, x, _MAX_KEYS)
    argmax = remembered(cache, geometry)
    if argmax is None:
        _, argmax = _core.max_pool_forward(function, x, *geometry)
    return result(_core.max_pool_backward(function, dout, x, *(*geometry, argmax)), dtype)


def remembered(cache, geometry):
    """Which position of each window won; None where it has to be searched again.

    That is so for a plain tuple, and if `pool_param` has changed since the forward pass.
    """
    winners = getattr(cache, "winners", None)
    if isinstance(winners, tuple) and len(winners) == 2 and winners[0] == geometry:
        argmax = winners[1] if isinstance(winners[1], tuple) else (winners[1],)
        return winners[1] if all(isinstance(part, np.ndarray) for part in argmax) else None
    return None


def _avg_arguments(function, pool_param, x):
    geometry, ceil_mode = _geometry(function, pool_param, x, _AVG_KEYS)
    return geometry, ceil_mode, flag(function, "count_include_pad", pool_param.get("count_include_pad", True))


def avg_pool_forward(
    x: ArrayLike, pool_param: AvgPoolParam, *, out: Array | None = None
) -> tuple[Array, Cache]:
    """
    Take the mean of each window.

    Parameters
    ----------
    x : array, (N, C, H, W)
        Images.
    pool_param : dict
        As in `max_pool_forward`, without `dilation`; and `count_include_pad` (True): whether the mean
        divides by the padding's pixels too. What `ceil_mode` lets hang over the end never counts.
    out : array, (N, C, OH, OW), optional
        C-contiguous buffer of the result's dtype to write the result to.

    Returns
    -------
    out : array, (N, C, OH, OW)
        Sizes as in `max_pool_forward`.
    cache : tuple
        (x, pool_param), for `avg_pool_backward`.

    Raises
    ------
    KeyError, ValueError, TypeError
        As in `max_pool_forward`.

    Examples
    --------
    >>> x = np.array([[[[1.0, 2.0, 5.0, 3.0], [5.0, 0.0, 1.0, 3.0]]]])
    >>> out, cache = avg_pool_forward(x, {"size": 2})
    >>> out
    array([[[[2., 3.]]]])
    >>> avg_pool_backward(np.array([[[[4.0, 8.0]]]]), cache)[0, 0]
    array([[1., 1., 2., 2.],
           [1., 1., 2., 2.]])
    """
    function = "avg_pool_forward"
    (array,), dtype = prepare(function, ("x",), x)
    geometry, ceil_mode, count_include_pad = _avg_arguments(function, pool_param, array)
    buffer = prepare_out(function, out, dtype, array)
    y = _core.avg_pool_forward(function, array, geometry, ceil_mode, count_include_pad, buffer)
    return result(y, dtype), (x, pool_param)


def avg_pool_backward(dout: ArrayLike, cache: Cache) -> Array:
    """
    Gradient of `avg_pool_forward`.

    Parameters
    ----------
    dout : array, (N, C, OH, OW)
    cache : tuple
        (x, pool_param).

    Returns
    -------
    dx : array, (N, C, H, W)

    Raises
    ------
    ValueError, TypeError
        As in `avg_pool_forward`, or `dout` of another shape than the output.
    """
    function = "avg_pool_backward"
    x, pool_param = unpack(function, cache, *_CACHE)
    (dy, x), dtype = prepare_backward(function, dout, ("x",), x)
    return result(_core.avg_pool_backward(function, dy, x, *_avg_arguments(function, pool_param, x)), dtype)


def global_avg_pool_forward(x: ArrayLike, *, out: Array | None = None) -> tuple[Array, Cache]:
    """
    Take the mean of each channel's plane.

    Parameters
    ----------
    x : array, (N, C, H, W)
        Images.
    out : array, (N, C), optional
        C-contiguous buffer of the result's dtype to write the result to.

    Returns
    -------
    out : array, (N, C)
    cache : tuple
        (shape of x, dtype of the result), for `global_avg_pool_backward`.

    Raises
    ------
    ValueError
        x not (N, C, H, W), or empty images.
    TypeError
        An array of an unsupported type.

    Examples
    --------
    >>> out, cache = global_avg_pool_forward(np.arange(8.0).reshape(1, 2, 2, 2))
    >>> out
    array([[1.5, 5.5]])
    >>> global_avg_pool_backward(np.array([[4.0, 8.0]]), cache)[0, 1]
    array([[2., 2.],
           [2., 2.]])
    """
    function = "global_avg_pool_forward"
    (array,), dtype = prepare(function, ("x",), x)
    if 0 in array.shape[1:]:
        raise ValueError(f"{function}: x must be (N, C, H, W) with C, H, W >= 1, got shape {array.shape}")
    y = _core.global_avg_pool_forward(array, prepare_out(function, out, dtype, array))
    return result(y, dtype), (array.shape, dtype)


def global_avg_pool_backward(dout: ArrayLike, cache: Cache) -> Array:
    """
    Gradient of `global_avg_pool_forward`.

    Parameters
    ----------
    dout : array, (N, C)
    cache : tuple
        (shape of x, dtype of dx).

    Returns
    -------
    dx : array, (N, C, H, W)

    Raises
    ------
    ValueError, TypeError
        `dout` of another shape than the output, or of an unsupported type.
    """
    function = "global_avg_pool_backward"
    shape, dtype = unpack(function, cache, "shape", "dtype")
    if not (isinstance(shape, tuple) and len(shape) == 4 and isinstance(dtype, np.dtype)):
        kinds = f"{type(shape).__name__}, {type(dtype).__name__}"
        raise TypeError(f"{function}: cache must be ((N, C, H, W), dtype), got {kinds}")
    N, C, H, W = (integer(function, "shape in cache", size, 2**63) for size in shape)
    if min(C, H, W) < 1 or N < 0:
        raise ValueError(f"{function}: shape in cache must be that of images, got {shape}")
    dy = prepare_gradient(function, dout, dtype)
    return result(_core.global_avg_pool_backward(dy, (N, C, H, W)), dtype)
