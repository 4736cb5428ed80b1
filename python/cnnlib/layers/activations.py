"""
Activations beside those of `cnnlib.layers.dense`, element by element, and softmax.

Gradients are computed from x; those of sigmoid and tanh from the result, which saves an exponential. The
result is the caller's to change, so that their caches hold a copy of it. NaN stays NaN; an infinity has
the limit's value and gradient.
"""

from __future__ import annotations

import math

import numpy as np

from cnnlib import _core
from cnnlib._params import choice, integer, number
from cnnlib._params.arrays import prepare, prepare_backward, result, unpack
from cnnlib._typing import Array, ArrayLike, Cache

__all__ = ["elu_backward", "elu_forward", "gelu_backward", "gelu_forward", "hard_sigmoid_backward"]
__all__ += ["hard_sigmoid_forward", "hard_swish_backward", "hard_swish_forward", "relu6_backward"]
__all__ += ["relu6_forward", "sigmoid_backward", "sigmoid_forward", "silu_backward", "silu_forward"]
__all__ += ["softmax", "softmax_backward", "softmax_forward", "tanh_backward", "tanh_forward"]

_GELUS = {"none": "gelu", "tanh": "gelu_tanh"}


def _forward(function, name, x, alpha=0.0):
    (x,), dtype = prepare(function, ("x",), x)
    return result(_core.activation_forward(function, x, name, alpha)[0], dtype)


def _backward(function, name, dout, kept, alpha=0.0, names=("x",)):
    """The gradient by what the forward pass kept: x, or with `names` ("out",) the result."""
    (dout, kept), dtype = prepare_backward(function, dout, names, kept)
    return result(_core.activation_backward(function, dout, kept, name, alpha), dtype)


def _forward_with_copy(function, name, x):
    (x,), dtype = prepare(function, ("x",), x)
    out, copy = _core.activation_forward(function, x, name, 0.0)
    return result(out, dtype), result(copy, dtype)


def relu6_forward(x: ArrayLike) -> tuple[Array, ArrayLike]:
    """
    Apply ReLU6: min(max(x, 0), 6) of each element [1]_.

    Parameters
    ----------
    x : array of any shape

    Returns
    -------
    out : array of the shape of x
    cache : array
        x, for `relu6_backward`.

    Raises
    ------
    TypeError
        An array of an unsupported type.

    References
    ----------
    .. [1] A. Krizhevsky, "Convolutional Deep Belief Networks on CIFAR-10", 2010.

    Examples
    --------
    >>> out, cache = relu6_forward(np.array([-1.0, 2.0, 7.0]))
    >>> out, relu6_backward(np.ones(3), cache).round(3)
    (array([0., 2., 6.]), array([0., 1., 0.]))
    """
    return _forward("relu6_forward", "relu6", x), x


def relu6_backward(dout: ArrayLike, cache: ArrayLike) -> Array:
    """
    Gradient of `relu6_forward`: 0 where x <= 0 or x >= 6, else dout.

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
    return _backward("relu6_backward", "relu6", dout, cache)


def sigmoid_forward(x: ArrayLike) -> tuple[Array, ArrayLike]:
    """
    Apply the logistic function 1 / (1 + exp(-x)) to each element; values lie in (0, 1).

    Parameters
    ----------
    x : array of any shape

    Returns
    -------
    out : array of the shape of x
    cache : array
        A copy of out, for `sigmoid_backward`.

    Raises
    ------
    TypeError
        An array of an unsupported type.

    Examples
    --------
    >>> out, cache = sigmoid_forward(np.array([-1.0, 0.0, 1.0]))
    >>> out.round(3), sigmoid_backward(np.ones(3), cache).round(3)
    (array([0.269, 0.5  , 0.731]), array([0.197, 0.25 , 0.197]))
    """
    return _forward_with_copy("sigmoid_forward", "sigmoid", x)


def sigmoid_backward(dout: ArrayLike, cache: ArrayLike) -> Array:
    """
    Gradient of `sigmoid_forward`: dout * out * (1 - out).

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
    return _backward("sigmoid_backward", "sigmoid", dout, cache, names=("out",))


def tanh_forward(x: ArrayLike) -> tuple[Array, ArrayLike]:
    """
    Take the hyperbolic tangent of each element; values lie in (-1, 1).

    Parameters
    ----------
    x : array of any shape

    Returns
    -------
    out : array of the shape of x
    cache : array
        A copy of out, for `tanh_backward`.

    Raises
    ------
    TypeError
        An array of an unsupported type.

    Examples
    --------
    >>> out, cache = tanh_forward(np.array([-1.0, 0.0, 1.0]))
    >>> out.round(3), tanh_backward(np.ones(3), cache).round(3)
    (array([-0.762,  0.   ,  0.762]), array([0.42, 1.  , 0.42]))
    """
    return _forward_with_copy("tanh_forward", "tanh", x)


def tanh_backward(dout: ArrayLike, cache: ArrayLike) -> Array:
    """
    Gradient of `tanh_forward`: dout * (1 - out**2).

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
    return _backward("tanh_backward", "tanh", dout, cache, names=("out",))


def silu_forward(x: ArrayLike) -> tuple[Array, ArrayLike]:
    """
    Apply SiLU (swish), x * sigmoid(x), to each element [1]_; it is 0 at minus infinity.

    Parameters
    ----------
    x : array of any shape

    Returns
    -------
    out : array of the shape of x
    cache : array
        x, for `silu_backward`.

    Raises
    ------
    TypeError
        An array of an unsupported type.

    References
    ----------
    .. [1] S. Elfwing, E. Uchibe and K. Doya, "Sigmoid-Weighted Linear Units for Neural Network Function
       Approximation in Reinforcement Learning", 2018.

    Examples
    --------
    >>> out, cache = silu_forward(np.array([-1.0, 0.0, 1.0]))
    >>> out.round(3), silu_backward(np.ones(3), cache).round(3)
    (array([-0.269,  0.   ,  0.731]), array([0.072, 0.5  , 0.928]))
    """
    return _forward("silu_forward", "silu", x), x


def silu_backward(dout: ArrayLike, cache: ArrayLike) -> Array:
    """
    Gradient of `silu_forward`: dout * s * (1 + x * (1 - s)) with s = sigmoid(x).

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
    return _backward("silu_backward", "silu", dout, cache)


def hard_sigmoid_forward(x: ArrayLike) -> tuple[Array, ArrayLike]:
    """
    Apply the piecewise linear sigmoid min(max(x + 3, 0), 6) / 6 to each element [1]_.

    Parameters
    ----------
    x : array of any shape

    Returns
    -------
    out : array of the shape of x
    cache : array
        x, for `hard_sigmoid_backward`.

    Raises
    ------
    TypeError
        An array of an unsupported type.

    References
    ----------
    .. [1] A. Howard et al., "Searching for MobileNetV3", 2019.

    Examples
    --------
    >>> out, cache = hard_sigmoid_forward(np.array([-4.0, 0.0, 1.5]))
    >>> out, hard_sigmoid_backward(np.ones(3), cache).round(3)
    (array([0.  , 0.5 , 0.75]), array([0.   , 0.167, 0.167]))
    """
    return _forward("hard_sigmoid_forward", "hard_sigmoid", x), x


def hard_sigmoid_backward(dout: ArrayLike, cache: ArrayLike) -> Array:
    """
    Gradient of `hard_sigmoid_forward`: dout / 6 where -3 < x < 3, else 0.

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
    return _backward("hard_sigmoid_backward", "hard_sigmoid", dout, cache)


def hard_swish_forward(x: ArrayLike) -> tuple[Array, ArrayLike]:
    """
    Apply hard swish, x * min(max(x + 3, 0), 6) / 6, to each element [1]_.

    Parameters
    ----------
    x : array of any shape

    Returns
    -------
    out : array of the shape of x
    cache : array
        x, for `hard_swish_backward`.

    Raises
    ------
    TypeError
        An array of an unsupported type.

    References
    ----------
    .. [1] A. Howard et al., "Searching for MobileNetV3", 2019.

    Examples
    --------
    >>> out, cache = hard_swish_forward(np.array([-1.5, 1.5, 4.0]))
    >>> out, hard_swish_backward(np.ones(3), cache).round(3)
    (array([-0.375,  1.125,  4.   ]), array([0., 1., 1.]))
    """
    return _forward("hard_swish_forward", "hard_swish", x), x


def hard_swish_backward(dout: ArrayLike, cache: ArrayLike) -> Array:
    """
    Gradient of `hard_swish_forward`: 0 where x <= -3, dout where x >= 3, else dout * (2 * x + 3) / 6.

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
    return _backward("hard_swish_backward", "hard_swish", dout, cache)


def gelu_forward(x: ArrayLike, approximate: str = "none") -> tuple[Array, Cache]:
    """
    Apply the Gaussian error linear unit [1]_: x * P(x), with P the normal distribution function.

    P(x) = (1 + erf(x / sqrt(2))) / 2; out is 0 at minus infinity.

    Parameters
    ----------
    x : array of any shape
    approximate : 'none' or 'tanh'
        With 'tanh' P(x) is taken as (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2.

    Returns
    -------
    out : array of the shape of x
    cache : tuple
        (x, approximate), for `gelu_backward`.

    Raises
    ------
    ValueError, TypeError
        An array of an unsupported type, an unknown approximation.

    References
    ----------
    .. [1] D. Hendrycks and K. Gimpel, "Gaussian Error Linear Units (GELUs)", 2016.

    Examples
    --------
    >>> out, cache = gelu_forward(np.array([-1.0, 0.0, 1.0]))
    >>> out.round(3), gelu_backward(np.ones(3), cache).round(3)
    (array([-0.159,  0.   ,  0.841]), array([-0.083,  0.5  ,  1.083]))
    """
    function = "gelu_forward"
    name = _GELUS[choice(function, "approximate", approximate, _GELUS)]
    return _forward(function, name, x), (x, approximate)


def gelu_backward(dout: ArrayLike, cache: Cache) -> Array:
    """
    Gradient of `gelu_forward`: dout * (P(x) + x * P'(x)).

    Parameters
    ----------
    dout : array of the shape of x
    cache : tuple
        (x, approximate).

    Returns
    -------
    dx : array of the shape of x

    Raises
    ------
    ValueError, TypeError
        `dout` of another shape than x, or of an unsupported type.
    """
    function = "gelu_backward"
    x, approximate = unpack(function, cache, "x", "approximate")
    name = _GELUS[choice(function, "approximate in cache", approximate, _GELUS)]
    return _backward(function, name, dout, x)


def elu_forward(x: ArrayLike, alpha: float = 1.0) -> tuple[Array, Cache]:
    """
    Apply the exponential linear unit [1]_: x where x > 0, else alpha * (exp(x) - 1).

    Parameters
    ----------
    x : array of any shape
    alpha : float
        The output tends to -alpha at minus infinity.

    Returns
    -------
    out : array of the shape of x
    cache : tuple
        (x, alpha), for `elu_backward`.

    Raises
    ------
    ValueError
        An alpha that is not finite.

    References
    ----------
    .. [1] D.-A. Clevert, T. Unterthiner and S. Hochreiter, "Fast and Accurate Deep Network Learning by
       Exponential Linear Units (ELUs)", 2016.

    Examples
    --------
    >>> out, cache = elu_forward(np.array([-1.0, 0.0, 1.0]))
    >>> out.round(3), elu_backward(np.ones(3), cache).round(3)
    (array([-0.632,  0.   ,  1.   ]), array([0.368, 1.   , 1.   ]))
    """
    alpha = number("elu_forward", "alpha", alpha)
    return _forward("elu_forward", "elu", x, alpha), (x, alpha)


def elu_backward(dout: ArrayLike, cache: Cache) -> Array:
    """
    Gradient of `elu_forward`: dout where x > 0, else dout * alpha * exp(x).

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
    function = "elu_backward"
    x, alpha = unpack(function, cache, "x", "alpha")
    return _backward(function, "elu", dout, x, number(function, "alpha in cache", alpha))


def softmax(x: ArrayLike, axis: int = 1) -> Array:
    """
    Make probabilities of scores: exp(x) divided by the sum of exp(x) along an axis.

    `softmax_forward` is the same as a layer, over axis 1.

    Parameters
    ----------
    x : array
        Scores of any shape.
    axis : int
        Where the classes lie; below 0 it counts from the last one.

    Returns
    -------
    probabilities : array of the shape of x
        Positive numbers whose sum along `axis` is 1. A NaN or plus infinity makes its classes' values NaN.

    Raises
    ------
    ValueError
        An axis that x does not have, or along which x is empty.
    TypeError
        x that is no array of numbers, or an axis that is no integer.

    Examples
    --------
    >>> softmax(np.log([[1.0, 2.0, 5.0]]))
    array([[0.125, 0.25 , 0.625]])
    >>> softmax([[0, 1], [0, 1]], axis=0)
    array([[0.5, 0.5],
           [0.5, 0.5]])
    """
    (array,), dtype = prepare("softmax", ("x",), x)
    shape, axis = array.shape, integer("softmax", "axis", axis)
    if not -array.ndim <= axis < array.ndim or shape[axis] == 0:
        raise ValueError(f"softmax: axis must be one of x that is not empty, got axis {axis}, shape {shape}")
    if array.size == 0:
        return np.empty(shape, dtype)
    axis %= array.ndim
    # The kernel takes axis 1.
    by_class = array.reshape(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))
    return result(_core.softmax_forward("softmax", by_class)[0].reshape(shape), dtype)


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

    Examples
    --------
    >>> out, cache = softmax_forward(np.log([[1.0, 2.0, 5.0]]))
    >>> out
    array([[0.125, 0.25 , 0.625]])
    >>> softmax_backward(np.array([[0.0, 0.0, 1.0]]), cache).round(4)
    array([[-0.0781, -0.1562,  0.2344]])
    """
    (array,), dtype = prepare("softmax_forward", ("x",), x)
    out, copy = _core.softmax_forward("softmax_forward", array, True)
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
