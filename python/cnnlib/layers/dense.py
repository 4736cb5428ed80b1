"""Affine layer, activations and dropout."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from cnnlib import _core
from cnnlib._params import check_keys, choice, number, wanted
from cnnlib._params.arrays import prepare, prepare_backward, result, unpack
from cnnlib._params.random import random_stream
from cnnlib._typing import Array, ArrayLike, Cache, Needs, Wanted
from cnnlib.layers import activations
from cnnlib.typing import DropoutParam

__all__ = ["affine_backward", "affine_forward", "dropout_backward", "dropout_forward", "leaky_relu_backward"]
__all__ += ["leaky_relu_forward", "relu_backward", "relu_forward"]

_GRADIENTS = ("dx", "dw", "db")
_BYTE = np.dtype(np.uint8)


def _rows(x):
    """x as a matrix with a row for each sample."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:])) if x.ndim not in (0, 2) else x


def affine_forward(x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None) -> tuple[Array, Cache]:
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

    Examples
    --------
    >>> x, w = np.array([[1.0, 2.0]]), np.array([[1.0, 0.0, 3.0], [0.0, 1.0, 4.0]])
    >>> out, cache = affine_forward(x, w, np.array([10.0, 20.0, 30.0]))
    >>> out
    array([[11., 22., 41.]])
    >>> dx, dw, db = affine_backward(np.ones((1, 3)), cache)
    >>> dx, dw.shape
    (array([[4., 5.]]), (2, 3))
    """
    return _affine("affine_forward", x, w, b), (x, w, b)


def _as_it_lies(w):
    """Avoid a copy of a Fortran-ordered w: (w.T, True); else (w, False)."""
    transposed = (
        isinstance(w, np.ndarray) and w.ndim == 2 and w.flags.f_contiguous and not w.flags.c_contiguous
    )
    return (w.T, True) if transposed else (w, False)


def _affine(function, x, w, b, relu=False):
    w, transposed = _as_it_lies(w)
    (x, w, b), dtype = prepare(function, ("x", "w", "b"), x, w, b)
    return result(_core.affine_forward(function, _rows(x), w, b, relu, transposed), dtype)


def affine_backward(dout: ArrayLike, cache: Cache, *, needs: Needs = None) -> tuple[Wanted, Wanted, Wanted]:
    """
    Gradients of `affine_forward`.

    Parameters
    ----------
    dout : array, (N, M)
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
    w, transposed = _as_it_lies(w)
    (dout, x, w, b), dtype = prepare_backward(function, dout, ("x", "w", "b"), x, w, b)
    need = need_dx, need_dw, need_db and b is not None
    dx, dw, db = _core.affine_backward(function, dout, _rows(x), w, need, transposed)
    dx = dx if dx is None or x.ndim == 2 else dx.reshape(x.shape)
    return result(dx, dtype), result(dw, dtype), result(db, dtype)


def relu_forward(x: ArrayLike) -> tuple[Array, ArrayLike]:
    """
    Apply ReLU: max(x, 0) of each element; NaN stays NaN.

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

    Examples
    --------
    >>> out, cache = relu_forward(np.array([-1.0, 0.0, 2.0]))
    >>> out, relu_backward(np.array([5.0, 5.0, 5.0]), cache)
    (array([0., 0., 2.]), array([0., 0., 5.]))
    """
    (array,), dtype = prepare("relu_forward", ("x",), x)
    return result(_core.relu_forward(array), dtype), x


def relu_backward(dout: ArrayLike, cache: ArrayLike) -> Array:
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


def _relu_mask(function, out):
    """
    What a sandwich's backward pass needs of `out`, its result, which the caller may change: the shape, and
    a bit for each element, set where it is positive or NaN (in the order of np.packbits, "little").
    """
    return out.shape, _core.relu_mask(function, out)


def _relu_backward_by_mask(function, dout, mask):
    """The gradient of a ReLU with this mask, in the dtype that dout is computed in."""
    shape, bits = unpack(function, mask, "shape", "bits")
    if not (isinstance(bits, np.ndarray) and bits.dtype == _BYTE and bits.flags.c_contiguous):
        kind = f"one of {bits.dtype}" if isinstance(bits, np.ndarray) else type(bits).__name__
        raise TypeError(f"{function}: ReLU's mask in cache must be a contiguous array of uint8, got {kind}")
    (dout,), _ = prepare(function, ("dout",), dout)
    if dout.shape != shape:
        raise ValueError(f"{function}: dout must have shape {shape}, got {dout.shape}")
    return _core.relu_backward_by_mask(function, dout, bits)


def leaky_relu_forward(x: ArrayLike, alpha: float = 0.01) -> tuple[Array, Cache]:
    """
    Apply the leaky rectifier: x where x > 0, else alpha * x.

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
    ValueError
        A slope that is not finite.

    Examples
    --------
    >>> out, cache = leaky_relu_forward(np.array([-1.0, 0.0, 2.0]), alpha=0.1)
    >>> out, leaky_relu_backward(np.array([5.0, 5.0, 5.0]), cache)
    (array([-0.1,  0. ,  2. ]), array([0.5, 0.5, 5. ]))
    """
    alpha = number("leaky_relu_forward", "alpha", alpha)
    return activations._forward("leaky_relu_forward", "leaky_relu", x, alpha), (x, alpha)


def leaky_relu_backward(dout: ArrayLike, cache: Cache) -> Array:
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
    return activations._backward(function, "leaky_relu", dout, x, number(function, "alpha in cache", alpha))


def dropout_forward(x: ArrayLike, dropout_param: DropoutParam) -> tuple[Array, Cache]:
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

    Examples
    --------
    >>> out, cache = dropout_forward(np.ones(6), {"p": 0.5, "mode": "train", "seed": 0})
    >>> out
    array([0., 0., 0., 0., 2., 0.])
    >>> dropout_backward(np.ones(6), cache)
    array([0., 0., 0., 0., 2., 0.])
    >>> dropout_forward(np.ones(6), {"p": 0.5, "mode": "test"})[0]
    array([1., 1., 1., 1., 1., 1.])
    """
    function = "dropout_forward"
    (array,), dtype = prepare(function, ("x",), x)
    mask = dropout_mask(dropout_param, array.shape, array.dtype)
    if mask is None:
        return result(array.copy(), dtype), (dropout_param, None)
    return result(_core.multiply(function, array, mask), dtype), (dropout_param, result(mask, dtype))


def dropout_mask(dropout_param, shape, dtype, function="dropout_forward"):
    """What to multiply values by, 0 or 1 / (1 - p); None in 'test' mode. Messages begin with `function`."""
    check_keys(function, "dropout_param", dropout_param, ("p", "mode", "seed"), required=("p", "mode"))
    keep = 1 - number(function, "p", dropout_param["p"], 0, 1)
    if choice(function, "mode", dropout_param["mode"], ("train", "test")) == "test":
        return None
    random = random_stream(dropout_param.get("seed"), function)
    mask = np.asarray(random.rand(*shape) < keep).astype(dtype)
    if keep > 0:
        mask /= dtype.type(keep)
    return mask


def dropout_backward(dout: ArrayLike, cache: Cache) -> Array:
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
        (dy,), dtype = prepare(function, ("dout",), dout)
        return result(dy.copy(), dtype)
    (dy, mask), dtype = prepare_backward(function, dout, ("mask",), mask)
    if dy.shape != mask.shape:
        raise ValueError(f"{function}: dout must have shape {mask.shape}, got {dy.shape}")
    return result(_core.multiply(function, dy, mask), dtype)
