"""Activations element by element, and softmax, in plain NumPy.

The cache of each is x, or a tuple of x and the activation's parameter; that of sigmoid, tanh and softmax is a
copy of out. ``dx = dout * f'(x)`` throughout, so each backward gives the derivative. An infinity has the
limit's value: where the formula has infinity times 0 there, x is cut to the largest finite number first.
"""

from __future__ import annotations

import math

import numpy as np

from cnnlib._typing import Array, Cache
from cnnlib.naive.windows import _in_float

__all__ = ["elu_backward_naive", "elu_forward_naive", "gelu_backward_naive", "gelu_forward_naive"]
__all__ += ["hard_sigmoid_backward_naive", "hard_sigmoid_forward_naive", "hard_swish_backward_naive"]
__all__ += ["hard_swish_forward_naive", "relu6_backward_naive", "relu6_forward_naive"]
__all__ += ["sigmoid_backward_naive", "sigmoid_forward_naive", "silu_backward_naive", "silu_forward_naive"]
__all__ += [
    "softmax_backward_naive",
    "softmax_forward_naive",
    "softmax_naive",
    "tanh_backward_naive",
    "tanh_forward_naive",
]


def _finite(x: Array) -> Array:
    limits = np.finfo(x.dtype)
    return np.clip(x, limits.min, limits.max)


def relu6_forward_naive(x: Array) -> tuple[Array, Array]:
    """``out = min(max(x, 0), 6)``."""
    return np.asarray(np.minimum(np.maximum(_in_float(x), 0), 6)), x


def relu6_backward_naive(dout: Array, cache: Array) -> Array:
    """Gradient of :func:`relu6_forward_naive`: the derivative is 1 for 0 < x < 6 and for NaN, else 0."""
    x = _in_float(cache)
    return np.where((x <= 0) | (x >= 6), 0, dout).astype(x.dtype)


def _sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):  # exp(-x) is infinite where out is 0
        return 1 / (1 + np.exp(-x))


def sigmoid_forward_naive(x: Array) -> tuple[Array, Array]:
    """``out = 1 / (1 + exp(-x))``."""
    out = np.asarray(_sigmoid(_in_float(x)))
    return out, out.copy()


def sigmoid_backward_naive(dout: Array, cache: Array) -> Array:
    """Gradient of :func:`sigmoid_forward_naive`: the derivative is ``out * (1 - out)``."""
    out = _in_float(cache)
    return np.asarray(dout * (out * (1 - out)), dtype=out.dtype)


def tanh_forward_naive(x: Array) -> tuple[Array, Array]:
    """``out = (exp(x) - exp(-x)) / (exp(x) + exp(-x))``."""
    out = np.asarray(np.tanh(_in_float(x)))
    return out, out.copy()


def tanh_backward_naive(dout: Array, cache: Array) -> Array:
    """Gradient of :func:`tanh_forward_naive`: the derivative is ``1 - out**2``."""
    out = _in_float(cache)
    return np.asarray(dout * (1 - out**2), dtype=out.dtype)


def silu_forward_naive(x: Array) -> tuple[Array, Array]:
    """``out = x * sigmoid(x)``."""
    array = _in_float(x)
    return np.asarray(np.maximum(array, np.finfo(array.dtype).min) * _sigmoid(array)), x


def silu_backward_naive(dout: Array, cache: Array) -> Array:
    """Gradient of :func:`silu_forward_naive`: the derivative is ``s + x * s * (1 - s)``, s = sigmoid(x)."""
    x = _in_float(cache)
    slope = _sigmoid(x) * (1 + _finite(x) * _sigmoid(-x))
    return np.asarray(dout * slope, dtype=x.dtype)


def hard_sigmoid_forward_naive(x: Array) -> tuple[Array, Array]:
    """``out = min(max(x + 3, 0), 6) / 6``."""
    return np.asarray(np.minimum(np.maximum(_in_float(x) + 3, 0), 6) / 6), x


def hard_sigmoid_backward_naive(dout: Array, cache: Array) -> Array:
    """Gradient of :func:`hard_sigmoid_forward_naive`: the derivative is 1 / 6 for -3 < x < 3, else 0."""
    x = _in_float(cache)
    return np.where((x <= -3) | (x >= 3), 0, np.asarray(dout) / 6).astype(x.dtype)


def hard_swish_forward_naive(x: Array) -> tuple[Array, Array]:
    """``out = x * min(max(x + 3, 0), 6) / 6``."""
    array = _in_float(x)
    return np.asarray(np.maximum(array, -3) * (np.minimum(np.maximum(array + 3, 0), 6) / 6)), x


def hard_swish_backward_naive(dout: Array, cache: Array) -> Array:
    """Gradient of :func:`hard_swish_forward_naive`: the derivative is 0 to -3, (2x + 3) / 6 to 3, then 1."""
    x = _in_float(cache)
    slope = np.where(x <= -3, 0, np.where(x >= 3, 1, (2 * np.clip(x, -3, 3) + 3) / 6))
    return np.where(slope == 0, 0, dout * slope).astype(x.dtype)


def _normal_distribution(x: Array) -> Array:
    """P(x) = erfc(-x / sqrt(2)) / 2, the probability of a standard normal number below x."""
    values = [math.erfc(-v / math.sqrt(2)) / 2 for v in x.ravel().tolist()]
    return np.array(values, dtype=x.dtype).reshape(x.shape)


def _tanh_argument(x: Array) -> tuple[Array, Array]:
    """u = sqrt(2 / pi) * (x + 0.044715 * x**3) and its derivative; from |x| = 32 on tanh(u) is 1."""
    x = np.clip(x, -32, 32)
    factor = math.sqrt(2 / math.pi)
    return factor * (x + 0.044715 * x**3), factor * (1 + 3 * 0.044715 * x**2)


def gelu_forward_naive(x: Array, approximate: str = "none") -> tuple[Array, Cache]:
    """``out = x * P(x)``; with 'tanh', ``P(x) = (1 + tanh(u)) / 2``, see :func:`_tanh_argument`.

    Parameters
    ----------
    x : ndarray, any shape
    approximate : 'none' or 'tanh'

    Returns
    -------
    out : ndarray in the shape of x
    cache : tuple
        ``(x, approximate)``
    """
    array = _in_float(x)
    if approximate == "tanh":
        probability = _sigmoid(2 * _tanh_argument(array)[0])  # = (1 + tanh(u)) / 2
    else:
        probability = _normal_distribution(array)
    out = np.maximum(array, np.finfo(array.dtype).min) * probability
    return np.asarray(out, dtype=array.dtype), (x, approximate)


def gelu_backward_naive(dout: Array, cache: Cache) -> Array:
    """Gradient of :func:`gelu_forward_naive`: the derivative is ``P(x) + x * P'(x)``.

    P'(x) is the normal density ``exp(-x**2 / 2) / sqrt(2 * pi)``; with 'tanh', by the chain rule,
    ``(1 - tanh(u)**2) * u' / 2``.
    """
    x, approximate = cache
    x = _in_float(x)
    inside = np.clip(x, -40, 40)  # beyond, the density is 0
    if approximate == "tanh":
        u, slope = _tanh_argument(x)
        derivative = _sigmoid(2 * u) + inside * (1 - np.tanh(u) ** 2) * slope / 2
    else:
        density = np.exp(-(inside**2) / 2) / math.sqrt(2 * math.pi)
        derivative = _normal_distribution(x) + inside * density
    return np.asarray(dout * derivative, dtype=x.dtype)


def elu_forward_naive(x: Array, alpha: float = 1.0) -> tuple[Array, Cache]:
    """``out = x where x > 0, else alpha * (exp(x) - 1)``. The cache is ``(x, alpha)``."""
    array = _in_float(x)
    out = np.where(array >= 0, array, alpha * np.expm1(np.minimum(array, 0)))
    return out.astype(array.dtype), (x, alpha)


def elu_backward_naive(dout: Array, cache: Cache) -> Array:
    """Gradient of :func:`elu_forward_naive`: dout where x > 0, else dout * alpha * exp(x)."""
    x, alpha = cache
    x = _in_float(x)
    return np.where(x <= 0, dout * (alpha * np.exp(np.minimum(x, 0))), dout).astype(x.dtype)


def softmax_naive(x: Array, axis: int = 1) -> Array:
    """``exp(x)`` divided by its sum along `axis`."""
    x = _in_float(x)
    with np.errstate(invalid="ignore"):  # an infinite score makes all of its sample NaN
        powers = np.exp(x - np.max(x, axis=axis, keepdims=True))  # at most 1, and the same ratios
    return np.asarray(powers / np.sum(powers, axis=axis, keepdims=True))


def softmax_forward_naive(x: Array) -> tuple[Array, Array]:
    """``out[n, c] = exp(x[n, c]) / sum over k of exp(x[n, k])``, at each pixel if x has any."""
    if x.ndim < 2 or 0 in x.shape[1:]:
        raise ValueError(f"softmax_forward_naive: x must be (N, C) or (N, C, H, W), got {x.shape}")
    out = softmax_naive(x)
    return out, out.copy()


def softmax_backward_naive(dout: Array, cache: Array) -> Array:
    """Gradient of :func:`softmax_forward_naive`.

    ``d out[k] / d x[c] = out[k] * ((k == c) - out[c])``, and so dx = out * (dout - sum of dout * out).
    """
    out = _in_float(cache)
    return np.asarray(out * (dout - np.sum(dout * out, axis=1, keepdims=True)), dtype=out.dtype)
