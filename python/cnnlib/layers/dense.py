"""Affine layer, activations and dropout."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from cnnlib import _core
from cnnlib._arrays import prepare, prepare_backward, result
from cnnlib._params import check_keys, choice, integer, number, wanted
from cnnlib.layers.caches import unpack

_GRADIENTS = ("dx", "dw", "db")


def _rows(x):
    """x as a matrix with a row for each sample."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:])) if x.ndim else x


def affine_forward(x, w, b):
    """
    Multiply each sample's values, taken as one row, by a matrix and add a bias.

    Parameters
    ----------
    x : array, (N, d1, ..., dk)
        Samples of D = d1 * ... * dk values.
    w : array, (D, M)
        Weights.
    b : array, (M,), or None
        Biases.

    Returns
    -------
    out : array, (N, M)
    cache : tuple
        (x, w, b), for `affine_backward`.

    Raises
    ------
    ValueError
        Shapes that do not fit.
    TypeError
        Arrays of an unsupported type.
    """
    return _affine("affine_forward", x, w, b), (x, w, b)


def _affine(function, x, w, b, relu=False):
    (x, w, b), dtype = prepare(function, ("x", "w", "b"), x, w, b)
    return result(_core.affine_forward(function, _rows(x), w, b, relu), dtype)


def affine_backward(dout, cache, *, needs=None):
    """
    Gradients of `affine_forward`.

    Parameters
    ----------
    dout : array, (N, M)
        Gradient of the loss with respect to the output.
    cache : tuple
        (x, w, b).
    needs : tuple of 'dx', 'dw', 'db', optional
        The gradients wanted, all by default; the others come back as None and cost nothing.

    Returns
    -------
    dx, dw, db : arrays of the shapes of x, w and b
        `db` is None where b was.

    Raises
    ------
    ValueError, TypeError
        As in `affine_forward`, or `dout` of another shape than the output.
    """
    return _affine_backward("affine_backward", dout, cache, needs)


def _affine_backward(function, dout, cache, needs):
    x, w, b = unpack(function, cache, "x", "w", "b")
    need_dx, need_dw, need_db = wanted(function, needs, _GRADIENTS)
    (dout, x, w, b), dtype = prepare_backward(function, dout, ("x", "w", "b"), x, w, b)
    dx, dw, db = _core.affine_backward(
        function, dout, _rows(x), w, need_dx, need_dw, need_db and b is not None
    )
    return result(dx if dx is None else dx.reshape(x.shape), dtype), result(dw, dtype), result(db, dtype)


def relu_forward(x):
    """
    Rectify: max(x, 0) of each element; NaN stays NaN.

    Parameters
    ----------
    x : array of any shape

    Returns
    -------
    out : array of the shape of x
    cache : array
        x, for `relu_backward`.

    Raises
    ------
    TypeError
        An array of an unsupported type.
    """
    cache = x
    (x,), dtype = prepare("relu_forward", ("x",), x)
    return result(_core.relu_forward(x), dtype), cache


def relu_backward(dout, cache):
    """
    Gradient of `relu_forward`: 0 where x <= 0, else dout.

    Parameters
    ----------
    dout : array of the shape of x
    cache : array
        x.

    Returns
    -------
    dx : array of the shape of x

    Raises
    ------
    ValueError, TypeError
        `dout` of another shape than x, or of an unsupported type.
    """
    return _relu_backward("relu_backward", dout, cache)


def _relu_backward(function, dout, x):
    (dout, x), dtype = prepare_backward(function, dout, ("x",), x)
    return result(_core.relu_backward(function, dout, x), dtype)


def leaky_relu_forward(x, alpha=0.01):
    """
    Leaky rectifier: x where x > 0, else alpha * x.

    Parameters
    ----------
    x : array of any shape
    alpha : float
        Slope of the negative side.

    Returns
    -------
    out : array of the shape of x
    cache : tuple
        (x, alpha), for `leaky_relu_backward`.

    Raises
    ------
    ValueError, TypeError
        An array or slope of an unsupported type, a slope that is not finite.
    """
    alpha = number("leaky_relu_forward", "alpha", alpha)
    cache = (x, alpha)
    (x,), dtype = prepare("leaky_relu_forward", ("x",), x)
    return result(_core.leaky_relu_forward(x, alpha), dtype), cache


def leaky_relu_backward(dout, cache):
    """
    Gradient of `leaky_relu_forward`: dout where x > 0, else alpha * dout.

    Parameters
    ----------
    dout : array of the shape of x
    cache : tuple
        (x, alpha).

    Returns
    -------
    dx : array of the shape of x

    Raises
    ------
    ValueError, TypeError
        `dout` of another shape than x, or of an unsupported type.
    """
    function = "leaky_relu_backward"
    x, alpha = unpack(function, cache, "x", "alpha")
    alpha = number(function, "alpha in cache", alpha)
    (dout, x), dtype = prepare_backward(function, dout, ("x",), x)
    return result(_core.leaky_relu_backward(dout, x, alpha), dtype)


def dropout_forward(x, dropout_param):
    """
    Zero each element with probability p and divide the others by 1 - p (inverted dropout [1]_).

    Parameters
    ----------
    x : array of any shape
    dropout_param : dict
        `p`: the probability to drop, in [0, 1], required. `mode`: 'train' or 'test', required; in
        'test' nothing is dropped. `seed`: the mask is then that of
        `np.random.RandomState(seed).rand(*x.shape) < 1 - p`; without it `np.random.rand` draws it.

    Returns
    -------
    out : array of the shape of x
    cache : tuple
        (dropout_param, mask), the mask already divided by 1 - p, or None in 'test' mode.

    Raises
    ------
    KeyError
        No `p` or `mode`.
    ValueError
        Values out of range, unknown keys.
    TypeError
        Arrays or parameters of an unsupported type.

    References
    ----------
    .. [1] N. Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", 2014.
    """
    function = "dropout_forward"
    (x,), dtype = prepare(function, ("x",), x)
    check_keys(function, "dropout_param", dropout_param, ("p", "mode", "seed"), required=("p", "mode"))
    keep = 1 - number(function, "p", dropout_param["p"], 0, 1)
    if choice(function, "mode", dropout_param["mode"], ("train", "test")) == "test":
        return result(x.copy(), dtype), (dropout_param, None)
    draw = np.random
    if dropout_param.get("seed") is not None:
        seed = integer(function, "seed", dropout_param["seed"], 2**32)
        if seed < 0:
            raise ValueError(f"{function}: seed must be at least 0, got {seed}")
        draw = np.random.RandomState(seed)
    mask = np.asarray(draw.rand(*x.shape) < keep).astype(x.dtype)
    if keep > 0:
        mask /= x.dtype.type(keep)
    return result(_core.multiply(function, x, mask), dtype), (dropout_param, result(mask, dtype))


def dropout_backward(dout, cache):
    """
    Gradient of `dropout_forward`: dout times the mask.

    Parameters
    ----------
    dout : array of the shape of x
    cache : tuple
        (dropout_param, mask).

    Returns
    -------
    dx : array of the shape of x

    Raises
    ------
    ValueError, TypeError
        `dout` of another shape than x, or of an unsupported type.
    """
    function = "dropout_backward"
    dropout_param, mask = unpack(function, cache, "dropout_param", "mask")
    if not isinstance(dropout_param, Mapping):
        kind = type(dropout_param).__name__
        raise TypeError(f"{function}: dropout_param in cache must be a dict, got {kind}")
    if mask is None:
        (dout,), dtype = prepare(function, ("dout",), dout)
        return result(dout.copy(), dtype)
    (dout, mask), dtype = prepare_backward(function, dout, ("mask",), mask)
    if dout.shape != mask.shape:
        raise ValueError(f"{function}: dout must have shape {mask.shape}, got {dout.shape}")
    return result(_core.multiply(function, dout, mask), dtype)
