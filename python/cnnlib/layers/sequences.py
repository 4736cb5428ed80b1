"""Convolution and pooling of sequences (N, C, L): images of one row, by the kernels for images."""

from __future__ import annotations

from cnnlib import _core
from cnnlib._params import wanted
from cnnlib._params.arrays import prepare, prepare_backward, result
from cnnlib._typing import Array, ArrayLike, Cache, Needs, Wanted
from cnnlib.layers.axes import check_shape, conv_axes, plane_param, pool_axes, pool_geometry, row_axis
from cnnlib.layers.caches import unpack
from cnnlib.layers.pool import MaxPoolCache, remembered
from cnnlib.typing import AvgPool1dParam, ConvParam, MaxPool1dParam

__all__ = ["avg_pool1d_backward", "avg_pool1d_forward", "conv1d_backward", "conv1d_forward"]
__all__ += ["max_pool1d_backward", "max_pool1d_forward"]

_GRADIENTS = ("dx", "dw", "db")


def conv1d_forward(
    x: ArrayLike, w: ArrayLike, b: ArrayLike | None, conv_param: ConvParam
) -> tuple[Array, Cache]:
    """
    Convolve (cross-correlate) sequences with filters.

    Parameters
    ----------
    x : array, (N, C, L)
        Sequences.
    w : array, (F, C / groups, K)
        Filters.
    b : array, (F,), or None
        Biases.
    conv_param : dict
        `stride` (1), `pad` (0), `dilation` (1): an int or (horizontal,); `pad` may also be
        ((before, after),), 'same' or 'valid'. `groups` (1) divides C and F. `algorithm` ('auto') as in
        `conv_forward`.

    Returns
    -------
    out : array, (N, F, OL)
        OL = 1 + (L + before + after - dilation * (K - 1) - 1) // stride.
    cache : tuple
        (x, w, b, conv_param), for `conv1d_backward`.

    Raises
    ------
    ValueError
        Shapes that do not fit, a window larger than the padded sequence, unknown keys.
    TypeError
        Arrays or parameters of an unsupported type.

    Examples
    --------
    The difference of neighbours:

    >>> x, w = np.array([[[1.0, 4.0, 9.0, 16.0]]]), np.array([[[-1.0, 1.0]]])
    >>> out, cache = conv1d_forward(x, w, None, {"stride": 1})
    >>> out
    array([[[3., 5., 7.]]])
    >>> dx, dw, _ = conv1d_backward(np.ones_like(out), cache)
    >>> dx, dw
    (array([[[-1.,  0.,  0.,  1.]]]), array([[[14., 29.]]]))
    """
    function = "conv1d_forward"
    (x_, w_, b_), dtype = prepare(function, ("x", "w", "b"), x, w, b)
    (axis,), groups = conv_axes(function, conv_param, x_, w_, b_, 1)
    param = plane_param(row_axis(), axis, groups, conv_param)
    y = _core.conv_forward(function, x_[:, :, None], w_[:, :, None], b_, param, False, None)
    return result(y[:, :, 0], dtype), (x, w, b, conv_param)


def conv1d_backward(dout: ArrayLike, cache: Cache, *, needs: Needs = None) -> tuple[Wanted, Wanted, Wanted]:
    """
    Gradients of `conv1d_forward`.

    Parameters
    ----------
    dout : array, (N, F, OL)
        Gradient of the loss with respect to the output.
    cache : tuple
        (x, w, b, conv_param).
    needs : tuple of 'dx', 'dw', 'db', optional
        The gradients wanted, all by default; the others come back as None and cost nothing.

    Returns
    -------
    dx, dw, db : arrays of the shapes of x, w and b
        `db` is None where b was.

    Raises
    ------
    ValueError, TypeError
        As in `conv1d_forward`, or `dout` of another shape than the output.
    """
    function = "conv1d_backward"
    x, w, b, conv_param = unpack(function, cache, "x", "w", "b", "conv_param")
    need_dx, need_dw, need_db = wanted(function, needs, _GRADIENTS)
    (dy, x, w, b), dtype = prepare_backward(function, dout, ("x", "w", "b"), x, w, b)
    (axis,), groups = conv_axes(function, conv_param, x, w, b, 1)
    check_shape(function, "dout", dy, (x.shape[0], w.shape[0], axis.outputs))
    param = plane_param(row_axis(), axis, groups, conv_param)
    rows = dy[:, :, None], x[:, :, None], w[:, :, None]
    grads = _core.conv_backward(function, *rows, param, need_dx, need_dw, need_db and b is not None)
    dx, dw = (None if grad is None else grad[:, :, 0] for grad in grads[:2])
    return result(dx, dtype), result(dw, dtype), result(grads[2], dtype)


def max_pool1d_forward(x: ArrayLike, pool_param: MaxPool1dParam) -> tuple[Array, Cache]:
    """
    Take the maximum of each window of a sequence; NaN beats every number.

    Parameters
    ----------
    x : array, (N, C, L)
        Sequences.
    pool_param : dict
        `pool_width`: the window, required. `stride` (the window's size), `dilation` (1): an int or
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
    KeyError
        No `pool_width`.
    ValueError
        A window larger than the padded sequence, padding as large as the window, unknown keys.
    TypeError
        Arrays or parameters of an unsupported type.

    Examples
    --------
    >>> out, cache = max_pool1d_forward(np.array([[[1.0, 3.0, 2.0, 5.0]]]), {"pool_width": 2, "stride": 2})
    >>> out, max_pool1d_backward(np.array([[[10.0, 20.0]]]), cache)
    (array([[[3., 5.]]]), array([[[ 0., 10.,  0., 20.]]]))
    """
    function = "max_pool1d_forward"
    cache = MaxPoolCache((x, pool_param))
    (array,), dtype = prepare(function, ("x",), x)
    (axis,), _, ceil_mode = pool_axes(function, pool_param, array, 1, "max")
    geometry = pool_geometry(row_axis(), axis), ceil_mode
    y, argmax = _core.max_pool_forward(function, array[:, :, None], *geometry)
    cache.winners = geometry, argmax
    return result(y[:, :, 0], dtype), cache


def max_pool1d_backward(dout: ArrayLike, cache: Cache) -> Array:
    """
    Gradient of `max_pool1d_forward`.

    Each window's gradient goes to its maximum, of equals to the first; overlapping windows add up; padding
    receives none.

    Parameters
    ----------
    dout : array, (N, C, OL)
        Gradient of the loss with respect to the output.
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
    function = "max_pool1d_backward"
    x, pool_param = unpack(function, cache, "x", "pool_param")
    (dy, x), dtype = prepare_backward(function, dout, ("x",), x)
    (axis,), _, ceil_mode = pool_axes(function, pool_param, x, 1, "max")
    check_shape(function, "dout", dy, (*x.shape[:2], axis.outputs))
    geometry = pool_geometry(row_axis(), axis), ceil_mode
    argmax = remembered(cache, geometry)
    dx = _core.max_pool_backward(function, dy[:, :, None], x[:, :, None], *geometry, argmax)
    return result(dx[:, :, 0], dtype)


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
    >>> out, cache = avg_pool1d_forward(np.array([[[1.0, 3.0, 2.0, 5.0]]]), {"pool_width": 2, "stride": 2})
    >>> out, avg_pool1d_backward(np.array([[[10.0, 20.0]]]), cache)
    (array([[[2. , 3.5]]]), array([[[ 5.,  5., 10., 10.]]]))
    """
    function = "avg_pool1d_forward"
    (array,), dtype = prepare(function, ("x",), x)
    (axis,), count, ceil_mode = pool_axes(function, pool_param, array, 1, "avg")
    y = _core.avg_pool_forward(function, array[:, :, None], pool_geometry(row_axis(), axis), ceil_mode, count)
    return result(y[:, :, 0], dtype), (x, pool_param)


def avg_pool1d_backward(dout: ArrayLike, cache: Cache) -> Array:
    """
    Gradient of `avg_pool1d_forward`.

    Parameters
    ----------
    dout : array, (N, C, OL)
        Gradient of the loss with respect to the output.
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
    function = "avg_pool1d_backward"
    x, pool_param = unpack(function, cache, "x", "pool_param")
    (dy, x), dtype = prepare_backward(function, dout, ("x",), x)
    (axis,), count, ceil_mode = pool_axes(function, pool_param, x, 1, "avg")
    check_shape(function, "dout", dy, (*x.shape[:2], axis.outputs))
    geometry = pool_geometry(row_axis(), axis)
    dx = _core.avg_pool_backward(function, dy[:, :, None], x[:, :, None], geometry, ceil_mode, count)
    return result(dx[:, :, 0], dtype)
