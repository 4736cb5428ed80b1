"""Softmax over the channels. Its gradient is computed from the result, of which the cache holds a copy."""

from __future__ import annotations

from cnnlib import _core
from cnnlib._params.arrays import prepare, prepare_backward, result
from cnnlib._typing import Array, ArrayLike

__all__ = ["softmax_backward", "softmax_forward"]


def _softmax(x):
    """The result alone, of which no copy is kept."""
    (x,), dtype = prepare("softmax_forward", ("x",), x)
    return result(_core.softmax_forward("softmax_forward", x), dtype)


def softmax_forward(x: ArrayLike) -> tuple[Array, ArrayLike]:
    """
    Apply softmax over axis 1: exp(x) divided by the sum of exp(x) over the channels.

    Parameters
    ----------
    x : array, (N, C) or (N, C, H, W)
        Scores; any number of axes may follow the first two.

    Returns
    -------
    out : array of the shape of x
        Positive numbers whose sum over axis 1 is 1. A NaN or plus infinity makes its C values NaN.
    cache : array
        A copy of out, for `softmax_backward`.

    Raises
    ------
    ValueError
        x of one axis, or empty along another than the first.
    TypeError
        An array of an unsupported type.

    Examples
    --------
    >>> out, cache = softmax_forward(np.log([[1.0, 2.0, 5.0]]))
    >>> out
    array([[0.125, 0.25 , 0.625]])
    >>> softmax_backward(np.array([[0.0, 0.0, 1.0]]), cache).round(4)
    array([[-0.0781, -0.1562,  0.2344]])
    """
    (array,), dtype = prepare("softmax_forward", ("x",), x)
    out, copy = _core.softmax_forward_with_copy("softmax_forward", array)
    return result(out, dtype), result(copy, dtype)


def softmax_backward(dout: ArrayLike, cache: ArrayLike) -> Array:
    """
    Gradient of `softmax_forward`: out * (dout - s), s the sum of dout * out over axis 1.

    Parameters
    ----------
    dout : array of the shape of x
    cache : array
        The copy of out.

    Returns
    -------
    dx : array of the shape of x

    Raises
    ------
    ValueError, TypeError
        `dout` of another shape than x, or of an unsupported type.
    """
    (dy, out), dtype = prepare_backward("softmax_backward", dout, ("out",), cache)
    return result(_core.softmax_backward("softmax_backward", dy, out), dtype)
