"""
Pooling of sequences (N, C, L) and volumes (N, C, D, H, W) by the kernels for images.

A sequence is an image of one row. A volume's pool is one of planes and then one along the depth.
"""

from __future__ import annotations

from typing import Any

from cnnlib import _core
from cnnlib._params.arrays import prepare, prepare_backward, result, unpack
from cnnlib._typing import Array, ArrayLike, Cache
from cnnlib.layers.axes import check_shape, pool_axes, pool_geometry, row_axis
from cnnlib.layers.pool import MaxPoolCache, remembered
from cnnlib.typing import AvgPool1dParam, AvgPool3dParam, MaxPool1dParam, MaxPool3dParam

__all__ = ["avg_pool1d_backward", "avg_pool1d_forward", "avg_pool3d_backward", "avg_pool3d_forward"]
__all__ += ["max_pool1d_backward", "max_pool1d_forward", "max_pool3d_backward", "max_pool3d_forward"]


class _Pool:
    """
    A pool of sequences or volumes as pools of images: one of rows, or one of planes and one along the depth.

    `passes` lists for each the shape of its images, the kernel's arguments, and the shape of its result.
    """

    def __init__(self, function, pool_param, x, count, kind):
        axes, count_pad, ceil_mode = pool_axes(function, pool_param, x, count, kind)
        options = (ceil_mode,) if kind == "max" else (ceil_mode, count_pad)
        N, C, *sizes = x.shape
        self.shape = (N, C, *(axis.outputs for axis in axes))
        vertical, horizontal = (row_axis(), *axes)[-2:]
        planes = N, C * (sizes[0] if count == 3 else 1)
        made = (*planes, vertical.outputs, horizontal.outputs)
        self.passes = [((*planes, *(1, *sizes)[-2:]), (pool_geometry(vertical, horizontal), *options), made)]
        if count == 3:
            pixels, by_depth = vertical.outputs * horizontal.outputs, pool_geometry(axes[0], row_axis())
            columns = (N, C, sizes[0], pixels), (by_depth, *options), (N, C, axes[0].outputs, pixels)
            self.passes.append(columns)
        self.geometry = tuple(arguments for _, arguments, _ in self.passes)

    def maxima(self, function, x):
        """The result, and the winners of each pass."""
        winners = []
        for shape, arguments, _ in self.passes:
            x, argmax = _core.max_pool_forward(function, x.reshape(shape), *arguments)
            winners.append(argmax)
        return x.reshape(self.shape), tuple(winners)

    def means(self, function, x):
        for shape, arguments, _ in self.passes:
            x = _core.avg_pool_forward(function, x.reshape(shape), *arguments)
        return x.reshape(self.shape)


def _pooled(function, x, pool_param, count, kind):
    (array,), dtype = prepare(function, ("x",), x)
    pool = _Pool(function, pool_param, array, count, kind)
    if kind == "avg":
        return result(pool.means(function, array), dtype), (x, pool_param)
    cache = MaxPoolCache((x, pool_param))
    y, winners = pool.maxima(function, array)
    cache.winners = pool.geometry, winners
    return result(y, dtype), cache


def _pool_gradient(function, dout, cache, count, kind):
    x, pool_param = unpack(function, cache, "x", "pool_param")
    (dy, x), dtype = prepare_backward(function, dout, ("x",), x)
    pool = _Pool(function, pool_param, x, count, kind)
    check_shape(function, "dout", dy, pool.shape)
    known: list[tuple[Any, ...]] = [()] * len(pool.passes)
    if kind == "max":
        winners = remembered(cache, pool.geometry)
        known = [(argmax,) for argmax in (pool.maxima(function, x)[1] if winners is None else winners)]
    backward = _core.max_pool_backward if kind == "max" else _core.avg_pool_backward
    for (shape, arguments, made), argmax in zip(pool.passes[::-1], known[::-1]):
        # The kernels need the shape of x alone, as they are told the winners of a maximum.
        images = _core.new_array(function, shape, x.dtype)
        dy = backward(function, dy.reshape(made), images, *arguments, *argmax)
    return result(dy.reshape(x.shape), dtype)


def max_pool1d_forward(x: ArrayLike, pool_param: MaxPool1dParam) -> tuple[Array, Cache]:
    """
    Take the maximum of each window of a sequence; NaN beats every number.

    Parameters
    ----------
    x : array, (N, C, L)
        Sequences.
    pool_param : dict
        `size`, or else `pool_width`: the window. `stride` (the window's size), `dilation` (1): an int or
        (horizontal,). `pad` (0; less than the window): an int, (horizontal,), ((before, after),), 'same' or
        'valid'; padding counts as minus infinity. `ceil_mode` (False): let a last window hang over the
        end if it starts inside the sequence or its leading padding.

    Returns
    -------
    out : array, (N, C, OL)
        OL = 1 + (L + pads - dilation * (pool_width - 1) - 1) // stride, rounded up with `ceil_mode`.
    cache : tuple
        (x, pool_param), for `max_pool1d_backward`.

    Raises
    ------
    ValueError
        A window larger than the padded sequence, padding as large as the window.

    Examples
    --------
    >>> out, cache = max_pool1d_forward(np.array([[[1.0, 3.0, 2.0, 5.0]]]), {"size": 2})
    >>> out, max_pool1d_backward(np.array([[[10.0, 20.0]]]), cache)
    (array([[[3., 5.]]]), array([[[ 0., 10.,  0., 20.]]]))
    """
    return _pooled("max_pool1d_forward", x, pool_param, 1, "max")


def max_pool1d_backward(dout: ArrayLike, cache: Cache) -> Array:
    """
    Gradient of `max_pool1d_forward`.

    Each window's gradient goes to its maximum, of equals to the first; overlapping windows add up; padding
    receives none.

    Parameters
    ----------
    dout : array, (N, C, OL)
    cache : tuple
        (x, pool_param).

    Returns
    -------
    dx : array, (N, C, L)

    Raises
    ------
    ValueError, TypeError
        As in `max_pool1d_forward`, or `dout` of another shape than the output.
    """
    return _pool_gradient("max_pool1d_backward", dout, cache, 1, "max")


def avg_pool1d_forward(x: ArrayLike, pool_param: AvgPool1dParam) -> tuple[Array, Cache]:
    """
    Take the mean of each window of a sequence.

    Parameters
    ----------
    x : array, (N, C, L)
        Sequences.
    pool_param : dict
        As in `max_pool1d_forward`, without `dilation`; and `count_include_pad` (True): whether the mean
        divides by the padding's values too. What `ceil_mode` lets hang over the end never counts.

    Returns
    -------
    out : array, (N, C, OL)
        OL as in `max_pool1d_forward`.
    cache : tuple
        (x, pool_param), for `avg_pool1d_backward`.

    Raises
    ------
    KeyError, ValueError, TypeError
        As in `max_pool1d_forward`.

    Examples
    --------
    >>> out, cache = avg_pool1d_forward(np.array([[[1.0, 3.0, 2.0, 5.0]]]), {"size": 2})
    >>> out, avg_pool1d_backward(np.array([[[10.0, 20.0]]]), cache)
    (array([[[2. , 3.5]]]), array([[[ 5.,  5., 10., 10.]]]))
    """
    return _pooled("avg_pool1d_forward", x, pool_param, 1, "avg")


def avg_pool1d_backward(dout: ArrayLike, cache: Cache) -> Array:
    """
    Gradient of `avg_pool1d_forward`.

    Parameters
    ----------
    dout : array, (N, C, OL)
    cache : tuple
        (x, pool_param).

    Returns
    -------
    dx : array, (N, C, L)

    Raises
    ------
    ValueError, TypeError
        As in `avg_pool1d_forward`, or `dout` of another shape than the output.
    """
    return _pool_gradient("avg_pool1d_backward", dout, cache, 1, "avg")


def max_pool3d_forward(x: ArrayLike, pool_param: MaxPool3dParam) -> tuple[Array, Cache]:
    """
    Take the maximum of each window of a volume; NaN beats every number.

    Parameters
    ----------
    x : array, (N, C, D, H, W)
        Volumes.
    pool_param : dict
        `size`: the window, an int or (depth, vertical, horizontal), or else `pool_depth`, `pool_height` and
        `pool_width`. `stride` (the window's size), `dilation` (1): an int or (depth, vertical, horizontal).
        `pad` (0; less than the window): the same, with (before, after) for a number, or 'same' or 'valid';
        padding counts as minus infinity. `ceil_mode` (False): let a last window hang over the end if it
        starts inside the volume or its leading padding.

    Returns
    -------
    out : array, (N, C, OD, OH, OW)
        OD = 1 + (D + pads - dilation * (pool_depth - 1) - 1) // stride, rounded up with `ceil_mode`; OH and
        OW alike.
    cache : tuple
        (x, pool_param), for `max_pool3d_backward`.

    Raises
    ------
    ValueError
        A window larger than the padded volume, padding as large as the window.

    Examples
    --------
    >>> x = np.arange(64.0).reshape(1, 1, 4, 4, 4)
    >>> out, cache = max_pool3d_forward(x, {"size": (4, 2, 2)})
    >>> out
    array([[[[[53., 55.],
              [61., 63.]]]]])
    >>> max_pool3d_backward(np.ones_like(out), cache)[0, 0, 3]
    array([[0., 0., 0., 0.],
           [0., 1., 0., 1.],
           [0., 0., 0., 0.],
           [0., 1., 0., 1.]])
    """
    return _pooled("max_pool3d_forward", x, pool_param, 3, "max")


def max_pool3d_backward(dout: ArrayLike, cache: Cache) -> Array:
    """
    Gradient of `max_pool3d_forward`.

    Each window's gradient goes to its maximum, of equals to the first in row-major order; overlapping
    windows add up; padding receives none.

    Parameters
    ----------
    dout : array, (N, C, OD, OH, OW)
    cache : tuple
        (x, pool_param).

    Returns
    -------
    dx : array, (N, C, D, H, W)

    Raises
    ------
    ValueError, TypeError
        As in `max_pool3d_forward`, or `dout` of another shape than the output.
    """
    return _pool_gradient("max_pool3d_backward", dout, cache, 3, "max")


def avg_pool3d_forward(x: ArrayLike, pool_param: AvgPool3dParam) -> tuple[Array, Cache]:
    """
    Take the mean of each window of a volume.

    Parameters
    ----------
    x : array, (N, C, D, H, W)
        Volumes.
    pool_param : dict
        As in `max_pool3d_forward`, without `dilation`; and `count_include_pad` (True): whether the mean
        divides by the padding's values too. What `ceil_mode` lets hang over the end never counts.

    Returns
    -------
    out : array, (N, C, OD, OH, OW)
        Sizes as in `max_pool3d_forward`.
    cache : tuple
        (x, pool_param), for `avg_pool3d_backward`.

    Raises
    ------
    KeyError, ValueError, TypeError
        As in `max_pool3d_forward`.

    Examples
    --------
    >>> x = np.arange(64.0).reshape(1, 1, 4, 4, 4)
    >>> out, cache = avg_pool3d_forward(x, {"size": (4, 2, 2)})
    >>> out
    array([[[[[26.5, 28.5],
              [34.5, 36.5]]]]])
    >>> avg_pool3d_backward(16 * np.ones_like(out), cache)[0, 0, 3, 0]
    array([1., 1., 1., 1.])
    """
    return _pooled("avg_pool3d_forward", x, pool_param, 3, "avg")


def avg_pool3d_backward(dout: ArrayLike, cache: Cache) -> Array:
    """
    Gradient of `avg_pool3d_forward`.

    Parameters
    ----------
    dout : array, (N, C, OD, OH, OW)
    cache : tuple
        (x, pool_param).

    Returns
    -------
    dx : array, (N, C, D, H, W)

    Raises
    ------
    ValueError, TypeError
        As in `avg_pool3d_forward`, or `dout` of another shape than the output.
    """
    return _pool_gradient("avg_pool3d_backward", dout, cache, 3, "avg")
